//! The main job: backups that stock tools read, and from which etcd and certificates come back.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kubedr_e2e::{Case, Run, case, contains_all, passes, second};
use kubedr_testing::{assert_success, run};
use serde_json::{Value, json};

use crate::tree::{restored_etcd, same_tree};

/// The one snapshot that stock restic finds, or the newest.
fn newest(t: &Case) -> Result<Value> {
    let mut all = t.restic().json(&["snapshots"]);
    let all = all.as_array_mut().context("no list")?;
    all.sort_by_key(|snapshot| snapshot["time"].to_string());
    all.pop().context("no snapshot")
}

/// Stock restic's restore of a snapshot.
fn restore(t: &Case, snapshot: &str) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    passes(&t.restic(), &["restore", snapshot, "--target", &dir.path().display().to_string()]);
    Ok(dir)
}

/// Every word of status, record, event and snapshot about a run that succeeded, against one another.
fn agree(t: &Case, run: &Run, status: &Value, certificates: bool) -> Result<Value> {
    let snapshot = newest(t)?;
    let id = snapshot["id"].as_str().context("an id")?.to_owned();
    let short = &id[..8];
    ensure!(status["snapshotId"] == short, "{status}, restic says {id}");
    ensure!(status["mbrName"] == format!("mbr-{short}").as_str(), "{status}");
    ensure!(status["backupErrorMessage"] == "", "{status}");
    status["backupTime"].as_str().context("no time")?.parse::<Timestamp>()?;
    let pod = run.pod(t)?;
    ensure!(status["backupPod"] == pod["metadata"]["name"], "{status}");
    let seconds: f64 = status["totalDurationSecs"].as_str().context("no duration")?.parse()?;
    ensure!(seconds > 0.0 && seconds < 120.0, "{status}");

    let record = t.get("metadatabackuprecords", &format!("mbr-{short}"))?;
    let spec = json!({ "backuploc": t.name(), "policy": t.name(), "snapshotId": short });
    ensure!(record["spec"] == spec, "{record}");
    ensure!(record["status"]["snapshotId"] == id.as_str(), "{record}");
    ensure!(record["status"]["repositoryId"] == t.restic().json(&["cat", "config"])["id"], "{record}");
    ensure!(record["status"]["certificates"] == certificates, "{record}");

    let event = t.only_event_of(run)?;
    ensure!(event.kind == "Normal" && event.reason == "BackupSucceeded", "{event:?}");
    ensure!(event.message == format!("Backup completed, snapshot ID: {short}"), "{event:?}");

    let cluster = t.api().get("/api/v1/namespaces/kube-system")?["metadata"]["uid"].take();
    let cluster = cluster.as_str().context("the UID of kube-system")?.to_owned();
    let tag = |name: &str, value: &str| format!("{name}={value}");
    let mut tags = snapshot["tags"].as_array().cloned().unwrap_or_default();
    tags.sort_by_key(Value::to_string);
    let expected = [
        tag("cluster", &cluster),
        tag("location", t.name()),
        tag("namespace", t.namespace()),
        tag("policy", t.name()),
    ];
    ensure!(tags == expected, "{snapshot}");
    ensure!(snapshot["paths"] == json!(["/data"]), "{snapshot}");
    ensure!(snapshot["hostname"] == pod["spec"]["nodeName"], "{snapshot}");
    let mut files = vec!["/data/etcd-snapshot.db"];
    if certificates {
        files.insert(0, "/data/certificates.tar");
    }
    let listed = t.restic().ok(&["ls", short]);
    let listed: Vec<_> = listed.lines().filter(|line| line.starts_with("/data/")).collect();
    ensure!(listed == files, "{listed:?}");
    let size = t.restic().json(&["stats", short, "--mode", "restore-size"])["total_size"].take();
    ensure!(
        status["totalBytesProcessed"] == size && record["status"]["totalBytesProcessed"] == size,
        "{status}, {size}"
    );
    Ok(snapshot)
}

fn files(status: &Value) -> Result<i64> {
    let count = |field: &str| status[field].as_i64().with_context(|| format!("no {field}: {status}"));
    Ok(count("filesNew")? + count("filesChanged")?)
}

#[test]
fn the_first_backup_without_certificates_comes_back_in_a_real_etcd() {
    case("first", |t| {
        let prefix = format!("/e2e/{}/", t.name());
        // Each has a page of its own, or more.
        let value = |n: u32| format!("value-{n}-").repeat(300);
        t.cluster().put_keys((0..250).map(|n| (format!("{prefix}{n}"), value(n))))?;
        t.set_up(json!({}))?;
        let (run, status) = Run::succeed(t, "a")?;
        ensure!(files(&status)? == 1, "{status}");
        ensure!(status["dataAdded"].as_i64() > Some(100_000), "{status}");
        agree(t, &run, &status, false)?;
        backup_pod(t, &run)?;

        let dir = restore(t, "latest")?;
        let etcd = restored_etcd(dir.path())?;
        ensure!(etcd.count(&prefix) == 250, "{} keys of the marker set", etcd.count(&prefix));
        for n in [0, 99, 100, 249] {
            ensure!(etcd.get(&format!("{prefix}{n}")) == Some(value(n)), "key {n}");
        }
        ensure!(etcd.count("/registry/namespaces/") >= 4, "Kubernetes' own keys");

        let (second_run, second_status) = Run::succeed(t, "b")?;
        ensure!(files(&second_status)? == 1, "{second_status}");
        // The tests share one etcd, which the others fill meanwhile: the keys are what must not be stored again.
        let bytes = |name: &str| second_status[name].as_i64().unwrap_or_default();
        let known = bytes("totalBytesProcessed") - bytes("dataAdded");
        ensure!(known > 600_000, "nothing was deduplicated: {status} {second_status}");
        t.cluster().delete_keys(&prefix)?;
        agree(t, &second_run, &second_status, false)?;
        t.expect_stored(2)
    });
}

/// The contract's labels, and the place where the pod may run.
fn backup_pod(t: &Case, run: &Run) -> Result<()> {
    let pod = run.pod(t)?;
    for object in [&pod, &t.get("jobs", &run.job)?, &t.cron_job()?] {
        let labels = &object["metadata"]["labels"];
        ensure!(labels["kubedr.type"] == "backup" && labels["kubedr.backup-policy"] == t.name(), "{labels}");
    }
    let spec = &pod["spec"];
    ensure!(spec["hostNetwork"] == true && spec["restartPolicy"] == "Never", "{spec}");
    let affinity = spec["affinity"]["nodeAffinity"].to_string();
    contains_all(&affinity, &["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"])?;
    let everything = |effect: &str| json!({ "effect": effect, "operator": "Exists" });
    for effect in ["NoSchedule", "NoExecute"] {
        let tolerations = spec["tolerations"].as_array().context("no tolerations")?;
        ensure!(tolerations.contains(&everything(effect)), "{tolerations:?}");
    }
    let (of_pod, container) = (&spec["securityContext"], &spec["containers"][0]["securityContext"]);
    ensure!(container["capabilities"]["drop"] == json!(["ALL"]), "{container}");
    ensure!(
        container["allowPrivilegeEscalation"] == false && container["readOnlyRootFilesystem"] == true,
        "{container}"
    );
    ensure!(container["privileged"] != true, "{container}");
    contains_all(&format!("{of_pod}{container}"), &["RuntimeDefault"])?;
    let cron_job = t.cron_job()?;
    ensure!(cron_job["spec"]["concurrencyPolicy"] == "Forbid", "{}", cron_job["spec"]);
    let job = &cron_job["spec"]["jobTemplate"]["spec"];
    ensure!(job["backoffLimit"] == 0 && job["activeDeadlineSeconds"] == 3600, "{job}");
    Ok(())
}

fn unpack(archive: &Path) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    assert_success(&run(Command::new("tar")
        .args(["--extract", "--same-permissions", "--numeric-owner", "--same-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(dir.path())));
    Ok(dir)
}

#[test]
fn the_certificates_come_back_as_they_were_on_the_node() {
    case("certs", |t| {
        t.set_up(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
        let (run, status) = Run::succeed(t, "a")?;
        ensure!(files(&status)? == 2, "{status}");
        agree(t, &run, &status, true)?;
        let dir = restore(t, "latest")?;
        same_tree(unpack(&dir.path().join("data/certificates.tar"))?.path(), &t.cluster().pki())?;
        ensure!(restored_etcd(dir.path())?.count("/registry/namespaces/") >= 4, "Kubernetes' own keys");

        let (run, status) = Run::succeed(t, "b")?;
        ensure!(files(&status)? == 2, "{status}");
        agree(t, &run, &status, true)?;
        let again = restore(t, "latest")?;
        let archive = |dir: &Path| std::fs::read(dir.join("data/certificates.tar"));
        ensure!(archive(dir.path())? == archive(again.path())?, "the same files gave another archive");
        Ok(())
    });
}

#[test]
fn links_modes_and_odd_names_survive() {
    case("tree", |t| {
        let dir = format!("/etc/{}/", t.name());
        let made = "set -e; mkdir -p \"$0\"; cd \"$0\"
            mkdir -p empty 'with blank/deep' shut; chmod 700 shut; echo key > shut/key; chmod 400 shut/key
            echo a > 'with blank/a\tb'; echo ü > 'with blank/deep/ü'; ln -s ../ca.crt shut/link; ln -s /nowhere dangling
            echo ca > ca.crt; chmod 644 ca.crt; chown 0:7 ca.crt; : > nothing; chmod 4755 nothing
            head -c 3000000 /dev/zero > long; touch -d '2020-02-29 12:00:00' long";
        t.cluster().node(&["bash", "-c", made, &dir])?;
        t.set_up(json!({ "spec": { "certsDir": dir } }))?;
        Run::succeed(t, "a")?;
        let restored = restore(t, "latest")?;
        let unpacked = unpack(&restored.path().join("data/certificates.tar"))?;
        // the node's /etc as the machine sees it: what was written over the machine's own
        let node = t.cluster().pki().with_file_name("etc").join("upper").join(t.name());
        same_tree(unpacked.path(), &node)?;
        t.cluster().node(&["rm", "-rf", &dir])?;
        Ok(())
    });
}

#[test]
fn two_policies_may_back_up_to_one_location_at_once() {
    case("both", |t| {
        t.set_up(json!({}))?;
        let other = format!("{}-x", t.name());
        t.apply_policy(json!({ "metadata": { "name": other } }))?;
        let from = |policy: &str| format!("--from=cronjob/{policy}-backup-cronjob");
        kubedr_e2e::until("the second CronJob", 30 * second(), || {
            t.get("cronjobs", &format!("{other}-backup-cronjob"))
        })?;
        let first = Run::start(t, "a")?;
        t.cluster().kubectl(&[
            "--namespace",
            t.namespace(),
            "create",
            "job",
            &format!("{other}-a"),
            &from(&other),
        ])?;
        let second_run = Run::of(t, &format!("{other}-a"))?;
        first.await_end(t, "Succeeded", 120 * second())?;
        second_run.await_end(t, "Succeeded", 120 * second())?;
        let snapshots = t.restic().json(&["snapshots"]);
        ensure!(snapshots.as_array().is_some_and(|all| all.len() == 2), "{snapshots}");
        let of_other = t.get("metadatabackuppolicies", &other)?["status"].take();
        ensure!(
            of_other["backupStatus"] == "Completed"
                && of_other["snapshotId"] != t.policy_status()?["snapshotId"],
            "{of_other}"
        );
        Ok(())
    });
}

#[test]
fn the_longest_names_work() {
    case("long", |t| {
        let name = |length: usize| format!("{}-{}", t.name(), "n".repeat(length - 1 - t.name().len()));
        let (location, policy) = (name(63), name(37));
        t.apply_location(json!({ "metadata": { "name": location } }))?;
        t.apply_policy(json!({ "metadata": { "name": policy }, "spec": { "destination": location } }))?;
        let cron_job = format!("{policy}-backup-cronjob");
        kubedr_e2e::until("the CronJob", 60 * second(), || t.get("cronjobs", &cron_job))?;
        let job = format!("{}-a", t.name());
        t.cluster().kubectl(&[
            "--namespace",
            t.namespace(),
            "create",
            "job",
            &job,
            &format!("--from=cronjob/{cron_job}"),
        ])?;
        Run::of(t, &job)?.await_end(t, "Succeeded", 120 * second())?;
        let status = t.get("metadatabackuppolicies", &policy)?["status"].take();
        ensure!(status["backupStatus"] == "Completed", "{status}");
        let location = t.get("backuplocations", &location)?["status"].take();
        ensure!(location["initStatus"] == "Completed", "{location}");
        Ok(())
    });
}
