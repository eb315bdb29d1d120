//! How the outcome of a restore reaches its status.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::names::{GROUP, VERSION};
use crate::{MetadataRestoreStatus, Phase};

/// What is to be said of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The job is created or has begun.
    Started,
    /// The data is on the volume and its hash is right.
    Completed(RestoreFigures),
    /// It ended without success, or cannot begin; the message says why and what to do.
    Failed(String),
}

/// Figures of a restore that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFigures {
    /// Id of the snapshot, in full.
    pub snapshot_id: String,
    /// Bytes written.
    pub bytes: u64,
    /// What to know about it: warnings, or nothing.
    pub message: String,
}

/// A word about a restore, to be merged into what the status already says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// UID of the Job; none if the restore could not get one.
    pub job_uid: Option<String>,
    /// Generation of the restore that is spoken of.
    pub generation: i64,
    /// What happened.
    pub outcome: RestoreOutcome,
}

impl RestoreReport {
    /// The status after this report, or `None` if it must not be written: an end is final for its generation, unless the job that
    /// was called failed succeeds after all; and a word about an older specification comes too late.
    #[must_use]
    pub fn merge(&self, old: &MetadataRestoreStatus, now: Timestamp) -> Option<MetadataRestoreStatus> {
        let too_late = old.observed_generation.is_some_and(|known| known > self.generation);
        let same = old.observed_generation == Some(self.generation);
        let ended = match old.restore_status {
            Some(Phase::Completed) => true,
            Some(Phase::Failed) => !(self.succeeded() && old.restore_job_uid == self.job_uid),
            Some(Phase::Initializing) => self.outcome == RestoreOutcome::Started,
            None => false,
        };
        if too_late || (same && ended) {
            return None;
        }
        let mut status = MetadataRestoreStatus {
            observed_generation: Some(self.generation),
            restore_status: Some(Phase::Initializing),
            restore_error_message: Some(String::new()),
            restore_time: Some(now.to_string()),
            restore_job_uid: self.job_uid.clone(),
            ..MetadataRestoreStatus::default()
        };
        match &self.outcome {
            RestoreOutcome::Started => {}
            RestoreOutcome::Failed(message) => {
                status.restore_status = Some(Phase::Failed);
                status.restore_error_message = Some(message.clone());
            }
            RestoreOutcome::Completed(RestoreFigures { snapshot_id, bytes, message }) => {
                status.restore_status = Some(Phase::Completed);
                status.restore_message = Some(message.clone()).filter(|message| !message.is_empty());
                status.snapshot_id = Some(snapshot_id.clone());
                status.total_bytes_restored = i64::try_from(*bytes).ok();
            }
        }
        Some(status)
    }

    /// Whether this report tells of a success.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        matches!(self.outcome, RestoreOutcome::Completed(_))
    }
}

/// The server-side apply of a restore's `/status`; see [`crate::run_status_patch`].
#[must_use]
pub fn restore_status_patch(restore: &str, resource_version: &str, status: &MetadataRestoreStatus) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "MetadataRestore",
        "metadata": { "name": restore, "resourceVersion": resource_version },
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(uid: Option<&str>, generation: i64, outcome: RestoreOutcome) -> RestoreReport {
        RestoreReport { job_uid: uid.map(str::to_owned), generation, outcome }
    }

    fn after(reports: &[RestoreReport]) -> MetadataRestoreStatus {
        reports.iter().fold(MetadataRestoreStatus::default(), |old, report| {
            report.merge(&old, Timestamp::UNIX_EPOCH).unwrap_or(old)
        })
    }

    fn completed() -> RestoreOutcome {
        let figures = RestoreFigures { snapshot_id: "ab".repeat(32), bytes: 7, message: String::new() };
        RestoreOutcome::Completed(figures)
    }

    fn failed() -> RestoreOutcome {
        RestoreOutcome::Failed("no such claim".into())
    }

    #[test]
    fn an_end_is_final_for_its_specification() {
        for end in [completed(), failed()] {
            let status = after(&[report(Some("a"), 1, end)]);
            for late in [RestoreOutcome::Started, failed()] {
                assert_eq!(report(Some("a"), 1, late).merge(&status, Timestamp::UNIX_EPOCH), None);
            }
        }
    }

    #[test]
    fn a_success_replaces_a_failure_that_was_reported_too_early() {
        let status = after(&[report(Some("a"), 1, failed()), report(Some("a"), 1, completed())]);
        assert_eq!((status.restore_status, status.total_bytes_restored), (Some(Phase::Completed), Some(7)));
        assert_eq!(status.restore_error_message.as_deref(), Some(""));
    }

    #[test]
    fn a_changed_specification_begins_anew_and_the_old_ones_words_come_too_late() {
        let status = after(&[report(None, 1, failed()), report(Some("b"), 2, RestoreOutcome::Started)]);
        assert_eq!(status.restore_status, Some(Phase::Initializing));
        assert_eq!(report(Some("a"), 1, completed()).merge(&status, Timestamp::UNIX_EPOCH), None);
    }
}
