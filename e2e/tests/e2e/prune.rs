//! Space is reclaimed while others are at work, and by jobs that are killed: nothing is lost, and nobody has to unlock.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Access, Case, Door, Run, Volume, case, resource, seconds, until};
use serde_json::{Value, json};

use crate::retention::{await_left, back_up};
use crate::stopped::kill_pod;
use crate::tree::restored_etcd;

/// A location behind a door, and a policy for it.
fn set_up(t: &Case) -> Result<Door> {
    let door = Door::open()?;
    t.apply_location(door.location())?;
    t.apply_policy(json!({}))?;
    t.await_initialised()?;
    t.await_scheduled()?;
    Ok(door)
}

/// Waits until the event says that a job waits for a lock.
fn await_waiting(t: &Case, kind: &str) -> Result<()> {
    until(&format!("the {kind} is told that a job waits"), seconds(90), || {
        let events = t.events(kind)?;
        ensure!(events.iter().any(|event| event.reason == "WaitingForLock"), "{events:?}");
        Ok(())
    })
}

/// Waits until space was reclaimed and the repository found to be sound.
fn await_pruned(t: &Case) -> Result<()> {
    until("space is reclaimed and the repository checked", seconds(120), || {
        let status = t.get("backuplocations", t.name())?["status"].take();
        ensure!(status["lastPrune"]["time"].is_string(), "{status}");
        ensure!(status["lastCheck"]["result"] == "Passed", "{status}");
        Ok(())
    })
}

/// Restores these records onto volumes of their own; what comes back is an etcd.
fn all_come_back(t: &Case, records: &[&str]) -> Result<()> {
    let mut started = Vec::new();
    for record in records {
        let volume = Volume::new(t, record, Access::ReadWriteOnce)?;
        started.push((t.start_restore(record, record, volume.claim(), json!({}))?, volume));
    }
    for (restore, volume) in started {
        t.expect_restored(&restore)?;
        ensure!(restored_etcd(&volume.path(t)?)?.count("/registry/namespaces/") >= 4, "Kubernetes' own keys");
    }
    Ok(())
}

#[test]
fn of_backup_and_prune_the_one_that_comes_second_waits_and_nothing_is_lost() {
    case("beside", |t| {
        let door = set_up(t)?;
        let (first, second) = (back_up(t, "a")?, back_up(t, "b")?);
        // A backup whose data is stored and that lacks nothing but its snapshot: to a prune the data would be of no use.
        door.hold("PUT", "/snapshots/");
        let third = Run::start(t, "c")?;
        door.await_caught(seconds(60))?;
        t.api().delete(&t.path("metadatabackuprecords", &first))?;
        await_waiting(t, "BackupLocation")?;
        ensure!(t.get("metadatabackuprecords", &first).is_ok(), "the record went before its snapshot");
        // A prune that has written its new index and not yet deleted the old one.
        door.hold("DELETE", "/index/");
        third.await_end(t, "Succeeded", seconds(60))?;
        let third = t.policy_status()?["mbrName"].as_str().context("a record")?.to_owned();
        door.await_caught(seconds(90))?;
        let fourth = Run::start(t, "d")?;
        await_waiting(t, "MetadataBackupPolicy")?;
        door.release();
        fourth.await_end(t, "Succeeded", seconds(90))?;
        let fourth = t.policy_status()?["mbrName"].as_str().context("a record")?.to_owned();
        await_pruned(t)?;
        await_left(t, &[&second, &third, &fourth])?;
        all_come_back(t, &[&third, &fourth])
    });
}

/// Waits for the location's job that deletes and reclaims to be at work, and kills it without warning; gives back the Job's name.
fn kill_maintenance(t: &Case) -> Result<String> {
    let query = format!("labelSelector=kubedr.type%3Dforget,kubedr.backuploc%3D{}", t.name());
    let mut pods = t.api().list(&resource(t.namespace(), "pods"), &query)?;
    pods.retain(|pod| pod["status"]["phase"] == "Running");
    ensure!(pods.len() == 1, "{} pods are at work", pods.len());
    kill_pod(t, &pods[0])?;
    let job = pods[0]["metadata"]["labels"]["batch.kubernetes.io/job-name"].as_str().context("a Job")?;
    until("the Job has failed", seconds(60), || {
        let status = t.get("jobs", job)?["status"].take();
        ensure!(status["failed"] == 1, "{status}");
        Ok(())
    })?;
    Ok(job.to_owned())
}

/// Makes the operator believe that an hour has passed since it last tried to reclaim space.
fn an_hour_later(t: &Case, failed: &str) -> Result<()> {
    let tried: Value = json!({ "kubedr.catalogicsoftware.com/last-prune-try": null });
    t.merge("backuplocations", t.name(), &json!({ "metadata": { "annotations": tried } }))?;
    t.api().delete(&t.path("jobs", failed))
}

#[test]
fn a_job_that_is_killed_in_mid_prune_is_followed_by_one_that_finishes() {
    case("midprune", |t| {
        let door = set_up(t)?;
        let (first, second, third) = (back_up(t, "a")?, back_up(t, "b")?, back_up(t, "c")?);
        // Once what is still needed has been written anew, and no index names it yet.
        door.hold("PUT", "/index/");
        t.api().delete(&t.path("metadatabackuprecords", &first))?;
        door.await_caught(seconds(90))?;
        let failed = kill_maintenance(t)?;
        // Once there are a new index and all of the old one.
        door.hold("DELETE", "/index/");
        an_hour_later(t, &failed)?;
        door.await_caught(seconds(90))?;
        let failed = kill_maintenance(t)?;
        let locks = t.locks()?;
        ensure!(!locks.is_empty(), "the killed job took its lock away");
        door.release();
        an_hour_later(t, &failed)?;
        await_pruned(t)?;
        await_left(t, &[&second, &third])?;
        until("no lock is left", seconds(60), || {
            let left = t.locks()?;
            ensure!(left.is_empty(), "{left:?}, of the killed job {locks:?}");
            Ok(())
        })?;
        all_come_back(t, &[&second, &third])
    });
}
