//! The catalogue heals: what is in a bucket has a record, and a record whose snapshot is gone says so and goes.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Access, Case, Run, Volume, case, condition, contains_all, passes, seconds, until};
use serde_json::{Value, json};

pub fn records_of_location(t: &Case) -> Result<Vec<Value>> {
    let mut all = t.api().list(&kubedr_e2e::resource(t.namespace(), "metadatabackuprecords"), "")?;
    all.retain(|record| record["spec"]["backuploc"] == t.name());
    Ok(all)
}

/// Makes the operator look at the repository now: a change of the specification is initialised anew, and looked at after that.
pub fn look_again(t: &Case, period: &str) -> Result<()> {
    t.apply_location(json!({ "spec": { "validationFrequency": period } }))?;
    t.await_initialised().map(drop)
}

#[test]
fn a_new_location_on_an_old_bucket_brings_every_backup_back() {
    case("heal", |t| {
        t.set_up(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
        let (_, first) = Run::succeed(t, "a")?;
        let (_, second) = Run::succeed(t, "b")?;
        // The cluster is lost: policy, location and records are gone, and nobody was there to delete a snapshot.
        t.api().delete(&t.path("metadatabackuppolicies", t.name()))?;
        t.api().delete(&t.path("backuplocations", t.name()))?;
        for record in records_of_location(t)? {
            let name = record["metadata"]["name"].as_str().context("a name")?.to_owned();
            t.api().delete(&t.path("metadatabackuprecords", &name))?;
        }
        until("the records are gone", seconds(30), || {
            ensure!(records_of_location(t)?.is_empty());
            Ok(())
        })?;
        passes(&t.restic(), &["backup", "--tag", "policy=theirs", "/etc/hostname"]);
        t.apply_location(json!({}))?;
        let found = until("every backup has its record", seconds(120), || {
            let found = records_of_location(t)?;
            ensure!(found.len() == 2, "{found:?}");
            ensure!(found.iter().all(|record| record["status"]["origin"] == "Discovered"), "{found:?}");
            Ok(found)
        })?;
        for (status, of) in [(&first, "a"), (&second, "b")] {
            let name = status["mbrName"].as_str().context("a record")?;
            let record = found
                .iter()
                .find(|r| r["metadata"]["name"] == name)
                .with_context(|| format!("{of}: {name}"))?;
            ensure!(record["spec"]["policy"] == t.name(), "{record}");
            ensure!(record["status"]["certificates"] == true, "{record}");
            ensure!(record["status"]["totalBytesProcessed"] == status["totalBytesProcessed"], "{record}");
        }
        let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
        let record = first["mbrName"].as_str().context("a record")?;
        let restore = t.start_restore("r", record, volume.claim(), json!({}))?;
        t.expect_restored(&restore)?;
        let location = t.get("backuplocations", t.name())?;
        ensure!(condition(&location, "CatalogComplete")?["status"] == "True", "{location}");
        ensure!(condition(&location, "Available")?["status"] == "True", "{location}");
        Ok(())
    });
}

#[test]
fn what_kubedr_left_in_a_bucket_gets_records_too() {
    for version in [1, 2] {
        case(&format!("old{version}"), |t| {
            let snapshot = t.back_up_as_kubedr(version)?;
            t.apply_right_keys()?;
            t.apply_location(json!({}))?;
            let record = until("the backup has its record", seconds(120), || {
                let record = t.get("metadatabackuprecords", &format!("mbr-{}", &snapshot[..8]))?;
                ensure!(record["status"]["snapshotId"] == snapshot.as_str(), "{record}");
                Ok(record)
            })?;
            ensure!(record["spec"]["policy"] == "discovered", "{record}");
            ensure!(record["status"]["certificates"] == true, "{record}");
            let name = record["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
            let restore = t.start_restore("r", &name, volume.claim(), json!({}))?;
            t.expect_restored(&restore)?;
            t.api().delete(&t.path("metadatabackuprecords", &name))
        });
    }
}

#[test]
fn a_record_whose_snapshot_was_removed_outside_says_so_and_goes() {
    case("outside", |t| {
        t.set_up(json!({}))?;
        let (_, first) = Run::succeed(t, "a")?;
        Run::succeed(t, "b")?;
        let (id, record) =
            (first["snapshotId"].as_str().context("an id")?, first["mbrName"].as_str().context("a record")?);
        until("stock restic forgets it", seconds(60), || {
            let output = t.restic().run(&["forget", id]);
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })?;
        look_again(t, "2h")?;
        until("its record goes", seconds(120), || {
            let left = records_of_location(t)?;
            ensure!(left.len() == 1 && left[0]["metadata"]["name"] != record, "{left:?}");
            Ok(())
        })?;
        let events = t.events_on("MetadataBackupRecord", record)?;
        let told = events.iter().find(|event| event.reason == "SnapshotMissing").context("no event")?;
        contains_all(&told.message, &[id])
    });
}

#[test]
fn a_name_that_is_taken_is_told_and_nothing_is_overwritten() {
    case("taken", |t| {
        let snapshot = t.back_up_as_kubedr(2)?;
        let name = format!("mbr-{}", &snapshot[..8]);
        let theirs = json!({ "backuploc": "elsewhere", "policy": t.name(), "snapshotId": &snapshot[..8] });
        t.apply_record(&name, json!({ "spec": theirs }))?;
        t.apply_right_keys()?;
        t.apply_location(json!({}))?;
        until("the condition names it", seconds(120), || {
            let location = t.get("backuplocations", t.name())?;
            let condition = condition(&location, "CatalogComplete")?;
            ensure!(condition["reason"] == "RecordNameTaken", "{condition}");
            contains_all(condition["message"].as_str().unwrap_or_default(), &[&name, "elsewhere"])
        })?;
        ensure!(t.get("metadatabackuprecords", &name)?["spec"] == theirs, "it was overwritten");
        t.api().delete(&t.path("metadatabackuprecords", &name))
    });
}
