//! What the chart renders, and what it refuses, as helm sees it.
#![allow(clippy::panic, reason = "a panic is the failure report of a test")]

#[path = "chart/monitoring.rs"]
mod monitoring;

use std::path::{Path, PathBuf};
use std::process::Output;

use kubedr_testing::{command, run};
use serde_json::{Value, json};

const REGISTRY: &str = "image.registry=registry.example.com/kubedr";
const KINDS: [&str; 4] =
    ["BackupLocation", "MetadataBackupPolicy", "MetadataBackupRecord", "MetadataRestore"];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/kubedr")
}

/// `helm template` with values given as `--set` takes them.
fn helm_template(values: &[&str]) -> Output {
    let mut helm = command("helm");
    // Offline, helm has to be told which Kubernetes it renders for.
    helm.args(["template", "kubedr", "--namespace", "backup", "--kube-version", "1.34"]).arg(chart());
    for value in values {
        helm.args(["--set-json", value]);
    }
    run(&mut helm)
}

fn refusal(values: &[&str]) -> String {
    let output = helm_template(values);
    assert!(!output.status.success(), "helm took {values:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All objects of the release with these values beside the registry.
fn objects(values: &[&str]) -> Vec<Value> {
    let registry = "image.registry=\"registry.example.com/kubedr\"";
    let output = helm_template(&[&[registry], values].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let yaml = text(&output.stdout);
    let parse = |document: &str| serde_norway::from_str::<Value>(document).expect("helm renders YAML");
    yaml.split("\n---").map(parse).filter(|object| !object.is_null()).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} `{name}`"))
}

/// The settings that the operator reads.
fn job_settings(objects: &[Value]) -> Value {
    let map = object(objects, "ConfigMap", "kubedr-job-settings");
    serde_json::from_str(map["data"]["job.json"].as_str().expect("a file")).expect("JSON")
}

fn deployment(objects: &[Value]) -> &Value {
    object(objects, "Deployment", "kubedr-operator")
}

#[test]
fn without_a_registry_the_message_says_how_to_fill_one() {
    assert!(refusal(&[]).contains("make images push IMAGE_REGISTRY="));
}

#[test]
fn a_value_that_the_chart_does_not_know_is_refused_at_every_level() {
    for unknown in [
        "imagee=1",
        "image.tag=\"1\"",
        "operator.replica=2",
        "job.resource={}",
        "proxy.http=\"x\"",
        "crds.keep=true",
    ] {
        let name = unknown.split('=').next().unwrap().rsplit('.').next().unwrap();
        assert!(refusal(&[unknown]).contains(&format!("'{name}' not allowed")), "{unknown}");
    }
}

#[test]
fn a_value_of_the_wrong_shape_is_refused() {
    for wrong in [
        "operator.replicas=-1",
        "operator.logLevel=\"loud\"",
        "image.operator.digest=\"sha256:12\"",
        "job.addCapabilities=[\"net admin\"]",
    ] {
        assert!(refusal(&[wrong]).contains(&wrong.split('=').next().unwrap().replace('.', "/")), "{wrong}");
    }
}

#[test]
fn images_are_named_by_the_version_of_the_chart_by_a_tag_or_by_a_digest() {
    let version = env!("CARGO_PKG_VERSION");
    let digest = format!("sha256:{}", "0a".repeat(32));
    let image =
        |objects: &[Value]| deployment(objects)["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let plain = objects(&[]);
    assert_eq!(image(&plain), format!("registry.example.com/kubedr/kubedr-operator:{version}"));
    assert_eq!(
        job_settings(&plain)["image"],
        format!("registry.example.com/kubedr/kubedr-backup-job:{version}")
    );

    let by_tag = objects(&["image.operator.tag=\"1.2\""]);
    assert_eq!(image(&by_tag), "registry.example.com/kubedr/kubedr-operator:1.2");

    let by_digest =
        objects(&["image.backupJob.tag=\"1.2\"", &format!("image.backupJob.digest=\"{digest}\"")]);
    let expected = format!("registry.example.com/kubedr/kubedr-backup-job@{digest}");
    assert_eq!(job_settings(&by_digest)["image"], expected);
}

#[test]
fn the_operator_runs_restricted_and_serves_metrics_and_health() {
    let objects = objects(&[]);
    let deployment = deployment(&objects);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(container["ports"], json!([{ "name": "metrics", "containerPort": 8080 }]));
    assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/livez", "port": "metrics" }));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({ "path": "/readyz", "port": "metrics" }));
    object(&objects, "Service", "kubedr-operator");
}

#[test]
fn operator_and_job_have_accounts_of_their_own() {
    let objects = objects(&[]);
    for account in ["kubedr-operator", "kubedr-backup-job"] {
        object(&objects, "ServiceAccount", account);
        let binding = object(&objects, "RoleBinding", account);
        assert_eq!(binding["subjects"][0]["name"], account);
        assert_eq!(binding["subjects"][0]["namespace"], "backup");
    }
    assert_eq!(deployment(&objects)["spec"]["template"]["spec"]["serviceAccountName"], "kubedr-operator");
    assert_eq!(job_settings(&objects)["serviceAccountName"], "kubedr-backup-job");
}

#[test]
fn the_only_rights_outside_the_namespace_are_to_know_the_cluster_and_whether_records_stay_and_to_free_them() {
    let objects = objects(&[]);
    let roles: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "ClusterRole").collect();
    let expected = json!([
        { "apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system", "backup"], "verbs": ["get"] },
        { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
          "resourceNames": ["metadatabackuprecords.kubedr.catalogicsoftware.com"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] },
        { "apiGroups": ["kubedr.catalogicsoftware.com"], "resources": ["metadatabackuprecords"], "verbs": ["list", "patch"] },
    ]);
    assert_eq!(roles.len(), 1);
    assert_eq!(roles[0]["rules"], expected);
}

#[test]
fn no_role_has_a_wildcard_and_the_job_reads_no_secret() {
    let objects = objects(&[]);
    for role in objects.iter().filter(|o| o["kind"] == "Role") {
        let rules = role["rules"].to_string();
        assert!(!rules.contains('*'), "{rules}");
    }
    assert!(!object(&objects, "Role", "kubedr-backup-job")["rules"].to_string().contains("secrets"));
}

/// A role's rules as one line per group, resource and name, sorted: `group resource[ (name)]: verbs`.
fn rights(objects: &[Value], role: &str) -> Vec<String> {
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let mut lines = Vec::new();
    for rule in object(objects, "Role", role)["rules"].as_array().expect("rules") {
        let names = rule
            .get("resourceNames")
            .map_or_else(String::new, |names| format!(" ({})", texts(names).join(" ")));
        let mut verbs = texts(&rule["verbs"]);
        verbs.sort_unstable();
        for group in texts(&rule["apiGroups"]) {
            let group = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
            for resource in texts(&rule["resources"]) {
                lines.push(format!("{group} {resource}{names}: {}", verbs.join(" ")));
            }
        }
    }
    lines.sort_unstable();
    lines
}

#[test]
fn the_operator_has_the_verbs_that_it_uses_and_no_other() {
    assert_eq!(
        rights(&objects(&[]), "kubedr-operator"),
        [
            "batch cronjobs: create get list patch watch",
            "batch jobs: create delete get list patch watch",
            "coordination leases (kubedr-operator): get update",
            "coordination leases: create",
            "core configmaps: list watch",
            "core events: create list",
            "core persistentvolumeclaims: get",
            "core pods: list watch",
            "core secrets: list watch",
            "kubedr backuplocations/status: patch",
            "kubedr backuplocations: get list patch watch",
            "kubedr metadatabackuppolicies/status: patch",
            "kubedr metadatabackuppolicies: get list patch watch",
            "kubedr metadatabackuprecords: delete get list patch watch",
            "kubedr metadatarestores/status: patch",
            "kubedr metadatarestores: get list watch",
        ]
    );
}

#[test]
fn the_job_has_the_verbs_that_it_uses_and_no_other() {
    assert_eq!(
        rights(&objects(&[]), "kubedr-backup-job"),
        [
            "core events: create",
            "core pods: list",
            "kubedr backuplocations/status: patch",
            "kubedr backuplocations: get patch",
            "kubedr metadatabackuppolicies/status: patch",
            "kubedr metadatabackuppolicies: get",
            "kubedr metadatabackuprecords/status: patch",
            "kubedr metadatabackuprecords: create delete get list",
            "kubedr metadatarestores/status: patch",
            "kubedr metadatarestores: get patch",
        ]
    );
}

/// Weight, kind and name of each object of the hook before an uninstall, in the order in which Helm makes them.
fn uninstall_hook(objects: &[Value]) -> Vec<(i32, &str, &str)> {
    let mut found = Vec::new();
    for object in objects {
        let meta = &object["metadata"];
        if meta["annotations"]["helm.sh/hook"] == "pre-delete" {
            let weight = meta["annotations"]["helm.sh/hook-weight"].as_str().expect("a text");
            let (kind, name) = (object["kind"].as_str(), meta["name"].as_str());
            found.push((weight.parse().expect("a number"), kind.expect("a kind"), name.expect("a name")));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn before_an_uninstall_the_hook_gets_its_rights_then_runs_once_and_ends() {
    let objects = objects(&["operator.resources={\"limits\":{\"memory\":\"96Mi\"}}"]);
    assert_eq!(
        uninstall_hook(&objects),
        [
            (-3, "ServiceAccount", "kubedr-uninstall"),
            (-2, "Role", "kubedr-uninstall"),
            (-1, "RoleBinding", "kubedr-uninstall"),
            (0, "Job", "kubedr-uninstall"),
        ]
    );
    let job = &object(&objects, "Job", "kubedr-uninstall")["spec"];
    assert_eq!((&job["backoffLimit"], &job["activeDeadlineSeconds"]), (&json!(0), &json!(110)));
    let (pod, operator) = (&job["template"]["spec"], &deployment(&objects)["spec"]["template"]["spec"]);
    assert_eq!(pod["serviceAccountName"], "kubedr-uninstall");
    assert_eq!(pod["securityContext"], operator["securityContext"]);
    let (container, operator) = (&pod["containers"][0], &operator["containers"][0]);
    for same in ["image", "imagePullPolicy", "env", "resources", "securityContext"] {
        assert_eq!(container[same], operator[same], "{same}");
    }
    assert_eq!(container["args"], json!(["--log-format=json", "--log-level=info", "release"]));
}

#[test]
fn the_hook_has_the_verbs_that_it_uses_and_no_other() {
    assert_eq!(
        rights(&objects(&[]), "kubedr-uninstall"),
        [
            "apps deployments (kubedr-operator): delete",
            "batch jobs: delete list",
            "core pods: list",
            "kubedr metadatabackuprecords: list patch",
        ]
    );
}

#[test]
fn the_hook_tells_the_pods_of_the_operator_from_its_own() {
    let objects = objects(&[]);
    let labels = |kind: &str, name: &str| {
        object(&objects, kind, name)["spec"]["template"]["metadata"]["labels"].clone()
    };
    let (operator, hook) = (labels("Deployment", "kubedr-operator"), labels("Job", "kubedr-uninstall"));
    // crates/operator/src/release.rs waits until no pod has these two.
    for (label, value) in [("app.kubernetes.io/name", "kubedr"), ("app.kubernetes.io/component", "operator")]
    {
        assert_eq!(operator[label], value);
    }
    assert_eq!(hook["app.kubernetes.io/component"], "uninstall");
}

#[test]
fn the_hook_runs_where_the_operator_may_but_does_not_keep_away_from_it() {
    let objects = objects(&[
        "operator.nodeSelector={\"disk\":\"ssd\"}",
        "operator.tolerations=[{\"operator\":\"Exists\"}]",
        "operator.affinity={\"nodeAffinity\":{\"x\":1},\"podAntiAffinity\":{\"y\":2}}",
    ]);
    let pod = &object(&objects, "Job", "kubedr-uninstall")["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({ "disk": "ssd" }));
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["affinity"], json!({ "nodeAffinity": { "x": 1 } }));
}

#[test]
fn helm_never_deletes_a_crd_and_installs_none_if_told_so() {
    let crds = |values: &[&str]| {
        objects(values).into_iter().filter(|o| o["kind"] == "CustomResourceDefinition").collect::<Vec<_>>()
    };
    let installed = crds(&[]);
    let mut kinds: Vec<&str> =
        installed.iter().map(|c| c["spec"]["names"]["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, KINDS);
    for crd in &installed {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert_eq!(crd["spec"]["preserveUnknownFields"], false);
    }
    assert_eq!(crds(&["crds.install=false"]), Vec::<Value>::new());
}

#[test]
fn proxy_pull_secrets_priority_and_capabilities_reach_the_jobs() {
    let objects = objects(&[
        "proxy={\"httpsProxy\":\"http://proxy:3128\",\"noProxy\":\".svc\"}",
        "imagePullSecrets=[{\"name\":\"pull\"}]",
        "priorityClassName=\"system-cluster-critical\"",
        "job.addCapabilities=[\"DAC_READ_SEARCH\"]",
        "job.activeDeadlineSeconds=7200",
        "job.env={\"AWS_ROLE_ARN\":\"arn:aws:iam::1:role/backup\"}",
        "job.serviceAccount={\"annotations\":{\"eks.amazonaws.com/role-arn\":\"arn:aws:iam::1:role/backup\"}}",
    ]);
    let annotations = &object(&objects, "ServiceAccount", "kubedr-backup-job")["metadata"]["annotations"];
    assert_eq!(annotations["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/backup");
    let settings = job_settings(&objects);
    let variables = json!([
        { "name": "HTTPS_PROXY", "value": "http://proxy:3128" },
        { "name": "NO_PROXY", "value": ".svc" },
        { "name": "AWS_ROLE_ARN", "value": "arn:aws:iam::1:role/backup" },
    ]);
    assert_eq!(settings["env"], variables);
    assert_eq!(settings["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(settings["priorityClassName"], "system-cluster-critical");
    assert_eq!(settings["addCapabilities"], json!(["DAC_READ_SEARCH"]));
    assert_eq!(settings["activeDeadlineSeconds"], 7200);

    let pod = &deployment(&objects)["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
}

#[test]
fn a_region_reaches_the_jobs_and_none_is_given_without_one() {
    let env = |values: &[&str]| job_settings(&objects(values))["env"].clone();
    assert_eq!(env(&[]), json!([]));
    assert_eq!(
        env(&["job.region=\"eu-central-1\""]),
        json!([{ "name": "AWS_REGION", "value": "eu-central-1" }])
    );
}

#[test]
fn the_notes_put_no_secret_on_a_command_line() {
    let notes = std::fs::read_to_string(chart().join("templates/NOTES.txt")).unwrap();
    assert!(notes.contains("--from-env-file=/dev/stdin") && !notes.contains("--from-literal"), "{notes}");
}

#[test]
fn a_changed_setting_of_the_jobs_restarts_the_operator() {
    let checksum = |values: &[&str]| {
        let objects = objects(values);
        let annotations = &deployment(&objects)["spec"]["template"]["metadata"]["annotations"];
        annotations["checksum/job-settings"].as_str().expect("a checksum").to_owned()
    };
    assert_ne!(checksum(&[]), checksum(&["job.activeDeadlineSeconds=7200"]));
    assert_eq!(checksum(&[]), checksum(&["operator.logLevel=\"debug\""]));
}

#[test]
fn the_default_memory_limit_of_a_job_fits_the_key_derivation() {
    // scrypt takes 128 MiB, and less than 256Mi would leave too little for the rest of the job and the data on its way.
    let limit = job_settings(&objects(&[]))["resources"]["limits"]["memory"].as_str().unwrap().to_owned();
    let mebibytes: u32 = limit.strip_suffix("Mi").expect("mebibytes").parse().unwrap();
    assert!(mebibytes >= 256, "{limit}");
}

#[test]
fn the_chart_has_the_version_of_the_workspace_and_passes_lint() {
    let manifest = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let manifest: Value = serde_norway::from_str(&manifest).unwrap();
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["appVersion"], env!("CARGO_PKG_VERSION"));

    let output = run(command("helm").args(["lint", "--strict", "--set", REGISTRY]).arg(chart()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
