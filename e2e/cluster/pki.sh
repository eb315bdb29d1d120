#!/bin/bash
# pki.sh: keys and certificates in kubeadm's layout under $STATE/pki, and kubeconfigs. What is there, such as what came back
# from a backup, is kept; kubeconfigs are made anew for it.
set -Eeuo pipefail
. "$(dirname "$0")/lib.sh"
# openssl reports its successes on stderr, too
exec 3>&2 2> "$STATE/log/pki.log"; trap 'echo "making keys and certificates failed:" >&3; tail -n 5 "$STATE/log/pki.log" >&3' ERR
P=$STATE/pki; mkdir -p "$P/etcd"; chmod 755 "$P" "$P/etcd"; cd "$P"
t=$(mktemp -d "$STATE/kubeconfig.XXXXXX"); trap 'rm -rf "$t"' EXIT
key() { (umask 077; openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"); }
ca() { # FILE CN
  [ ! -e "$1.crt" ] || return 0
  key "$1"
  openssl req -x509 -new -key "$1.key" -out "$1.crt" -days 3650 -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
}
cert() { # FILE CA SUBJECT USAGE [SAN]
  [ ! -e "$1.crt" ] || return 0
  key "$1"
  openssl req -new -key "$1.key" -subj "$3" |
  openssl x509 -req -CA "$2.crt" -CAkey "$2.key" -set_serial "0x0$(openssl rand -hex 8)" -days 3650 -out "$1.crt" -extfile <(
    echo "basicConstraints=critical,CA:FALSE"; echo "keyUsage=critical,digitalSignature,keyEncipherment"
    echo "extendedKeyUsage=$4"; [ -z "${5-}" ] || echo "subjectAltName=$5")
}
ca ca kubernetes; ca etcd/ca etcd-ca; ca front-proxy-ca front-proxy-ca
san="DNS:localhost,DNS:$NODE,IP:127.0.0.1,IP:::1,IP:$NODE_IP"
cert etcd/server etcd/ca "/CN=$NODE" serverAuth,clientAuth "$san"
cert etcd/peer etcd/ca "/CN=$NODE" serverAuth,clientAuth "$san"
cert etcd/healthcheck-client etcd/ca "/O=system:masters/CN=kube-etcd-healthcheck-client" clientAuth
cert apiserver-etcd-client etcd/ca "/O=system:masters/CN=kube-apiserver-etcd-client" clientAuth
cert apiserver ca /CN=kube-apiserver serverAuth "$san,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$SVC_IP"
cert apiserver-kubelet-client ca "/O=system:masters/CN=kube-apiserver-kubelet-client" clientAuth
cert front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
[ -e sa.key ] || (umask 077; openssl genrsa -out sa.key 2048)
openssl rsa -in sa.key -pubout -out sa.pub
kubeconfig() { # NAME SUBJECT
  cert "$t/$1" ca "$2" clientAuth
  (umask 077; cat > "$STATE/$1.conf") <<K
apiVersion: v1
kind: Config
clusters: [{name: $ID, cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $ID-$1, user: {client-certificate-data: $(base64 -w0 "$t/$1.crt"), client-key-data: $(base64 -w0 "$t/$1.key")}}]
contexts: [{name: $ID, context: {cluster: $ID, user: $ID-$1}}]
current-context: $ID
K
}
kubeconfig admin "/O=system:masters/CN=kubernetes-admin"
kubeconfig controller-manager /CN=system:kube-controller-manager
kubeconfig scheduler /CN=system:kube-scheduler
kubeconfig kubelet "/O=system:nodes/CN=system:node:$NODE"
kubeconfig proxy /CN=system:kube-proxy
