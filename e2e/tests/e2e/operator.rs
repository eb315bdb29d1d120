//! The operator is killed, away, or there twice: nothing is lost, nothing is told twice.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, OwnS3, Run, case_with_operator, passes_unlocked, seconds, until};
use serde_json::json;

use crate::stopped::kill;

/// A location on storage of its own and a policy for it.
fn set_up(t: &Case) -> Result<OwnS3> {
    let s3 = OwnS3::up()?;
    t.apply_location(s3.location())?;
    t.apply_policy(json!({}))?;
    t.await_initialised()?;
    t.await_scheduled()?;
    Ok(s3)
}

/// SIGKILL to an operator's pod.
fn kill_operator(t: &Case, pod: &str) -> Result<()> {
    t.cluster().kubectl(&[
        "--namespace",
        t.namespace(),
        "delete",
        "pod",
        pod,
        "--grace-period=0",
        "--force",
        "--wait=false",
    ])?;
    Ok(())
}

/// Who leads, by the Lease.
fn leader(t: &Case) -> Result<String> {
    let lease = t.get("leases", "kubedr-operator")?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    ensure!(!holder.is_empty(), "nobody leads: {}", lease["spec"]);
    Ok(holder.to_owned())
}

#[test]
fn a_backup_goes_on_while_the_operator_is_killed_and_is_told_once() {
    case_with_operator("op-killed", &[], |t| {
        let s3 = set_up(t)?;
        s3.pause();
        let run = Run::start(t, "a")?;
        run.await_running(t)?;
        let pod = t.release().operator_pods()?.pop().context("an operator")?;
        kill_operator(t, &pod)?;
        s3.resume();
        run.await_end(t, "Succeeded", seconds(120))?;
        let status = t.policy_status()?;
        ensure!(status["backupStatus"] == "Completed", "the pod has ended: {status}");
        until("another operator is ready", seconds(60), || {
            let deployment = t.get("deployments", "kubedr-operator")?;
            let other = t.release().operator_pods()?.pop().context("no operator")?;
            ensure!(other != pod && deployment["status"]["readyReplicas"] == 1, "{}", deployment["status"]);
            Ok(())
        })?;
        t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "schedule": "0 0 28 2 *" } }))?;
        until("the new operator works", seconds(60), || {
            ensure!(t.cron_job()?["spec"]["schedule"] == "0 0 28 2 *", "the CronJob is as it was");
            Ok(())
        })?;
        ensure!(t.policy_status()?["lastRun"] == status["lastRun"], "{}", t.policy_status()?);
        ensure!(t.policy_status()?["backupStatus"] == "Completed", "{}", t.policy_status()?);
        ensure!(t.only_event_of(&run)?.reason == "BackupSucceeded", "{:?}", t.only_event_of(&run));
        t.expect_stored_in(&s3.restic(t), 1)?;
        passes_unlocked(&s3.restic(t), &["check", "--read-data"])
    });
}

#[test]
fn what_died_while_no_operator_was_there_is_told_at_its_return() {
    case_with_operator("op-away", &[], |t| {
        let s3 = set_up(t)?;
        s3.pause();
        let run = Run::start(t, "a")?;
        run.await_running(t)?;
        t.release().scale(0)?;
        kill(t, &run)?;
        run.await_end(t, "Failed", seconds(30))?;
        ensure!(t.policy_status()?["backupStatus"] == "Initializing", "{}", t.policy_status()?);
        s3.resume();
        t.release().scale(1)?;
        t.expect_failed(&run, seconds(60), &["137"])?;
        // a success in the absence of the operator needs no word of it
        t.release().scale(0)?;
        let (second, status) = Run::succeed(t, "b")?;
        t.release().scale(1)?;
        t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "schedule": "0 0 28 2 *" } }))?;
        until("the operator works", seconds(60), || {
            ensure!(t.cron_job()?["spec"]["schedule"] == "0 0 28 2 *", "the CronJob is as it was");
            Ok(())
        })?;
        ensure!(t.policy_status()?["lastRun"] == status["lastRun"], "{}", t.policy_status()?);
        t.only_event_of(&run)?;
        t.only_event_of(&second)?;
        t.expect_stored_in(&s3.restic(t), 1)?;
        passes_unlocked(&s3.restic(t), &["check", "--read-data"])
    });
}

#[test]
fn of_two_operators_one_works_and_the_other_takes_over() {
    case_with_operator("two-ops", &["operator.replicas=2"], |t| {
        until("two operators are ready", seconds(60), || {
            let deployment = t.get("deployments", "kubedr-operator")?;
            ensure!(deployment["status"]["readyReplicas"] == 2, "{}", deployment["status"]);
            Ok(())
        })?;
        let s3 = set_up(t)?;
        let first = leader(t)?;
        let of = |identity: &str| -> Result<String> {
            let pods = t.release().operator_pods()?;
            pods.into_iter()
                .find(|pod| identity.contains(pod.as_str()))
                .with_context(|| format!("no pod {identity}"))
        };
        s3.pause();
        let run = Run::start(t, "a")?;
        run.await_running(t)?;
        kill_operator(t, &of(&first)?)?;
        kill(t, &run)?;
        t.expect_failed(&run, seconds(60), &["137"])?;
        let second = leader(t)?;
        ensure!(second != first, "{first} still leads");
        s3.resume();
        Run::succeed(t, "b")?;

        // one that is asked to end hands over: much sooner than a Lease expires
        let pod = of(&second)?;
        until("a successor stands by", seconds(60), || {
            let deployment = t.get("deployments", "kubedr-operator")?;
            ensure!(deployment["status"]["readyReplicas"] == 2, "{}", deployment["status"]);
            Ok(())
        })?;
        t.api().delete(&t.path("pods", &pod))?;
        until("another one leads", seconds(12), || {
            let third = leader(t)?;
            ensure!(third != second, "{second} still does");
            Ok(())
        })?;
        Run::succeed(t, "c")?;
        t.only_event_of(&run)?;
        t.expect_stored_in(&s3.restic(t), 2)?;
        passes_unlocked(&s3.restic(t), &["check", "--read-data"])
    });
}
