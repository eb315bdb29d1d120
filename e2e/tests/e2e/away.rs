//! Storage that is away, says nothing, or dies: it is told, and as soon as it is back all goes on. These tests wait for long times and
//! take little else, so their module has a name that comes early.

use anyhow::{Context, ensure};
use kubedr_e2e::{OwnS3, Run, case, ids, passes, passes_unlocked, seconds, until};
use serde_json::json;

use crate::location::{expect_init_failed, init_pods, location};
use crate::retention::{back_up, named, records};

#[test]
fn an_endpoint_that_nothing_answers_at_is_tried_again() {
    case("unreachable", |t| {
        let mut s3 = OwnS3::down()?;
        t.apply_location(s3.location())?;
        expect_init_failed(t, &[&s3.url(), "nothing answers"])?;
        s3.start()?;
        until("the location is initialised", seconds(90), || {
            let found = location(t)?;
            ensure!(found["status"]["initStatus"] == "Completed", "{}", found["status"]);
            ensure!(found["status"]["initErrorMessage"] == "", "{}", found["status"]);
            Ok(())
        })?;
        passes(&s3.restic(t), &["check"]);
        Ok(())
    });
}

#[test]
fn an_endpoint_that_takes_connections_and_says_nothing_is_told() {
    case("silent", |t| {
        let s3 = OwnS3::up()?;
        s3.pause();
        t.apply_location(s3.location())?;
        expect_init_failed(t, &[&s3.url(), "did not answer in time"])?;
        s3.resume();
        t.await_initialised()?;
        passes(&s3.restic(t), &["check", "--read-data"]);
        Ok(())
    });
}

#[test]
fn an_init_pod_that_is_deleted_is_followed_by_another() {
    case("init-gone", |t| {
        let s3 = OwnS3::up()?;
        s3.pause();
        t.apply_location(s3.location())?;
        let pod = until("an init pod", seconds(30), || {
            let pod = init_pods(t)?.pop().context("none")?;
            ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
            Ok(pod)
        })?;
        t.api().delete(&t.path("pods", pod["metadata"]["name"].as_str().context("a name")?))?;
        let status = until("the status says so", seconds(60), || {
            let found = location(t)?;
            ensure!(found["status"]["initStatus"] == "Failed", "{}", found["status"]);
            Ok(found["status"]["initErrorMessage"].to_string())
        })?;
        ensure!(status.len() > 10, "no reason: {status}");
        s3.resume();
        until("another try succeeds", seconds(90), || {
            let found = location(t)?;
            ensure!(found["status"]["initStatus"] == "Completed", "{}", found["status"]);
            Ok(())
        })?;
        // With a key that is left of the first try, some of restic's commands would fail.
        let keys = s3.restic(t).json(&["key", "list"]);
        ensure!(keys.as_array().is_some_and(|keys| keys.len() == 1), "{keys}");
        passes(&s3.restic(t), &["check", "--read-data"]);
        Ok(())
    });
}

#[test]
fn a_storage_that_is_away_holds_the_record_until_it_is_back() {
    case("away", |t| {
        let mut s3 = OwnS3::up()?;
        t.apply_location(s3.location())?;
        t.await_initialised()?;
        t.apply_policy(json!({}))?;
        until("the CronJob", seconds(30), || t.get("cronjobs", &format!("{}-backup-cronjob", t.name())))?;
        let (first, second) = (back_up(t, "a")?, back_up(t, "b")?);
        s3.stop();
        t.api().delete(&t.path("metadatabackuprecords", &first))?;
        until("a deletion has failed", seconds(150), || {
            let failed =
                t.events("BackupLocation")?.into_iter().find(|event| event.reason == "MaintenanceFailed");
            failed.context("no event").map(drop)
        })?;
        ensure!(records(t)?.contains(&first), "the record went before its snapshot");
        s3.start()?;
        until("the snapshot is gone with its record", seconds(180), || {
            let records = records(t)?;
            ensure!(records == [second.clone()], "{records:?}");
            let stored = named(&ids(&s3.bucket_dir(t.name()), "snapshots")?);
            ensure!(stored == [second.clone()], "{stored:?}");
            Ok(())
        })?;
        passes_unlocked(&s3.restic(t), &["check", "--read-data"])
    });
}

#[test]
fn storage_that_dies_in_mid_backup_leaves_nothing_half_written() {
    case("s3-dies", |t| {
        let mut s3 = OwnS3::up()?;
        t.apply_location(s3.location())?;
        t.apply_policy(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
        t.await_initialised()?;
        t.await_scheduled()?;
        s3.pause();
        let run = Run::start(t, "a")?;
        run.await_running(t)?;
        s3.stop();
        let pod = run.await_end(t, "Failed", seconds(150))?;
        ensure!(Run::exit_code(&pod) == Some(4), "{}", pod["status"]);
        t.expect_failed(&run, seconds(30), &[&s3.url()])?;
        s3.start()?;
        t.expect_stored_in(&s3.restic(t), 0)?;
        Run::succeed(t, "b")?;
        passes(&s3.restic(t), &["check", "--read-data"]);
        t.expect_stored_in(&s3.restic(t), 1)
    });
}
