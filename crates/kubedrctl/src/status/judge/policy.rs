//! How a policy stands.

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use kubedr_api::{MetadataBackupPolicy, Phase, missed_backup, names::cron_job_name, next_backup};
use serde::Serialize;

use super::{count, not_ready, time, typed};
use crate::status::render::ago;

/// How a policy stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// In one word.
    pub state: PolicyState,
    /// When its last successful backup was done.
    pub last_success: Option<Timestamp>,
    /// The record of that backup.
    pub record: Option<String>,
    /// When the next backup begins.
    pub next_run: Option<Timestamp>,
    /// Its records.
    pub records: usize,
    /// The location.
    pub location: String,
    /// What is wrong, and what to do.
    pub problems: Vec<String>,
}

/// How a policy stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyState {
    /// As it should.
    Ok,
    /// A backup runs.
    Running,
    /// No backup was due yet.
    New,
    /// It is paused, as its specification asks.
    Paused,
    /// The last backup failed.
    Failed,
    /// No backup has begun although one was due.
    Overdue,
    /// No backup can begin.
    NotReady,
}

impl PolicyState {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Running => "running",
            Self::New => "new",
            Self::Paused => "paused",
            Self::Failed => "FAILED",
            Self::Overdue => "OVERDUE",
            Self::NotReady => "NOT READY",
        }
    }
}

/// How this policy stands, with its records among these.
pub fn judge(
    object: &DynamicObject,
    namespace: &str,
    records: &[DynamicObject],
    now: Timestamp,
) -> PolicyStatus {
    let name = object.name_any();
    let mut told = PolicyStatus {
        state: PolicyState::NotReady,
        last_success: None,
        record: None,
        next_run: None,
        records: count(records, "policy", &name),
        location: String::new(),
        problems: Vec::new(),
        name,
    };
    let policy: MetadataBackupPolicy = match typed(object) {
        Ok(policy) => policy,
        Err(problem) => return PolicyStatus { problems: vec![problem], ..told },
    };
    let status = policy.status.clone().unwrap_or_default();
    told.location.clone_from(&policy.spec.destination);
    told.last_success = time(status.last_successful_time.as_deref());
    told.record.clone_from(&status.mbr_name);
    let paused = policy.spec.suspend;
    if let Some(problem) = not_ready(&status.conditions, object, now) {
        told.problems.push(problem);
        return told;
    }
    if paused {
        return PolicyStatus { state: PolicyState::Paused, ..told };
    }
    told.next_run = next_backup(&policy, now);
    let missed = missed_backup(&policy, now).ok().flatten();
    told.state = match status.backup_status {
        Some(Phase::Initializing) => PolicyState::Running,
        Some(Phase::Completed) => PolicyState::Ok,
        Some(Phase::Failed) => PolicyState::Failed,
        None => PolicyState::New,
    };
    if told.state == PolicyState::Failed {
        let message = status.backup_error_message.filter(|text| !text.is_empty());
        let message = message.unwrap_or_else(|| "nobody said why; see the log of its pod".to_owned());
        let when = time(status.backup_time.as_deref()).map(|time| format!(" {}", ago(time, now)));
        told.problems.push(format!("the last backup failed{}: {message}", when.unwrap_or_default()));
    }
    let failures = status.totals.as_ref().map_or(0, |totals| totals.consecutive_failures);
    if told.state == PolicyState::Running && failures > 0 {
        told.problems.push(format!("backups that failed since the last success: {failures}; one runs now"));
    }
    if let Some(missed) = missed {
        if told.state != PolicyState::Failed {
            told.state = PolicyState::Overdue;
        }
        told.problems.push(format!(
            "a backup was due {} and none has begun: see `kubectl -n {namespace} describe cronjob {}`",
            ago(missed, now),
            cron_job_name(&told.name)
        ));
    }
    told
}
