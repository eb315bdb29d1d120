//! What is to be done about a location.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kubedr_api::names::annotation;
use kubedr_api::{BackupLocationStatus, ConditionReason, Phase};

use super::volume::{Reach, Storage};
use crate::failure::{condition, ended_at};
use crate::standing::Standing;

/// Time from the first failure to the second try; it doubles with every failure.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(15);
/// Longest time between two tries.
const LAST_RETRY: SignedDuration = SignedDuration::from_mins(10);

/// What an init job initialises: a specification with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Generation of the location.
    pub generation: i64,
    /// Resource version of its Secret, empty if there is none; with `caCert`, followed by a `+` and that of the object with
    /// the certificates.
    pub credentials_version: String,
}

/// How far an init job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has not ended.
    Active,
    /// It is being deleted.
    Leaving,
    /// It ended with exit code 0.
    Succeeded,
    /// It ended without success.
    Failed,
}

/// An init job of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitJob {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// What it initialises.
    pub wanted: Wanted,
    /// Which try it is.
    pub attempt: u32,
    /// How far it has come.
    pub progress: Progress,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl InitJob {
    /// What is to be known of this Job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let annotation = |key: &str| job.annotations().get(key).map(String::as_str).unwrap_or_default();
        let progress = if job.metadata.deletion_timestamp.is_some() {
            Progress::Leaving
        } else if condition(job, "Complete").is_some() {
            Progress::Succeeded
        } else if condition(job, "Failed").is_some() {
            Progress::Failed
        } else {
            Progress::Active
        };
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            wanted: Wanted {
                generation: annotation(annotation::GENERATION).parse().unwrap_or_default(),
                credentials_version: annotation(annotation::CREDENTIALS_VERSION).to_owned(),
            },
            attempt: annotation(annotation::ATTEMPT).parse().unwrap_or(1),
            progress,
            ended: ended_at(job),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the location is initialised as it is wanted.
    Settled,
    /// Wait for the Job.
    Follow {
        /// UID of the Job.
        uid: String,
    },
    /// Delete a Job that initialises what is no longer wanted. Nothing else starts before it is gone, so that its last
    /// words come before the first ones of its successor.
    Abandon {
        /// Name of the Job.
        name: String,
    },
    /// Wait until a Job that is being deleted is gone.
    AwaitEnd,
    /// Create a Job.
    Start {
        /// Which try it is.
        attempt: u32,
        /// From where the storage can be reached.
        reach: Reach,
    },
    /// Tell that no Job could do it.
    Refuse {
        /// Why, and what to do.
        message: String,
    },
    /// Try again after this time.
    RetryAfter {
        /// How long to wait.
        wait: Duration,
        /// When that is.
        at: Timestamp,
    },
}

/// What is known of a location.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its status.
    pub status: &'a BackupLocationStatus,
    /// Its init jobs.
    pub jobs: &'a [InitJob],
    /// Its storage.
    pub storage: &'a Storage,
}

/// What is to be done about a location of which this is known.
#[must_use]
pub fn decide(wanted: &Wanted, known: Known<'_>, now: Timestamp) -> Action {
    let Known { status, jobs, storage } = known;
    if let Some(old) = jobs.iter().find(|job| job.progress == Progress::Active && job.wanted != *wanted) {
        return Action::Abandon { name: old.name.clone() };
    }
    if jobs.iter().any(|job| job.progress == Progress::Leaving) {
        return Action::AwaitEnd;
    }
    if is_initialized(wanted, status) && matches!(storage, Storage::Usable(_)) {
        return Action::Settled;
    }
    if let Some(job) = jobs.iter().find(|job| job.progress == Progress::Active) {
        return Action::Follow { uid: job.uid.clone() };
    }
    let reach = match storage {
        Storage::Usable(reach) => *reach,
        Storage::NodeGone { .. } => Reach::OneNode,
        Storage::Unusable(message) => return Action::Refuse { message: message.clone() },
    };
    let last = jobs.iter().filter(|job| job.wanted == *wanted).max_by_key(|job| job.attempt);
    let Some(last) = last else { return Action::Start { attempt: 1, reach } };
    let at = last.ended.unwrap_or(now).saturating_add(retry_after(last.attempt)).unwrap_or(now);
    if at <= now {
        return Action::Start { attempt: last.attempt.saturating_add(1), reach };
    }
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Action::RetryAfter { wait: wait + Duration::from_millis(50), at }
}

/// Whether the status says that what is wanted is initialised.
#[must_use]
pub fn is_initialized(wanted: &Wanted, status: &BackupLocationStatus) -> bool {
    status.init_status == Some(Phase::Completed)
        && status.observed_generation == Some(wanted.generation)
        && status.credentials_version.as_deref() == Some(wanted.credentials_version.as_str())
}

/// The condition of a location about which this is to be done.
#[must_use]
pub fn standing(action: &Action, known: Known<'_>) -> Standing {
    let status = known.status;
    let error = status.init_error_message.as_deref().filter(|message| !message.is_empty());
    let failed = status.init_status == Some(Phase::Failed);
    let (reason, message) = match action {
        Action::Settled => (
            ConditionReason::Initialized,
            "the repository is initialised and opens with the password".to_owned(),
        ),
        Action::Follow { uid } if failed && status.init_job_uid.as_deref() == Some(uid) => {
            (ConditionReason::InitFailed, error.unwrap_or("the init job failed").to_owned())
        }
        Action::Follow { .. } | Action::Abandon { .. } | Action::AwaitEnd | Action::Start { .. } => {
            (ConditionReason::Initializing, "an init job is at work".to_owned())
        }
        Action::Refuse { message } => (ConditionReason::InitFailed, message.clone()),
        Action::RetryAfter { at, .. } => {
            let at = at.round(jiff::Unit::Second).unwrap_or(*at);
            let next = format!("next try at {at}, or as soon as location or Secret change");
            match error.filter(|_| failed) {
                Some(error) => (ConditionReason::InitFailed, format!("{error}; {next}")),
                None => (
                    ConditionReason::Initializing,
                    format!("the init job has ended and its report is awaited; {next}"),
                ),
            }
        }
    };
    match known.storage {
        Storage::NodeGone { node } => {
            let message =
                format!("node `{node}`, which had the volume, is gone, and another is looked for: {message}");
            Standing { reason, message }
        }
        Storage::Usable(_) | Storage::Unusable(_) => Standing { reason, message },
    }
}

fn retry_after(attempt: u32) -> SignedDuration {
    let doubled = 1_i32.checked_shl(attempt.saturating_sub(1).min(16)).unwrap_or(i32::MAX);
    (FIRST_RETRY * doubled).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: Storage = Storage::Usable(Reach::EveryNode);

    fn decide(wanted: &Wanted, status: &BackupLocationStatus, jobs: &[InitJob], now: Timestamp) -> Action {
        super::decide(wanted, Known { status, jobs, storage: &S3 }, now)
    }

    fn standing(action: &Action, status: &BackupLocationStatus) -> Standing {
        super::standing(action, Known { status, jobs: &[], storage: &S3 })
    }

    fn start(attempt: u32) -> Action {
        Action::Start { attempt, reach: Reach::EveryNode }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wanted(generation: i64, version: &str) -> Wanted {
        Wanted { generation, credentials_version: version.into() }
    }

    fn job(wanted: Wanted, attempt: u32, progress: Progress, ended: i64) -> InitJob {
        let ended = matches!(progress, Progress::Failed | Progress::Succeeded).then(|| at(ended));
        InitJob { name: format!("j{attempt}"), uid: format!("u{attempt}"), wanted, attempt, progress, ended }
    }

    fn status(phase: Phase, generation: i64, version: &str) -> BackupLocationStatus {
        BackupLocationStatus {
            init_status: Some(phase),
            observed_generation: Some(generation),
            credentials_version: Some(version.into()),
            init_error_message: Some("no route".into()),
            init_job_uid: Some("u1".into()),
            ..BackupLocationStatus::default()
        }
    }

    #[test]
    fn a_new_location_is_initialised() {
        let none = BackupLocationStatus::default();
        assert_eq!(decide(&wanted(1, "5"), &none, &[], at(0)), start(1));
    }

    #[test]
    fn an_initialised_location_stays_as_it_is_when_its_jobs_are_gone() {
        assert_eq!(decide(&wanted(1, "5"), &status(Phase::Completed, 1, "5"), &[], at(0)), Action::Settled);
    }

    #[test]
    fn a_changed_specification_or_secret_is_initialised_anew_at_once() {
        let done = [job(wanted(1, "5"), 3, Progress::Succeeded, 0)];
        for new in [wanted(2, "5"), wanted(1, "6"), wanted(1, "")] {
            let action = decide(&new, &status(Phase::Completed, 1, "5"), &done, at(1));
            assert_eq!(action, start(1), "{new:?}");
        }
    }

    #[test]
    fn a_job_for_what_is_no_longer_wanted_is_abandoned_and_its_end_awaited() {
        let mut old = job(wanted(1, "5"), 1, Progress::Active, 0);
        let none = BackupLocationStatus::default();
        let decide = |old: &InitJob| decide(&wanted(2, "5"), &none, std::slice::from_ref(old), at(1));
        assert_eq!(decide(&old), Action::Abandon { name: "j1".into() });
        old.progress = Progress::Leaving;
        assert_eq!(decide(&old), Action::AwaitEnd);
    }

    #[test]
    fn a_job_at_work_is_followed() {
        let jobs = [job(wanted(1, "5"), 1, Progress::Active, 0)];
        let action = decide(&wanted(1, "5"), &BackupLocationStatus::default(), &jobs, at(1));
        assert_eq!(action, Action::Follow { uid: "u1".into() });
    }

    #[test]
    fn a_job_that_has_reported_its_success_need_not_have_ended() {
        let jobs = [job(wanted(1, "5"), 1, Progress::Active, 0)];
        assert_eq!(decide(&wanted(1, "5"), &status(Phase::Completed, 1, "5"), &jobs, at(1)), Action::Settled);
    }

    #[test]
    fn tries_come_at_growing_intervals() {
        for (attempt, seconds) in
            [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 480), (7, 600), (80, 600)]
        {
            let jobs = [job(wanted(1, "5"), attempt, Progress::Failed, 1000)];
            let after =
                |second| decide(&wanted(1, "5"), &status(Phase::Failed, 1, "5"), &jobs, at(1000 + second));
            assert_eq!(after(seconds), start(attempt + 1));
            assert!(
                matches!(after(seconds - 1), Action::RetryAfter { at: next, .. } if next == at(1000 + seconds))
            );
        }
    }

    #[test]
    fn a_success_that_no_status_tells_of_is_tried_again() {
        let jobs = [job(wanted(1, "5"), 1, Progress::Succeeded, 0)];
        let none = BackupLocationStatus::default();
        assert!(matches!(decide(&wanted(1, "5"), &none, &jobs, at(1)), Action::RetryAfter { .. }));
        assert_eq!(decide(&wanted(1, "5"), &none, &jobs, at(15)), start(2));
    }

    #[test]
    fn the_condition_of_a_failed_location_says_why_and_when_it_is_tried_again() {
        let action = Action::RetryAfter { wait: Duration::ZERO, at: at(60) };
        let standing = standing(&action, &status(Phase::Failed, 1, "5"));
        assert_eq!(standing.reason, ConditionReason::InitFailed);
        assert!(
            standing.message.starts_with("no route; next try at 1970-01-01T00:01:00Z"),
            "{}",
            standing.message
        );
    }

    #[test]
    fn a_job_that_cannot_start_shows_in_the_condition_while_it_is_there() {
        let action = Action::Follow { uid: "u1".into() };
        assert_eq!(standing(&action, &status(Phase::Failed, 1, "5")).reason, ConditionReason::InitFailed);
        assert_eq!(
            standing(&action, &status(Phase::Initializing, 1, "5")).reason,
            ConditionReason::Initializing
        );
    }

    #[test]
    fn a_volume_that_cannot_be_used_is_told_and_no_job_started_even_if_it_once_could() {
        let unusable = Storage::Unusable("there is no claim `v`".into());
        for status in [BackupLocationStatus::default(), status(Phase::Completed, 1, "5")] {
            let known = Known { status: &status, jobs: &[], storage: &unusable };
            let action = super::decide(&wanted(1, "5"), known, at(0));
            assert_eq!(action, Action::Refuse { message: "there is no claim `v`".into() });
            let standing = super::standing(&action, known);
            assert_eq!(
                (standing.reason, standing.message.as_str()),
                (ConditionReason::InitFailed, "there is no claim `v`")
            );
        }
    }

    #[test]
    fn a_volume_whose_node_is_gone_is_looked_for_on_another() {
        let (status, gone) = (status(Phase::Completed, 1, "5"), Storage::NodeGone { node: "m1".into() });
        let known = Known { status: &status, jobs: &[], storage: &gone };
        let action = super::decide(&wanted(1, "5"), known, at(0));
        assert_eq!(action, Action::Start { attempt: 1, reach: Reach::OneNode });
        let message = super::standing(&action, known).message;
        assert!(message.starts_with("node `m1`, which had the volume, is gone"), "{message}");
    }
}
