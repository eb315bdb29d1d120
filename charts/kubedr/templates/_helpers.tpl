{{/* Labels of every object of a component: (dict "root" $ "component" "operator"). */}}
{{- define "kubedr.labels" -}}
app.kubernetes.io/name: kubedr
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end }}

{{/* Labels by which the Deployment and the Service find the operator's pods. They can never change. */}}
{{- define "kubedr.operatorSelector" -}}
app.kubernetes.io/name: kubedr
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Reference of an image: (dict "root" $ "image" .Values.image.operator). */}}
{{- define "kubedr.image" -}}
{{- $registry := .root.Values.image.registry | trimSuffix "/" -}}
{{- if not $registry -}}
{{- fail "image.registry is not set, and KubeDR has no public registry: run `make images push IMAGE_REGISTRY=registry.example.com/kubedr` with your own, then install with `--set image.registry=registry.example.com/kubedr`" -}}
{{- end -}}
{{- if .image.digest -}}
{{ $registry }}/{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ $registry }}/{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What a container gets that needs nothing from the node. */}}
{{- define "kubedr.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What a pod gets that needs nothing from the node. */}}
{{- define "kubedr.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What makes an object part of the hook that runs before an uninstall: its weight, lowest first. */}}
{{- define "kubedr.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
