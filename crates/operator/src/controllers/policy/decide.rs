//! What is to be done about a policy.

use k8s_openapi::api::batch::v1::CronJob;
use kubedr_api::names::annotation;
use kubedr_api::task::env;
use kubedr_api::{AccessMode, BackupLocation, ConditionReason, MetadataBackupPolicySpec, Phase};

use crate::destination::Destination;
use crate::standing::Standing;

/// Where the backups of this CronJob go; `None` if it was edited beyond recognition.
#[must_use]
pub fn destination_of(cron_job: &CronJob) -> Option<Destination> {
    let noted = cron_job.metadata.annotations.as_ref().and_then(|all| all.get(annotation::DESTINATION));
    if let Some(destination) = noted.and_then(|text| serde_json::from_str(text).ok()) {
        return Some(destination);
    }
    // Before locations had more than these three, nothing was noted.
    let pod = cron_job.spec.as_ref()?.job_template.spec.as_ref()?.template.spec.as_ref()?;
    let variables = pod.containers.first()?.env.as_ref()?;
    let value = |name: &str| variables.iter().find(|variable| variable.name == name)?.value.clone();
    Some(Destination {
        location: value(env::LOCATION)?,
        repository: value(env::REPOSITORY)?,
        credentials: value(env::CREDENTIALS)?,
        region: None,
        ca_cert: None,
        insecure_skip_tls_verify: false,
        force_path_style: true,
        access_mode: AccessMode::ReadWrite,
        claim: None,
        node: None,
    })
}

/// What is known of the location that a policy names.
#[derive(Clone, Debug, PartialEq)]
pub enum LocationState {
    /// There is none.
    Missing,
    /// It is initialised as it is specified.
    Ready(Destination),
    /// It has yet to be initialised as it is specified.
    NotReady {
        /// What it specifies.
        wanted: Destination,
        /// Why the last try failed, if it did.
        error: Option<String>,
    },
}

impl LocationState {
    /// What is known of this location.
    #[must_use]
    pub fn of(location: Option<&BackupLocation>) -> Self {
        let Some(location) = location else { return Self::Missing };
        let status = location.status.clone().unwrap_or_default();
        let current = status.observed_generation == location.metadata.generation;
        let destination = Destination::of(location);
        match status.init_status {
            Some(Phase::Completed) if current => Self::Ready(destination),
            Some(Phase::Failed) => {
                let error = status.init_error_message.unwrap_or_else(|| "initialisation failed".to_owned());
                Self::NotReady { wanted: destination, error: Some(error) }
            }
            _ => Self::NotReady { wanted: destination, error: None },
        }
    }
}

/// What is to be done about the CronJob.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Apply it, with backups going there.
    Apply(Box<Destination>),
    /// Suspend the one that is there and leave it otherwise as it is.
    Suspend,
    /// Nothing.
    Leave,
}

/// What is to be done about a policy, and how it stands when that is done.
#[must_use]
pub fn decide(
    spec: &MetadataBackupPolicySpec,
    location: &LocationState,
    cron_job: Option<&CronJob>,
) -> (Action, Standing) {
    let name = &spec.destination;
    let existing = cron_job.and_then(destination_of);
    match (location, existing) {
        (LocationState::Missing, _) => {
            let action = if cron_job.is_some() { Action::Suspend } else { Action::Leave };
            (action, not_found(name))
        }
        // From the moment that it is asked for: nothing is written while the location is being initialised as such.
        (LocationState::Ready(destination) | LocationState::NotReady { wanted: destination, .. }, _)
            if destination.is_read_only() =>
        {
            let action = if cron_job.is_some() { Action::Suspend } else { Action::Leave };
            (action, read_only(name))
        }
        (LocationState::Ready(destination), _) => {
            (Action::Apply(Box::new(destination.clone())), in_place(spec))
        }
        (LocationState::NotReady { wanted, error: None }, Some(existing)) if existing == *wanted => {
            // Its Secret has changed and is being tried: nothing that a policy's owner has to know of.
            (Action::Apply(Box::new(existing)), in_place(spec))
        }
        (LocationState::NotReady { error, .. }, Some(existing)) => {
            let message = format!(
                "BackupLocation `{name}` is not initialised{}; until it is, backups go on to `{}`",
                because(error.as_deref()),
                existing.repository
            );
            (
                Action::Apply(Box::new(existing)),
                Standing { reason: ConditionReason::LocationNotReady, message },
            )
        }
        (LocationState::NotReady { error, .. }, None) => {
            let message = format!(
                "BackupLocation `{name}` is not initialised{}; backups are scheduled as soon as it is",
                because(error.as_deref())
            );
            (Action::Leave, Standing { reason: ConditionReason::LocationNotReady, message })
        }
    }
}

fn not_found(name: &str) -> Standing {
    Standing {
        reason: ConditionReason::LocationNotFound,
        message: format!(
            "there is no BackupLocation `{name}` in this namespace, so no backup is taken; create it or correct \
             `spec.destination`"
        ),
    }
}

fn read_only(name: &str) -> Standing {
    Standing {
        reason: ConditionReason::LocationReadOnly,
        message: format!(
            "BackupLocation `{name}` has `accessMode: ReadOnly`, so no backup is taken; name another location in \
             `spec.destination`, or change its access mode"
        ),
    }
}

fn in_place(spec: &MetadataBackupPolicySpec) -> Standing {
    if spec.suspend {
        let message = "the schedule is paused by `spec.suspend`".to_owned();
        return Standing { reason: ConditionReason::Suspended, message };
    }
    let zone = spec.time_zone.as_ref().map_or_else(String::new, |zone| format!(" of `{zone}`"));
    Standing {
        reason: ConditionReason::Scheduled,
        message: format!("backups are taken at `{}`{zone}", spec.schedule),
    }
}

fn because(error: Option<&str>) -> String {
    error.map_or_else(String::new, |error| format!(" ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MetadataBackupPolicySpec {
        serde_norway::from_str("{destination: s3, schedule: '@daily'}").unwrap()
    }

    fn destination(bucket: &str) -> Destination {
        Destination {
            location: "s3".into(),
            repository: format!("s3:http://10.1.1.1/{bucket}"),
            credentials: "creds".into(),
            region: None,
            ca_cert: None,
            insecure_skip_tls_verify: false,
            force_path_style: true,
            access_mode: AccessMode::ReadWrite,
            claim: None,
            node: None,
        }
    }

    fn cron_job(bucket: &str) -> CronJob {
        serde_norway::from_str(&format!(
            "{{spec: {{schedule: '@daily', jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: c, env: [{{name: \
             RESTIC_REPOSITORY, value: 's3:http://10.1.1.1/{bucket}'}}, {{name: KUBEDR_LOCATION, value: s3}}, {{name: \
             KUBEDR_CREDENTIALS, value: creds}}]}}]}}}}}}}}}}}}"
        ))
        .unwrap()
    }

    fn not_ready(error: Option<&str>) -> LocationState {
        LocationState::NotReady { wanted: destination("new"), error: error.map(str::to_owned) }
    }

    fn reason(decision: &(Action, Standing)) -> ConditionReason {
        decision.1.reason
    }

    #[test]
    fn a_missing_location_suspends_what_is_there() {
        let decision = decide(&spec(), &LocationState::Missing, Some(&cron_job("old")));
        assert_eq!((&decision.0, reason(&decision)), (&Action::Suspend, ConditionReason::LocationNotFound));
        assert_eq!(decide(&spec(), &LocationState::Missing, None).0, Action::Leave);
    }

    #[test]
    fn a_location_that_was_never_initialised_gives_no_cron_job() {
        let decision = decide(&spec(), &not_ready(Some("no route")), None);
        assert_eq!((&decision.0, reason(&decision)), (&Action::Leave, ConditionReason::LocationNotReady));
        assert!(decision.1.message.contains("(no route)"), "{}", decision.1.message);
    }

    #[test]
    fn a_ready_location_gives_a_cron_job_that_is_suspended_if_the_policy_asks() {
        let ready = LocationState::Ready(destination("new"));
        let decision = decide(&spec(), &ready, None);
        assert_eq!(decision.0, Action::Apply(Box::new(destination("new"))));
        assert_eq!(reason(&decision), ConditionReason::Scheduled);
        assert_eq!(decision.1.message, "backups are taken at `@daily`");
        let elsewhere = MetadataBackupPolicySpec { time_zone: Some("Asia/Tokyo".to_owned()), ..spec() };
        assert_eq!(
            decide(&elsewhere, &ready, None).1.message,
            "backups are taken at `@daily` of `Asia/Tokyo`"
        );
        let paused = MetadataBackupPolicySpec { suspend: true, ..spec() };
        assert_eq!(reason(&decide(&paused, &ready, None)), ConditionReason::Suspended);
    }

    #[test]
    fn until_a_changed_location_is_initialised_backups_go_on_to_the_old_place() {
        let decision = decide(&spec(), &not_ready(None), Some(&cron_job("old")));
        assert_eq!(decision.0, Action::Apply(Box::new(destination("old"))));
        assert_eq!(reason(&decision), ConditionReason::LocationNotReady);
        assert!(decision.1.message.contains("`s3:http://10.1.1.1/old`"), "{}", decision.1.message);
    }

    #[test]
    fn a_secret_that_is_being_tried_disturbs_no_policy() {
        let decision = decide(&spec(), &not_ready(None), Some(&cron_job("new")));
        assert_eq!(reason(&decision), ConditionReason::Scheduled);
        let decision = decide(&spec(), &not_ready(Some("wrong keys")), Some(&cron_job("new")));
        assert_eq!(reason(&decision), ConditionReason::LocationNotReady);
    }

    #[test]
    fn a_location_whose_status_speaks_of_an_older_specification_is_not_ready() {
        let location: BackupLocation = serde_norway::from_str(
            "{apiVersion: kubedr.catalogicsoftware.com/v1alpha1, kind: BackupLocation, metadata: {name: s3, generation: 2}, \
             spec: {url: 'http://10.1.1.1', bucketName: new, credentials: creds}, status: {initStatus: Completed, \
             observedGeneration: 1}}",
        )
        .unwrap();
        assert_eq!(LocationState::of(Some(&location)), not_ready(None));
        let mut current = location;
        current.metadata.generation = Some(1);
        assert_eq!(LocationState::of(Some(&current)), LocationState::Ready(destination("new")));
    }
}
