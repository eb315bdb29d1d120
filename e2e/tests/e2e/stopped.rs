//! Runs that are stopped from outside: told once, with the reason, within half a minute.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, OwnS3, Run, case, passes_unlocked, seconds, until};
use serde_json::{Value, json};

/// A run that hangs because its storage is frozen.
fn hanging(t: &Case) -> Result<(OwnS3, Run)> {
    let s3 = OwnS3::up()?;
    t.apply_location(s3.location())?;
    t.apply_policy(json!({}))?;
    t.await_initialised()?;
    t.await_scheduled()?;
    s3.pause();
    let run = Run::start(t, "a")?;
    run.await_running(t)?;
    until("the status says that a run has begun", seconds(20), || {
        let status = t.policy_status()?;
        ensure!(
            status["backupStatus"] == "Initializing" && status["lastRun"]["jobUID"] == run.uid.as_str(),
            "{status}"
        );
        Ok(())
    })?;
    Ok((s3, run))
}

/// After a run that was stopped: nothing is stored, and the next one works.
fn goes_on(t: &Case, s3: &OwnS3) -> Result<()> {
    s3.resume();
    t.expect_stored_in(&s3.restic(t), 0)?;
    Run::succeed(t, "b")?;
    t.expect_stored_in(&s3.restic(t), 1)?;
    passes_unlocked(&s3.restic(t), &["check", "--read-data"])
}

#[test]
fn a_job_that_is_deleted_in_mid_run_is_told() {
    case("job-deleted", |t| {
        let (s3, run) = hanging(t)?;
        t.api().delete(&t.path("jobs", &run.job))?;
        t.expect_failed(&run, seconds(40), &[])?;
        goes_on(t, &s3)
    });
}

#[test]
fn a_pod_that_is_deleted_in_mid_run_is_told() {
    case("pod-deleted", |t| {
        let (s3, run) = hanging(t)?;
        let pod = run.pod(t)?;
        t.api().delete(&t.path("pods", pod["metadata"]["name"].as_str().context("a name")?))?;
        t.expect_failed(&run, seconds(40), &[])?;
        goes_on(t, &s3)
    });
}

#[test]
fn a_job_that_is_killed_without_warning_is_told() {
    case("killed", |t| {
        let (s3, run) = hanging(t)?;
        kill(t, &run)?;
        t.expect_failed(&run, seconds(30), &["137"])?;
        goes_on(t, &s3)
    });
}

/// SIGKILL to the process of a run.
pub(crate) fn kill(t: &Case, run: &Run) -> Result<()> {
    kill_pod(t, &run.pod(t)?)
}

/// SIGKILL to the process of a pod.
pub(crate) fn kill_pod(t: &Case, pod: &Value) -> Result<()> {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
    let id = id.strip_prefix("containerd://").with_context(|| format!("no container: {}", pod["status"]))?;
    t.cluster().node(&["ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id])?;
    Ok(())
}
