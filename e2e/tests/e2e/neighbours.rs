//! Others at work in the same repository: another cluster, and an admin with stock restic.

use std::thread;

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, case, passes_unlocked, resource, seconds, until};
use kubedr_testing::{assert_success, run};
use serde_json::{Value, json};

use crate::catalog::{look_again, records_of_location};
use crate::retention::{await_left, back_up};

/// UID of the other cluster's kube-system.
const OTHER: &str = "5f0d6e0a-0b1c-4d2e-8f3a-4b5c6d7e8f90";

/// Takes a backup as a job of another cluster does, in which policy, location and bucket have the same names as here; gives back
/// the name of its record. A namespace without an operator stands for what that cluster knows.
fn back_up_elsewhere(t: &Case, namespace: &str, job: &str) -> Result<String> {
    let cluster = t.cluster();
    let mut backup = cluster.job_command();
    backup.args(["backup", "--repository", t.restic().repository(), "--cluster", OTHER]);
    backup.args(["--namespace", namespace, "--location", t.name(), "--policy", t.name()]);
    backup.args(["--job-name", job, "--job-uid", job, "--pod-name", job, "--pod-uid", job]);
    backup.args(["--etcd-endpoints", cluster.var("ETCD_ENDPOINT"), "--etcd-cacert", cluster.var("ETCD_CA")]);
    backup.args(["--etcd-cert", cluster.var("ETCD_CERT"), "--etcd-key", cluster.var("ETCD_KEY")]);
    backup.env("KUBECONFIG", cluster.kubeconfig()).envs(t.restic().environment().iter().cloned());
    assert_success(&run(&mut backup));
    let policy = format!("{}/{}", resource(namespace, "metadatabackuppolicies"), t.name());
    let status = t.api().get(&policy)?["status"].take();
    ensure!(status["backupStatus"] == "Completed", "{status}");
    Ok(status["mbrName"].as_str().context("a record")?.to_owned())
}

/// The other cluster's objects: as here, and with none of its secrets.
fn found_elsewhere(t: &Case, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}");
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    t.api().apply(&path, &object)?;
    for plural in ["backuplocations", "metadatabackuppolicies"] {
        let here = t.get(plural, t.name())?;
        let there = json!({
            "apiVersion": here["apiVersion"], "kind": here["kind"], "metadata": { "name": t.name() }, "spec": here["spec"],
        });
        t.api().apply(&format!("{}/{}", resource(namespace, plural), t.name()), &there)?;
    }
    Ok(())
}

/// Takes away what stands for the other cluster, which without an operator lets go of its records only so.
fn lose_elsewhere(t: &Case, namespace: &str) -> Result<()> {
    let records = resource(namespace, "metadatabackuprecords");
    for record in t.api().list(&records, "")? {
        let path = format!("{records}/{}", record["metadata"]["name"].as_str().unwrap_or_default());
        t.api().merge(&path, &json!({ "metadata": { "finalizers": null } }))?;
    }
    t.api().delete(&format!("/api/v1/namespaces/{namespace}"))
}

#[test]
fn two_clusters_with_policies_of_one_name_keep_what_each_of_them_has() {
    case("clusters", |t| {
        t.set_up(json!({ "spec": { "retainNumBackups": 2 } }))?;
        let elsewhere = format!("{}-elsewhere", t.name());
        found_elsewhere(t, &elsewhere)?;
        // Theirs are the oldest and the newest but one of all: neither goes, and neither makes one of ours go.
        let theirs = back_up_elsewhere(t, &elsewhere, "a")?;
        let (first, second) = (back_up(t, "a")?, back_up(t, "b")?);
        let theirs = [theirs, back_up_elsewhere(t, &elsewhere, "b")?];
        look_again(t, "2h")?;
        until("theirs have records here", seconds(120), || {
            let found = records_of_location(t)?;
            let theirs = |record: &&Value| {
                let status = &record["status"];
                status["origin"] == "Discovered"
                    && status["clusterUID"] == OTHER
                    && record["spec"]["policy"] == t.name()
            };
            ensure!(found.iter().filter(theirs).count() == 2, "{found:?}");
            Ok(())
        })?;
        let third = back_up(t, "c")?;
        await_left(t, &[&theirs[0], &second, &theirs[1], &third])?;
        ensure!(t.get("metadatabackuprecords", &first).is_err(), "the oldest of ours stays");
        ensure!(
            t.api().list(&resource(&elsewhere, "metadatabackuprecords"), "")?.len() == 2,
            "their own records"
        );
        lose_elsewhere(t, &elsewhere)
    });
}

/// What an admin's own jobs do all day.
fn admin_at_work(t: &Case, rounds: u32) -> Result<()> {
    let (restic, files) = (t.restic(), tempfile::tempdir()?);
    for round in 0..rounds {
        std::fs::write(files.path().join("theirs"), format!("round {round}, ").repeat(100_000))?;
        passes_unlocked(&restic, &["backup", "--tag", "theirs", &files.path().display().to_string()])?;
        passes_unlocked(&restic, &["forget", "--tag", "theirs", "--keep-last", "1", "--prune"])?;
        passes_unlocked(&restic, &["check"])?;
    }
    Ok(())
}

#[test]
fn stock_restic_works_beside_our_jobs_and_neither_is_harmed() {
    case("stock", |t| {
        t.set_up(json!({}))?;
        let first = back_up(t, "a")?;
        let (theirs, ours) = thread::scope(|scope| {
            let admin = scope.spawn(|| admin_at_work(t, 4));
            let ours = || -> Result<Vec<String>> {
                t.api().delete(&t.path("metadatabackuprecords", &first))?;
                let kept = vec![back_up(t, "b")?, back_up(t, "c")?];
                look_again(t, "2h")?;
                Ok(kept)
            };
            let ours = ours();
            (admin.join(), ours)
        });
        theirs.ok().context("the admin's thread panicked")??;
        let kept = ours?;
        until("the deleted record is gone", seconds(120), || {
            ensure!(t.get("metadatabackuprecords", &first).is_err(), "it is there");
            Ok(())
        })?;
        let snapshots = t.restic().json(&["--no-lock", "snapshots"]);
        let tagged = |tag: &str| -> usize {
            let all = snapshots.as_array().into_iter().flatten();
            all.filter(|snapshot| snapshot["tags"].to_string().contains(tag)).count()
        };
        ensure!((tagged("theirs"), tagged("policy=")) == (1, kept.len()), "{snapshots}");
        for record in &kept {
            t.get("metadatabackuprecords", record)?;
        }
        Ok(())
    });
}
