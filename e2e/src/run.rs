//! One run of a policy.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kubedr_testing::Restic;
use serde_json::{Value, json};

use crate::{Case, resource, seconds, until};

/// A run: the Job that an admin's `kubectl create job --from=cronjob/…` makes.
#[derive(Clone, Debug)]
pub struct Run {
    /// Name of the Job.
    pub job: String,
    /// UID of the Job.
    pub uid: String,
}

/// An event, as `kubectl describe` shows it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Name of the event itself.
    pub name: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// How often it is said to have happened.
    pub count: u64,
}

impl Event {
    pub(crate) fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            name: text(&object["metadata"]["name"]),
            kind: text(&object["type"]),
            reason: text(&object["reason"]),
            message: text(&object["message"]),
            count: object["count"].as_u64().unwrap_or(1),
        }
    }
}

impl Run {
    /// Triggers a run of the case's policy, as `kubectl create job --from=cronjob/…` does, of which the documentation tells admins. It
    /// creates this Job; each call of it would take as much processor time as a pod.
    pub fn start(case: &Case, suffix: &str) -> Result<Self> {
        let job = format!("{}-{suffix}", case.name());
        let cron_job = case.cron_job()?;
        let template = &cron_job["spec"]["jobTemplate"];
        let mut metadata = template["metadata"].clone();
        metadata["name"] = json!(job);
        metadata["annotations"]["cronjob.kubernetes.io/instantiate"] = json!("manual");
        metadata["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job["metadata"]["name"],
            "uid": cron_job["metadata"]["uid"], "controller": true,
        }]);
        let object = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"] });
        let created = case.api().create(&resource(case.namespace(), "jobs"), "", &object)?;
        let uid = created["metadata"]["uid"].as_str().context("a UID")?.to_owned();
        Ok(Self { job, uid })
    }

    /// The run of an existing Job.
    pub fn of(case: &Case, job: &str) -> Result<Self> {
        let object = case.get("jobs", job)?;
        let uid = object["metadata"]["uid"].as_str().context("a UID")?.to_owned();
        Ok(Self { job: job.to_owned(), uid })
    }

    /// Its pod; never more than one, since a run is not tried again.
    pub fn pod(&self, case: &Case) -> Result<Value> {
        let query = format!("labelSelector=batch.kubernetes.io%2Fjob-name%3D{}", self.job);
        let mut pods = case.api().list(&resource(case.namespace(), "pods"), &query)?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        pods.pop().context("a pod")
    }

    /// Waits until its container runs.
    pub fn await_running(&self, case: &Case) -> Result<Value> {
        until("the pod runs", seconds(60), || {
            let pod = self.pod(case)?;
            ensure!(pod["status"]["phase"] == "Running", "its status: {}", pod["status"]);
            Ok(pod)
        })
    }

    /// Waits until the pod has ended, in this phase.
    pub fn await_end(&self, case: &Case, phase: &str, limit: Duration) -> Result<Value> {
        let pod = until("the pod ends", limit, || {
            let pod = self.pod(case)?;
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            ensure!(matches!(phase, "Succeeded" | "Failed"), "its status: {}", pod["status"]);
            Ok(pod)
        })?;
        ensure!(pod["status"]["phase"] == phase, "{phase} expected: {}", pod["status"]);
        Ok(pod)
    }

    /// A whole run that must succeed. Status, record and event must be there when the pod has ended, without any wait.
    pub fn succeed(case: &Case, suffix: &str) -> Result<(Self, Value)> {
        let run = Self::start(case, suffix)?;
        run.await_end(case, "Succeeded", seconds(120))?;
        let status = case.policy_status()?;
        ensure!(
            status["lastRun"]["jobUID"] == run.uid.as_str(),
            "the status speaks of another run: {status}"
        );
        ensure!(status["backupStatus"] == "Completed", "the pod has ended: {status}");
        ensure!(case.only_event_of(&run)?.reason == "BackupSucceeded", "the event of the run");
        Ok((run, status))
    }

    /// Exit code of its container.
    #[must_use]
    pub fn exit_code(pod: &Value) -> Option<i64> {
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
    }
}

/// Runs stock restic, which must succeed.
pub fn passes(restic: &Restic, args: &[&str]) {
    drop(restic.ok(args));
}

/// Runs stock restic, which must succeed as soon as no job of ours holds a lock: until then it refuses, as it should. Whatever else
/// it complains of is a failure.
pub fn passes_unlocked(restic: &Restic, args: &[&str]) -> Result<()> {
    until("stock restic gets its lock", seconds(120), || {
        let output = restic.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() || !said.contains("already locked"), "{said}");
        Ok(if output.status.success() { Ok(()) } else { Err(anyhow!("restic {args:?}: {said}")) })
    })?
}
