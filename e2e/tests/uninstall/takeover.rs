//! KubeDR 0.x is taken over by the commands of docs/takeover.md: its CRDs with data, its finalizers, its webhooks.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Cluster, Release, Run, case_from_scratch, contains_all, seconds, until};
use serde_json::{Value, json};

use crate::{alone, blocks_of, follow};

const INSTALLATION: &str = include_str!("../data/kubedr-0.yaml");
const WEBHOOKS: &str = include_str!("../data/kubedr-0-webhooks.yaml");
const OF_LOCATION: &str = "backuplocation.finalizers.kubedr.catalogicsoftware.com";
const OF_POLICY: &str = "metadata-backup-policy.finalizers.kubedr.catalogicsoftware.com";
const OF_RECORD: &str = "mbr.finalizers.kubedr.catalogicsoftware.com";

/// The page speaks of the namespace of KubeDR; the test has one of its own.
fn here(t: &Case, text: &str) -> String {
    text.replace("kubedr-system", t.namespace())
}

fn apply(t: &Case, yaml: &str) -> Result<()> {
    let applied = t.cluster().kubectl_with(&["apply", "--server-side", "-f", "-"], &here(t, yaml))?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    Ok(())
}

/// The webhooks, which hinder all of the cluster until they are gone.
struct Webhooks;

impl Drop for Webhooks {
    fn drop(&mut self) {
        for kind in ["validating", "mutating"] {
            let path = format!(
                "/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/kubedr-{kind}-webhook-configuration"
            );
            let _gone_already = Cluster::get().api().delete(&path);
        }
    }
}

/// The CronJob that KubeDR made of a policy.
fn cron_job_of_kubedr(t: &Case, policy: &Value) -> Value {
    let labels = json!({ "kubedr.type": "backup", "kubedr.backup-policy": t.name() });
    let key = |name: &str, key: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": format!("{}-s3", t.name()), "key": key } } });
    let master = json!({ "key": "node-role.kubernetes.io/master", "operator": "Exists" });
    let pod = json!({
        "restartPolicy": "Never",
        "hostNetwork": true,
        "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [master] }] } } },
        "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }],
        "containers": [{
            "name": format!("{}-backup", t.name()),
            "image": "catalogicsoftware/kubedrutil:0.2.1",
            "imagePullPolicy": "Never",
            "args": ["/usr/local/bin/kubedrutil", "backup"],
            "env": [
                key("AWS_ACCESS_KEY", "access_key"),
                key("AWS_SECRET_KEY", "secret_key"),
                key("RESTIC_PASSWORD", "restic_repo_password"),
                { "name": "KDR_POLICY_NAME", "value": t.name() },
            ],
            "volumeMounts": [
                { "name": "target-dir", "mountPath": "/data" },
                { "name": "etcd-creds", "mountPath": "/etcd_creds" },
            ],
        }],
        "volumes": [
            { "name": "target-dir", "emptyDir": {} },
            { "name": "etcd-creds", "secret": { "secretName": "etcd-creds" } },
        ],
    });
    let owner = json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
        "kind": "MetadataBackupPolicy",
        "name": t.name(),
        "uid": policy["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": t.cron_job_name(), "labels": labels, "ownerReferences": [owner] },
        "spec": {
            "schedule": "0 0 29 2 *",
            "concurrencyPolicy": "Forbid",
            "suspend": false,
            "jobTemplate": {
                "metadata": { "name": format!("{}-backup-job", t.name()) },
                "spec": { "template": { "metadata": { "labels": labels }, "spec": pod } },
            },
        },
    })
}

/// KubeDR with a backup, as it left its objects; gives back the record's name.
fn leave_kubedr(t: &Case) -> Result<String> {
    apply(t, INSTALLATION)?;
    until("the CRDs are served", seconds(30), || t.list("metadatabackuprecords"))?;
    let snapshot = t.back_up_as_kubedr(1)?;
    let id = &snapshot[..8];
    t.apply_location(json!({ "metadata": {
        "finalizers": [OF_LOCATION],
        "annotations": { "initialized.annotations.kubedr.catalogicsoftware.com": "true" },
    } }))?;
    let initialised = json!({
        "observedGeneration": 1,
        "initStatus": "Completed",
        "initErrorMessage": "",
        "initTime": "2020-05-14 09:21:07.412886721 +0000 UTC m=+43.203118452",
    });
    t.merge("backuplocations", &format!("{}/status", t.name()), &json!({ "status": initialised }))?;
    let policy = t.apply_policy(json!({
        "metadata": {
            "finalizers": [OF_POLICY],
            "annotations": { "processed-backup.annotations.kubedr.catalogicsoftware.com": "daily-1589447100-x2x7p" },
        },
        "spec": {
            "certsDir": "/etc/kubernetes/pki",
            "etcdEndpoint": "https://127.0.0.1:2379",
            "etcdCreds": "etcd-creds",
            "retainNumBackups": 120,
            "suspend": false,
        },
    }))?;
    let record = t.apply_record_of_kubedr(&snapshot)?;
    t.merge("metadatabackuprecords", &record, &json!({ "metadata": { "finalizers": [OF_RECORD] } }))?;
    let done = json!({
        "backupStatus": "Completed",
        "backupTime": "2020-05-14 09:25:12.001230871 +0000 UTC m=+288.100214",
        "backupErrorMessage": "",
        "filesNew": 24,
        "filesChanged": 0,
        "dataAdded": 2_204_118,
        "totalBytesProcessed": 2_204_118,
        "totalDurationSecs": "318463127n",
        "snapshotId": id,
        "backupPod": "daily-1589447100-x2x7p",
        "mbrName": record,
    });
    t.merge("metadatabackuppolicies", &format!("{}/status", t.name()), &json!({ "status": done }))?;
    t.api().apply(&t.path("cronjobs", &t.cron_job_name()), &cron_job_of_kubedr(t, &policy))?;
    apply(t, WEBHOOKS)?;
    until("the webhooks refuse a change", seconds(30), || {
        let annotation = json!({ "metadata": { "annotations": { "a": "b" } } });
        ensure!(t.merge("backuplocations", t.name(), &annotation).is_err(), "it is taken");
        Ok(())
    })?;
    Ok(record)
}

fn uid(t: &Case, plural: &str, name: &str) -> Result<String> {
    Ok(t.get(plural, name)?["metadata"]["uid"].as_str().context("a UID")?.to_owned())
}

fn take_over(t: &Case) -> Result<()> {
    let _webhooks = Webhooks;
    let record = leave_kubedr(t)?;
    let all = [
        ("backuplocations", t.name().to_owned()),
        ("metadatabackuppolicies", t.name().to_owned()),
        ("metadatabackuprecords", record.clone()),
        ("cronjobs", t.cron_job_name()),
    ];
    let uids = || all.iter().map(|(plural, name)| uid(t, plural, name)).collect::<Result<Vec<_>>>();
    let before = uids()?;

    let mut early: Vec<String> =
        ["install", "kubedr", &Release::chart(), "--namespace", t.namespace(), "--take-ownership"]
            .map(str::to_owned)
            .to_vec();
    early.extend(Release::images());
    let early = t.cluster().helm(&early.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(!early.status.success(), "Helm installs beside KubeDR 0.x");
    contains_all(
        &String::from_utf8_lossy(&early.stderr),
        &["kubedr-validating-webhook-configuration", "deployment/kubedr-controller-manager", "takeover.md"],
    )?;

    let images = Release::images().iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    for commands in blocks_of("takeover.md")? {
        let commands = here(t, &commands)
            .replace("charts/kubedr", &Release::chart())
            .replace("--set image.registry=registry.example.com/kubedr", &images);
        follow(&commands)?;
    }

    t.await_initialised()?;
    t.await_scheduled()?;
    ensure!(uids()? == before, "before: {before:?}, after: {:?}", uids()?);
    for (plural, ours) in
        [("backuplocations", 0), ("metadatabackuppolicies", 0), ("metadatabackuprecords", 1)]
    {
        let name = &all.iter().find(|(known, _)| *known == plural).context("a name")?.1;
        until("only records have a finalizer", seconds(30), || {
            let meta = t.get(plural, name)?["metadata"].take();
            ensure!(meta["finalizers"].as_array().map_or(0, Vec::len) == ours, "{plural}: {meta}");
            Ok(())
        })?;
    }
    let pod = t.cron_job()?["spec"]["jobTemplate"]["spec"]["template"]["spec"].take();
    let containers = pod["containers"].as_array().map_or(0, Vec::len);
    ensure!(containers == 1 && !pod.to_string().contains("catalogicsoftware/kubedrutil"), "{pod}");
    until("the record is completed from the repository", seconds(60), || {
        let status = t.get("metadatabackuprecords", &record)?["status"].take();
        ensure!(status["snapshotId"].as_str().is_some_and(|id| id.len() == 64), "{status}");
        Ok(())
    })?;
    Run::succeed(t, "a")?;
    ensure!(uids()? == before, "after a backup: {:?}", uids()?);
    t.expect_stored(2)
}

#[test]
fn kubedr_0_is_taken_over_by_the_commands_of_the_page_and_no_record_is_lost() {
    let _alone = alone();
    case_from_scratch("takeover", take_over);
}
