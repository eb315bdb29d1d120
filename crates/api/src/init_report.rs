//! How the outcome of an init job reaches a location's status.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::names::{GROUP, VERSION};
use crate::{BackupLocationStatus, Phase};

/// What is to be said of an init job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitOutcome {
    /// The job is created or has begun.
    Started,
    /// The repository is initialised and opens with the password.
    Completed {
        /// Its id.
        repository_id: String,
        /// Node on which all jobs have to run, if the volume can be mounted on one node at a time.
        volume_node: Option<String>,
    },
    /// The job ended without success; the message says why and what to do.
    Failed(String),
}

/// A word about an init job, to be merged into what the status already says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// UID of the Job.
    pub job_uid: String,
    /// Generation of the location that the Job initialises.
    pub generation: i64,
    /// Resource version of the Secret that the Job uses.
    pub credentials_version: String,
    /// What happened.
    pub outcome: InitOutcome,
}

impl InitReport {
    /// The init fields of the status after this report, or `None` if it must not be written: what ended does not begin
    /// again, a success is final for its Job, and a word about an older specification comes too late.
    #[must_use]
    pub fn merge(&self, old: &BackupLocationStatus, now: Timestamp) -> Option<BackupLocationStatus> {
        let ended = matches!(old.init_status, Some(Phase::Completed | Phase::Failed));
        let same_job = old.init_job_uid.as_deref() == Some(self.job_uid.as_str());
        let too_late = old.observed_generation.is_some_and(|known| known > self.generation);
        let said = same_job && (old.init_status == Some(Phase::Completed) || (ended && !self.succeeded()));
        let begun = same_job && old.init_status.is_some() && self.outcome == InitOutcome::Started;
        if too_late || said || begun {
            return None;
        }
        let (phase, message, repository_id) = match &self.outcome {
            InitOutcome::Started => (Phase::Initializing, String::new(), None),
            InitOutcome::Completed { repository_id, .. } => {
                (Phase::Completed, String::new(), Some(repository_id.clone()))
            }
            InitOutcome::Failed(message) => (Phase::Failed, message.clone(), None),
        };
        let volume_node = match &self.outcome {
            InitOutcome::Completed { volume_node, .. } => volume_node.clone(),
            // Until it is known that it is elsewhere.
            InitOutcome::Started | InitOutcome::Failed(_) => old.volume_node.clone(),
        };
        Some(BackupLocationStatus {
            observed_generation: Some(self.generation),
            init_status: Some(phase),
            init_error_message: Some(message),
            init_time: Some(now.to_string()),
            repository_id,
            credentials_version: Some(self.credentials_version.clone()),
            init_job_uid: Some(self.job_uid.clone()),
            volume_node,
            // The rest has other writers.
            ..BackupLocationStatus::default()
        })
    }

    /// Whether this report tells of a success.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        matches!(self.outcome, InitOutcome::Completed { .. })
    }
}

/// The server-side apply of the init fields onto a location's `/status`; see [`crate::run_status_patch`].
#[must_use]
pub fn init_status_patch(location: &str, resource_version: &str, status: &BackupLocationStatus) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "BackupLocation",
        "metadata": { "name": location, "resourceVersion": resource_version },
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(uid: &str, generation: i64, outcome: InitOutcome) -> InitReport {
        InitReport { job_uid: uid.into(), generation, credentials_version: "5".into(), outcome }
    }

    fn after(reports: &[InitReport]) -> BackupLocationStatus {
        reports.iter().fold(BackupLocationStatus::default(), |old, report| {
            report.merge(&old, Timestamp::UNIX_EPOCH).unwrap_or(old)
        })
    }

    fn completed() -> InitOutcome {
        InitOutcome::Completed { repository_id: "ab".repeat(32), volume_node: Some("m1".into()) }
    }

    #[test]
    fn a_success_clears_the_error_of_the_try_before() {
        let status =
            after(&[report("a", 1, InitOutcome::Failed("no route".into())), report("b", 1, completed())]);
        assert_eq!(status.init_status, Some(Phase::Completed));
        assert_eq!(status.init_error_message.as_deref(), Some(""));
        assert_eq!(status.credentials_version.as_deref(), Some("5"));
    }

    #[test]
    fn a_success_is_final_for_its_job() {
        let status = after(&[report("a", 1, completed())]);
        for late in [InitOutcome::Started, InitOutcome::Failed("late".into())] {
            assert_eq!(report("a", 1, late).merge(&status, Timestamp::UNIX_EPOCH), None);
        }
    }

    #[test]
    fn a_word_about_an_older_specification_comes_too_late() {
        let status = after(&[report("b", 2, InitOutcome::Started)]);
        assert_eq!(report("a", 1, completed()).merge(&status, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn a_new_specification_begins_anew() {
        let status = after(&[report("a", 1, completed()), report("b", 2, InitOutcome::Started)]);
        assert_eq!((status.init_status, status.repository_id), (Some(Phase::Initializing), None));
    }

    #[test]
    fn the_node_that_has_the_volume_is_known_until_another_has_it() {
        let failed = InitOutcome::Failed("no".into());
        let mut reports =
            vec![report("a", 1, completed()), report("b", 2, InitOutcome::Started), report("b", 2, failed)];
        assert_eq!(after(&reports).volume_node.as_deref(), Some("m1"));
        let everywhere = InitOutcome::Completed { repository_id: "cd".repeat(32), volume_node: None };
        reports.push(report("c", 2, everywhere));
        assert_eq!(after(&reports).volume_node, None);
    }
}
