//! Retention and deletion: what goes, what stays, and that nothing but the deletion of a record deletes a snapshot.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Run, case, case_with_operator, resource, seconds, until};
use serde_json::{Value, json};

/// Names of the records of the test's policy, sorted.
pub fn records(t: &Case) -> Result<Vec<String>> {
    let name = |record: &Value| record["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<_> = t.records()?.iter().map(name).collect();
    names.sort();
    Ok(names)
}

/// Names that the records of these snapshots have, sorted.
pub fn named(snapshots: &[String]) -> Vec<String> {
    let mut names: Vec<_> =
        snapshots.iter().map(|id| format!("mbr-{}", id.get(..8).unwrap_or("????????"))).collect();
    names.sort();
    names
}

/// Waits until exactly these records and their snapshots are there.
pub fn await_left(t: &Case, expected: &[&str]) -> Result<()> {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    until("records and snapshots are these", seconds(90), || {
        let (records, stored) = (records(t)?, named(&t.snapshots()?));
        ensure!(records == expected, "records {records:?}, expected {expected:?}");
        ensure!(stored == expected, "snapshots {stored:?}, expected {expected:?}");
        Ok(())
    })
}

pub fn back_up(t: &Case, suffix: &str) -> Result<String> {
    let (_, status) = Run::succeed(t, suffix)?;
    Ok(status["mbrName"].as_str().context("a record")?.to_owned())
}

/// The pods that delete snapshots of this test's location.
fn deletion_pods(t: &Case) -> Result<Vec<Value>> {
    let label = "kubedr.catalogicsoftware.com%2Fsnap-deletion-pod%3Dtrue";
    let query = format!("labelSelector={label},kubedr.backuploc%3D{}", t.name());
    t.api().list(&resource(t.namespace(), "pods"), &query)
}

#[test]
fn the_oldest_beyond_the_number_go_and_pinned_ones_stay() {
    case("keep", |t| {
        t.set_up(json!({ "spec": { "retainNumBackups": 2 } }))?;
        let oldest = back_up(t, "a")?;
        let pin = json!({ "metadata": { "annotations": { "kubedr.catalogicsoftware.com/keep": "true" } } });
        t.merge("metadatabackuprecords", &oldest, &pin)?;
        let (second, third) = (back_up(t, "b")?, back_up(t, "c")?);
        await_left(t, &[&oldest, &second, &third])?;
        let fourth = back_up(t, "d")?;
        await_left(t, &[&oldest, &third, &fourth])?;
        let unpin = json!({ "metadata": { "annotations": { "kubedr.catalogicsoftware.com/keep": null } } });
        t.merge("metadatabackuprecords", &oldest, &unpin)?;
        await_left(t, &[&third, &fourth])?;
        ensure!(!deletion_pods(t)?.is_empty(), "no pod has the label that admins look for");
        Ok(())
    });
}

#[test]
fn a_record_that_is_deleted_by_hand_takes_its_snapshot_along_and_one_job_takes_all() {
    case("byhand", |t| {
        t.set_up(json!({}))?;
        let names = [back_up(t, "a")?, back_up(t, "b")?, back_up(t, "c")?, back_up(t, "d")?];
        for name in &names[..3] {
            t.api().delete(&t.path("metadatabackuprecords", name))?;
        }
        await_left(t, &[&names[3]])?;
        let pods = deletion_pods(t)?.len();
        ensure!(pods == 1, "{pods} pods for three records");
        let event = until("the event", seconds(15), || {
            let events = t.events_on("MetadataBackupRecord", &names[0])?;
            events.into_iter().find(|event| event.reason == "SnapshotDeleted").context("none")
        })?;
        ensure!(event.kind == "Normal", "{event:?}");
        let location = until("space is reclaimed and the repository checked", seconds(90), || {
            let location = t.get("backuplocations", t.name())?;
            ensure!(location["status"]["lastCheck"]["result"] == "Passed", "{}", location["status"]);
            Ok(location)
        })?;
        ensure!(location["status"]["lastPrune"]["time"].is_string(), "{}", location["status"]);
        Ok(())
    });
}

#[test]
fn keep_rules_do_what_restic_does() {
    case("rules", |t| {
        t.set_up(json!({ "spec": { "retention": { "keepLast": 1, "keepDaily": 7 } } }))?;
        let oldest = back_up(t, "a")?;
        back_up(t, "b")?;
        let last = back_up(t, "c")?;
        // One day, one backup: the last. As the seven days are not used up, the oldest stays, too.
        await_left(t, &[&oldest, &last])
    });
}

#[test]
fn nothing_but_the_deletion_of_a_record_deletes_a_snapshot() {
    case_with_operator("firstlaw", &[], |t| {
        t.set_up(json!({}))?;
        back_up(t, "a")?;
        back_up(t, "b")?;
        let before = t.snapshots()?;
        t.api().delete(&t.path("metadatabackuppolicies", t.name()))?;
        t.api().delete(&t.path("backuplocations", t.name()))?;
        until("policy and location are gone", seconds(30), || {
            ensure!(t.list("metadatabackuppolicies")?.is_empty() && t.list("backuplocations")?.is_empty());
            Ok(())
        })?;
        ensure!(t.list("metadatabackuprecords")?.len() == 2, "the records stay");
        let gone =
            t.cluster().helm(&["uninstall", "kubedr", "--namespace", t.namespace(), "--timeout=2m"])?;
        ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
        ensure!(t.list("metadatabackuprecords")?.len() == 2, "the records stay");
        t.cluster().kubectl(&["delete", "namespace", t.namespace(), "--wait=false"])?;
        until("the namespace is gone", seconds(120), || {
            let found = t.api().get(&format!("/api/v1/namespaces/{}", t.namespace()));
            ensure!(found.is_err(), "it is there");
            Ok(())
        })?;
        ensure!(t.snapshots()? == before, "snapshots went with the namespace");
        Ok(())
    });
}
