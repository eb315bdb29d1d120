//! The two tests that wait for a schedule.

use anyhow::{Context, ensure};
use kubedr_e2e::{Run, case, second, seconds, until};
use serde_json::json;

#[test]
fn the_schedule_takes_backups_without_anybody() {
    case("every-minute", |t| {
        t.set_up(json!({ "spec": { "schedule": "*/1 * * * *", "certsDir": "/etc/kubernetes/pki" } }))?;
        let record = until("the first record", seconds(120), || t.records()?.pop().context("none"))?;
        let status = until("its run is told", seconds(15), || {
            let status = t.policy_status()?;
            ensure!(status["backupStatus"] == "Completed", "{status}");
            Ok(status)
        })?;
        ensure!(status["mbrName"] == record["metadata"]["name"], "{status}");
        let run = Run::of(t, status["lastRun"]["jobName"].as_str().context("no Job")?)?;
        ensure!(run.job.starts_with(&t.cron_job_name()), "{}", run.job);
        ensure!(t.only_event_of(&run)?.reason == "BackupSucceeded", "{:?}", t.only_event_of(&run));
        let event_time = status["backupTime"].as_str().context("no time")?.parse::<jiff::Timestamp>()?;
        let age = jiff::Timestamp::now().duration_since(event_time).unsigned_abs();
        ensure!(age < 120 * second(), "{status}");
        Ok(())
    });
}

#[test]
fn a_suspended_policy_waits_and_a_resumed_one_goes_on() {
    case("resumed", |t| {
        t.set_up(json!({ "spec": { "schedule": "@every 1m", "suspend": true } }))?;
        t.expect_stored(0)?;
        t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "suspend": false } }))?;
        until("the first record", seconds(150), || t.records()?.pop().context("none"))?;
        t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "suspend": true } }))?;
        until("the CronJob is suspended", seconds(30), || {
            ensure!(t.cron_job()?["spec"]["suspend"] == true, "it is not");
            Ok(())
        })?;
        let status = until("the last run has ended", seconds(60), || {
            let status = t.policy_status()?;
            ensure!(
                status["backupStatus"] == "Completed" && t.cron_job()?["status"]["active"].is_null(),
                "{status}"
            );
            Ok(status)
        })?;
        ensure!(status["snapshotId"].is_string(), "{status}");
        t.expect_stored(t.records()?.len())
    });
}
