//! How the outcome of a run reaches a policy's status.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::names::{GROUP, VERSION};
use crate::{MetadataBackupPolicyStatus, record_name, short_snapshot_id};

/// How far a job has come; the values that KubeDR 0.x wrote.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[schemars(transform = without_description)]
pub enum Phase {
    /// Under way.
    Initializing,
    /// Done, stored and checked.
    Completed,
    /// Ended without success; the message says why.
    Failed,
}

/// In a CRD a field's own description is the user's documentation; that of its type would take its place.
pub(crate) fn without_description(schema: &mut schemars::Schema) {
    schema.remove("description");
}

/// The run that a status speaks of.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Name of the Job.
    pub job_name: String,
    /// UID of the Job: what a run is known by.
    #[serde(rename = "jobUID")]
    pub job_uid: String,
    /// When the run started, or its Job was created if it never started.
    #[schemars(extend("format" = "date-time"))]
    pub start_time: String,
    /// `true` if the run had not started when the status was written: it could not, and the message says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<bool>,
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// Name of the Job.
    pub job_name: String,
    /// UID of the Job.
    pub job_uid: String,
    /// Pod of the run, if there was one.
    pub pod: Option<String>,
    /// When the run started, or its Job was created if it never started.
    pub started: Timestamp,
}

/// Figures of a successful backup.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFigures {
    /// Id of the snapshot, in full.
    pub snapshot_id: String,
    /// Files that the snapshot before did not have.
    pub files_new: u64,
    /// Files that the snapshot before had otherwise.
    pub files_changed: u64,
    /// Bytes newly stored, before compression.
    pub data_added: u64,
    /// Bytes read.
    pub total_bytes_processed: u64,
    /// How long the run took.
    pub duration: std::time::Duration,
}

/// What is to be said of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunOutcome {
    /// The run has begun.
    Started,
    /// The backup is stored and checked.
    Completed(RunFigures),
    /// The run ended without a backup; the message says why and what to do.
    Failed(String),
    /// The run cannot start; the message says why and what to do. What it says itself, if it starts after all, counts more.
    CannotStart(String),
}

/// A word about a run, to be merged into what the status already says.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// Which run.
    pub run: RunIdentity,
    /// What happened.
    pub outcome: RunOutcome,
}

impl RunReport {
    /// The run's fields of the status after this report, or `None` if it must not be written.
    ///
    /// The rules: a success is final for its run, and what ended does not begin again. A run that started before the one
    /// in the status changes nothing, except that its success still counts as the last one if none is newer. A failure
    /// keeps snapshot, record and time of the last success, since that is what a restore needs.
    #[must_use]
    pub fn merge(
        &self,
        old: &MetadataBackupPolicyStatus,
        now: Timestamp,
    ) -> Option<MetadataBackupPolicyStatus> {
        if let Some(last) = &old.last_run {
            if last.job_uid == self.run.job_uid {
                if old.backup_status == Some(Phase::Completed) || self.repeats(old) {
                    return None;
                }
            } else if last
                .start_time
                .parse::<Timestamp>()
                // A time that has not come yet is that of a clock which was wrong; it must not silence what follows.
                .is_ok_and(|newer| newer > self.run.started && newer <= now)
            {
                return self.merge_late_success(old, now);
            }
        }
        let mut status = MetadataBackupPolicyStatus {
            backup_time: Some(now.to_string()),
            backup_pod: self.run.pod.clone(),
            last_run: Some(LastRun {
                job_name: self.run.job_name.clone(),
                job_uid: self.run.job_uid.clone(),
                start_time: self.run.started.to_string(),
                pending: matches!(self.outcome, RunOutcome::CannotStart(_)).then_some(true),
            }),
            backup_error_message: Some(String::new()),
            files_new: 0,
            files_changed: 0,
            data_added: 0,
            total_bytes_processed: 0,
            total_duration_secs: None,
            ..of_the_run(old)
        };
        match &self.outcome {
            RunOutcome::Started => status.backup_status = Some(Phase::Initializing),
            RunOutcome::Failed(message) | RunOutcome::CannotStart(message) => {
                status.backup_status = Some(Phase::Failed);
                status.backup_error_message = Some(message.clone());
            }
            RunOutcome::Completed(figures) => {
                status.backup_status = Some(Phase::Completed);
                status.files_new = saturating(figures.files_new);
                status.files_changed = saturating(figures.files_changed);
                status.data_added = saturating(figures.data_added);
                status.total_bytes_processed = saturating(figures.total_bytes_processed);
                status.total_duration_secs = Some(format!("{:.9}", figures.duration.as_secs_f64()));
                point_to(&mut status, &figures.snapshot_id, now);
            }
        }
        Some(status)
    }

    /// Whether this run's end is in the status already, or its beginning comes after its end.
    fn repeats(&self, old: &MetadataBackupPolicyStatus) -> bool {
        match self.outcome {
            RunOutcome::Started | RunOutcome::CannotStart(_) => old.backup_status.is_some(),
            RunOutcome::Failed(_) => old.backup_status == Some(Phase::Failed) && !old.is_pending(),
            RunOutcome::Completed(_) => false,
        }
    }

    fn merge_late_success(
        &self,
        old: &MetadataBackupPolicyStatus,
        now: Timestamp,
    ) -> Option<MetadataBackupPolicyStatus> {
        let RunOutcome::Completed(figures) = &self.outcome else { return None };
        if old.backup_status == Some(Phase::Completed) {
            return None;
        }
        let mut status = of_the_run(old);
        point_to(&mut status, &figures.snapshot_id, now);
        Some(status)
    }
}

/// The server-side apply of the run's fields onto a policy's `/status`.
///
/// `resource_version` is that of the policy that was read before: the API server refuses the write with a conflict if the
/// policy has changed since, so that no decision is taken on a stale view.
#[must_use]
pub fn run_status_patch(policy: &str, resource_version: &str, status: &MetadataBackupPolicyStatus) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "MetadataBackupPolicy",
        "metadata": { "name": policy, "resourceVersion": resource_version },
        "status": status,
    })
}

impl MetadataBackupPolicyStatus {
    fn is_pending(&self) -> bool {
        self.last_run.as_ref().is_some_and(|run| run.pending == Some(true))
    }
}

/// The fields of a run; the others have other writers.
fn of_the_run(status: &MetadataBackupPolicyStatus) -> MetadataBackupPolicyStatus {
    MetadataBackupPolicyStatus {
        observed_generation: None,
        totals: None,
        active_schedule: None,
        conditions: Vec::new(),
        ..status.clone()
    }
}

fn point_to(status: &mut MetadataBackupPolicyStatus, snapshot_id: &str, now: Timestamp) {
    status.snapshot_id = Some(short_snapshot_id(snapshot_id).to_owned());
    status.mbr_name = Some(record_name(snapshot_id));
    status.last_successful_time = Some(now.to_string());
}

fn saturating(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(uid: &str, started: i64, outcome: RunOutcome) -> RunReport {
        let run = RunIdentity {
            job_name: format!("job-{uid}"),
            job_uid: uid.into(),
            pod: Some(format!("pod-{uid}")),
            started: at(started),
        };
        RunReport { run, outcome }
    }

    fn completed(id: &str) -> RunOutcome {
        RunOutcome::Completed(RunFigures {
            snapshot_id: id.repeat(8),
            files_new: 2,
            files_changed: 0,
            data_added: 7,
            total_bytes_processed: 9,
            duration: std::time::Duration::from_millis(318),
        })
    }

    fn failed() -> RunOutcome {
        RunOutcome::Failed("no space".into())
    }

    fn after(reports: &[RunReport]) -> MetadataBackupPolicyStatus {
        reports.iter().zip(100..).fold(MetadataBackupPolicyStatus::default(), |old, (report, second)| {
            report.merge(&old, at(second)).unwrap_or(old)
        })
    }

    #[test]
    fn a_success_shows_its_figures_and_its_record() {
        let status = after(&[report("a", 1, RunOutcome::Started), report("a", 1, completed("12345678"))]);
        assert_eq!(status.backup_status, Some(Phase::Completed));
        assert_eq!(status.mbr_name.as_deref(), Some("mbr-12345678"));
        assert_eq!(status.snapshot_id.as_deref(), Some("12345678"));
        assert_eq!(status.total_duration_secs.as_deref(), Some("0.318000000"));
        assert_eq!(status.backup_error_message.as_deref(), Some(""));
        assert_eq!((status.files_new, status.data_added), (2, 7));
    }

    #[test]
    fn a_success_is_never_overwritten_by_a_failure_of_the_same_run() {
        let status = after(&[report("a", 1, completed("12345678"))]);
        assert_eq!(report("a", 1, failed()).merge(&status, at(200)), None);
    }

    #[test]
    fn a_success_replaces_a_failure_that_was_reported_too_early() {
        let status = after(&[report("a", 1, failed()), report("a", 1, completed("12345678"))]);
        assert_eq!(status.backup_status, Some(Phase::Completed));
    }

    #[test]
    fn a_run_that_failed_does_not_begin_again() {
        let status = after(&[report("a", 1, failed())]);
        assert_eq!(report("a", 1, RunOutcome::Started).merge(&status, at(200)), None);
    }

    #[test]
    fn what_a_run_says_itself_replaces_that_it_could_not_start() {
        let stuck = || RunOutcome::CannotStart("no image".into());
        let status = after(&[report("a", 1, stuck()), report("a", 1, RunOutcome::Started)]);
        assert_eq!(status.backup_error_message.as_deref(), Some("no image"));
        let status = after(&[report("a", 1, stuck()), report("a", 1, failed()), report("a", 1, stuck())]);
        assert_eq!(status.backup_error_message.as_deref(), Some("no space"));
        assert_eq!(report("a", 1, failed()).merge(&status, at(200)), None);
    }

    #[test]
    fn a_run_whose_clock_was_ahead_does_not_silence_the_next_ones() {
        let status = after(&[report("a", 9_000_000, completed("12345678")), report("b", 2, failed())]);
        assert_eq!(status.backup_error_message.as_deref(), Some("no space"));
    }

    #[test]
    fn a_failure_keeps_the_record_of_the_last_success_and_drops_its_figures() {
        let status = after(&[report("a", 1, completed("12345678")), report("b", 2, failed())]);
        assert_eq!(status.backup_status, Some(Phase::Failed));
        assert_eq!(status.mbr_name.as_deref(), Some("mbr-12345678"));
        assert_eq!(status.last_successful_time.as_deref(), Some("1970-01-01T00:01:40Z"));
        assert_eq!((status.data_added, status.total_duration_secs), (0, None));
    }

    #[test]
    fn an_older_run_that_fails_late_says_nothing() {
        let status = after(&[report("b", 2, completed("12345678"))]);
        assert_eq!(report("a", 1, failed()).merge(&status, at(200)), None);
    }

    #[test]
    fn an_older_run_that_succeeds_late_still_counts_as_the_last_success() {
        let status = after(&[report("b", 2, failed()), report("a", 1, completed("12345678"))]);
        assert_eq!(status.backup_status, Some(Phase::Failed));
        assert_eq!(status.last_run.as_ref().unwrap().job_uid, "b");
        assert_eq!(status.mbr_name.as_deref(), Some("mbr-12345678"));
    }

    #[test]
    fn figures_that_are_zero_are_written() {
        let patch = run_status_patch("daily", "7", &after(&[report("a", 1, failed())]));
        assert_eq!(patch["status"]["filesNew"], 0);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch["status"].get("conditions").is_none());
    }

    #[test]
    fn what_has_other_writers_is_not_written_with_a_run() {
        let mut status = after(&[report("b", 2, failed())]);
        status.totals = Some(crate::BackupTotals { failed: 1, ..crate::BackupTotals::default() });
        for report in [report("c", 3, failed()), report("a", 1, completed("12345678"))] {
            let patch = run_status_patch("daily", "7", &report.merge(&status, at(200)).unwrap());
            assert!(patch["status"].get("totals").is_none(), "{patch}");
        }
    }
}
