//! Runs that never begin, or that the cluster ends: told within half a minute, with the true reason, once.

use anyhow::{Result, ensure};
use kubedr_e2e::{Case, OwnS3, Run, case, case_with_operator, contains_all, passes_unlocked, seconds, until};
use serde_json::json;

/// Waits until the CronJob's Jobs are made with this.
fn await_in_template(t: &Case, part: &str) -> Result<()> {
    until("the CronJob follows", seconds(30), || contains_all(&t.cron_job()?["spec"].to_string(), &[part]))
}

#[test]
fn a_run_for_which_there_is_no_node_is_told() {
    case("no-node", |t| {
        t.set_up(json!({ "spec": { "options": { "master-node-label-name": "example.com/none" } } }))?;
        let run = Run::start(t, "a")?;
        t.expect_failed(&run, seconds(30), &["no node", "master-node-label-name"])?;
        t.expect_stored(0)?;
        t.apply_policy(
            json!({ "spec": { "options": { "master-node-label-name": "node-role.kubernetes.io/master" } } }),
        )?;
        await_in_template(t, "node-role.kubernetes.io/master")?;
        Run::succeed(t, "b")?;
        t.expect_stored(1)
    });
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_and_the_run_is_ended_so_that_the_next_one_can_begin() {
    case_with_operator("pull", &["job.startTimeoutSeconds=30"], |t| {
        t.set_up(json!({}))?;
        t.release().upgrade(&["image.backupJob.tag=nosuchtag"])?;
        await_in_template(t, "kubedr-backup-job:nosuchtag")?;
        let run = Run::start(t, "a")?;
        t.expect_failed(&run, seconds(30), &["nosuchtag"])?;
        t.expect_stored(0)?;
        until("the run is ended", seconds(60), || {
            let Some(job) = t.api().find(&t.path("jobs", &run.job))? else { return Ok(()) };
            contains_all(&job["status"].to_string(), &["\"Failed\""])?;
            ensure!(run.pod(t).is_err(), "its pod is still there");
            Ok(())
        })?;
        t.release().upgrade(&[])?;
        await_in_template(t, t.cluster().var("BACKUP_JOB_TAG"))?;
        Run::succeed(t, "b")?;
        t.only_event_of(&run)?;
        t.expect_stored(1)
    });
}

#[test]
fn a_run_that_needs_more_memory_than_its_limit_is_told_with_the_value_to_raise() {
    case_with_operator("oom", &[], |t| {
        t.set_up(json!({}))?;
        t.release().upgrade(&["job.resources.limits.memory=40Mi", "job.resources.requests.memory=40Mi"])?;
        await_in_template(t, "\"40Mi\"")?;
        let run = Run::start(t, "a")?;
        t.expect_failed(&run, seconds(60), &["memory", "job.resources.limits.memory"])?;
        t.expect_stored(0)
    });
}

#[test]
fn a_run_that_takes_longer_than_its_deadline_is_told() {
    case_with_operator("deadline", &["job.activeDeadlineSeconds=12"], |t| {
        let s3 = OwnS3::up()?;
        t.apply_location(s3.location())?;
        t.apply_policy(json!({}))?;
        t.await_initialised()?;
        t.await_scheduled()?;
        s3.pause();
        let run = Run::start(t, "a")?;
        run.await_running(t)?;
        t.expect_failed(&run, seconds(50), &["job.activeDeadlineSeconds"])?;
        s3.resume();
        t.expect_stored_in(&s3.restic(t), 0)?;
        passes_unlocked(&s3.restic(t), &["check", "--read-data"])
    });
}
