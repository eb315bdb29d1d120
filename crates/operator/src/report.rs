//! Writes what became of a run: status, then event. Both may be repeated without harm.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use kubedr_api::names::field_manager;
use kubedr_api::{
    BackupLocation, BackupLocationStatus, ConditionReason, ConditionType, EventReason, EventSubject,
    InitOutcome, InitReport, MetadataBackupPolicy, MetadataBackupPolicyStatus, Phase, RunIdentity,
    RunOutcome, RunReport, event_for, init_status_patch, run_status_patch, set_condition,
};

use crate::api_call::{ApiError, call};
use crate::context::Context;

/// Attempts to write a status that others write at the same time. Each conflict means that another writer got through.
const ATTEMPTS: usize = 8;
/// Events are gone after an hour by default. One about a run that ended before that and whose status tells of it already
/// is there or was; it is not created again.
const EVENT_LIFETIME: SignedDuration = SignedDuration::from_mins(50);

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The object changed between each read and write.
    #[error("`{name}` changed {ATTEMPTS} times while its status was to be written")]
    Conflict {
        /// Name of the object.
        name: String,
    },
}

/// Tells a policy that a run failed or cannot start; `ended` is when it did.
pub async fn backup_failed(
    ctx: &Context,
    policy: &str,
    run: RunIdentity,
    outcome: RunOutcome,
    ended: Timestamp,
) -> Result<(), ReportError> {
    let (RunOutcome::Failed(message) | RunOutcome::CannotStart(message)) = outcome.clone() else {
        return Ok(());
    };
    let api = ctx.api::<MetadataBackupPolicy>();
    let job_uid = run.job_uid.clone();
    let report = RunReport { run, outcome };
    for _ in 0..ATTEMPTS {
        let Some(found) = call(|| format!("read policy `{policy}`"), api.get_opt(policy)).await? else {
            return Ok(());
        };
        let now = Timestamp::now();
        let known = found.status.clone().unwrap_or_default();
        if succeeded(&known, &job_uid) {
            // The job told of its success and failed afterwards, or our view of it is stale.
            return Ok(());
        }
        if let Some(status) = report.merge(&known, now) {
            let patch = run_status_patch(policy, &found.resource_version().unwrap_or_default(), &status);
            let params = PatchParams::apply(field_manager::JOB).force();
            let action = || format!("write the status of policy `{policy}`");
            tracing::info!(policy, job = report.run.job_name, reason = message, "a backup failed");
            match call(action, api.patch_status(policy, &params, &Patch::Apply(&patch))).await {
                Err(error) if error.is_conflict() => continue,
                written => written.map(|_| ())?,
            }
        } else if now.duration_since(ended) > EVENT_LIFETIME {
            return Ok(());
        }
        return event(
            ctx,
            &subject("MetadataBackupPolicy", &found),
            EventReason::BackupFailed,
            &job_uid,
            &message,
        )
        .await;
    }
    Err(ReportError::Conflict { name: policy.to_owned() })
}

fn succeeded(status: &MetadataBackupPolicyStatus, job_uid: &str) -> bool {
    status.backup_status == Some(Phase::Completed)
        && status.last_run.as_ref().is_some_and(|run| run.job_uid == job_uid)
}

/// Tells a location that an init job has begun or failed.
pub async fn init(
    ctx: &Context,
    location: &str,
    report: &InitReport,
    ended: Timestamp,
) -> Result<(), ReportError> {
    let api = ctx.api::<BackupLocation>();
    for _ in 0..ATTEMPTS {
        let Some(found) = call(|| format!("read location `{location}`"), api.get_opt(location)).await? else {
            return Ok(());
        };
        let now = Timestamp::now();
        if let Some(status) = report.merge(&found.status.clone().unwrap_or_default(), now) {
            let patch = init_status_patch(location, &found.resource_version().unwrap_or_default(), &status);
            let params = PatchParams::apply(field_manager::JOB).force();
            let action = || format!("write the status of location `{location}`");
            if let InitOutcome::Failed(reason) = &report.outcome {
                tracing::info!(location, reason, "an init job failed");
            }
            match call(action, api.patch_status(location, &params, &Patch::Apply(&patch))).await {
                Err(error) if error.is_conflict() => continue,
                written => written.map(|_| ())?,
            }
        } else if now.duration_since(ended) > EVENT_LIFETIME {
            return Ok(());
        }
        let InitOutcome::Failed(message) = &report.outcome else { return Ok(()) };
        return event(
            ctx,
            &subject("BackupLocation", &found),
            EventReason::InitFailed,
            &report.job_uid,
            message,
        )
        .await;
    }
    Err(ReportError::Conflict { name: location.to_owned() })
}

/// A maintenance job that failed or cannot start.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Name of the location.
    pub location: &'a str,
    /// UID of the Job.
    pub job: &'a str,
    /// Why.
    pub message: &'a str,
    /// When.
    pub ended: Timestamp,
}

/// Tells a location that it could not be looked at: event if that is news, then condition.
pub async fn sync_failed(ctx: &Context, failure: Failure<'_>) -> Result<(), ReportError> {
    let Failure { location, job, message, ended } = failure;
    let api = ctx.api::<BackupLocation>();
    for _ in 0..ATTEMPTS {
        let Some(found) = call(|| format!("read location `{location}`"), api.get_opt(location)).await? else {
            return Ok(());
        };
        let known = found.status.clone().unwrap_or_default();
        let Some((status, is_news)) = unavailable(&known, message, found.metadata.generation, ended) else {
            return Ok(());
        };
        if is_news {
            event(ctx, &subject("BackupLocation", &found), EventReason::Unavailable, job, message).await?;
        }
        let version = found.resource_version().unwrap_or_default();
        let patch = init_status_patch(location, &version, &status);
        let params = PatchParams::apply(field_manager::SYNC).force();
        let action = || format!("write the status of location `{location}`");
        tracing::info!(location, reason = message, "a location could not be looked at");
        match call(action, api.patch_status(location, &params, &Patch::Apply(&patch))).await {
            Err(error) if error.is_conflict() => {}
            written => return Ok(written.map(|_| ())?),
        }
    }
    Err(ReportError::Conflict { name: location.to_owned() })
}

/// A sync job's fields of the status after a job that ended then without success, and whether that is news; `None` if a later
/// job was successful or the status says it already.
fn unavailable(
    known: &BackupLocationStatus,
    message: &str,
    generation: Option<i64>,
    ended: Timestamp,
) -> Option<(BackupLocationStatus, bool)> {
    let looked = known.last_validation_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    // A time that has not come yet is that of a clock which was wrong.
    if looked.is_some_and(|looked| looked > ended && looked <= Timestamp::now()) {
        return None;
    }
    let ours = [ConditionType::Available.as_str(), ConditionType::CatalogComplete.as_str()];
    let old: Vec<_> = known.conditions.iter().filter(|c| ours.contains(&c.type_.as_str())).cloned().collect();
    let mut conditions = old.clone();
    let is_news = set_condition(
        &mut conditions,
        ConditionType::Available,
        ConditionReason::ValidationFailed,
        message,
        generation,
        ended,
    );
    let same = old.iter().all(|condition| conditions.contains(condition)) && old.len() == conditions.len();
    let status = BackupLocationStatus {
        last_validation_time: known.last_validation_time.clone(),
        snapshots: known.snapshots,
        conditions,
        // The rest has other writers.
        ..BackupLocationStatus::default()
    };
    (!same).then_some((status, is_news))
}

/// Tells a location that snapshots could not be deleted or space not reclaimed.
pub async fn forget_failed(ctx: &Context, failure: Failure<'_>) -> Result<(), ReportError> {
    let Failure { location, job, message, ended } = failure;
    if Timestamp::now().duration_since(ended) > EVENT_LIFETIME {
        return Ok(());
    }
    let api = ctx.api::<BackupLocation>();
    let Some(found) = call(|| format!("read location `{location}`"), api.get_opt(location)).await? else {
        return Ok(());
    };
    tracing::info!(location, reason = message, "a forget job failed");
    event(ctx, &subject("BackupLocation", &found), EventReason::MaintenanceFailed, job, message).await
}

/// Creates the event of this occasion unless it is there.
pub async fn event(
    ctx: &Context,
    subject: &EventSubject,
    reason: EventReason,
    occasion: &str,
    message: &str,
) -> Result<(), ReportError> {
    let event = event_for(subject, reason, occasion, message, field_manager::OPERATOR, Timestamp::now());
    let action = || format!("create event `{}` about `{}`", reason.as_str(), subject.name);
    match call(action, ctx.api::<Event>().create(&PostParams::default(), &event)).await {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}

/// What an event about this object refers to.
pub fn subject<K: Resource>(kind: &'static str, object: &K) -> EventSubject {
    EventSubject {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn looked(second: i64) -> BackupLocationStatus {
        let mut status = BackupLocationStatus {
            last_validation_time: Some(at(second).to_string()),
            snapshots: Some(7),
            repository_id: Some("r1".into()),
            ..BackupLocationStatus::default()
        };
        let all = [
            (ConditionType::Ready, ConditionReason::Initialized),
            (ConditionType::Available, ConditionReason::Reachable),
            (ConditionType::CatalogComplete, ConditionReason::UpToDate),
        ];
        for (type_, reason) in all {
            set_condition(&mut status.conditions, type_, reason, "m", Some(1), at(second));
        }
        status
    }

    #[test]
    fn a_failed_look_changes_one_condition_and_keeps_what_else_its_writer_owns() {
        let (status, is_news) = unavailable(&looked(5), "no route", Some(1), at(9)).unwrap();
        assert!(is_news);
        assert_eq!((status.snapshots, status.repository_id), (Some(7), None));
        let said: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
        assert_eq!(said, [("CatalogComplete", "True"), ("Available", "False")]);
    }

    #[test]
    fn the_same_failure_is_no_news_and_another_message_is_written_without_an_event() {
        let (status, _) = unavailable(&looked(5), "no route", Some(1), at(9)).unwrap();
        assert_eq!(unavailable(&status, "no route", Some(1), at(20)), None);
        let (_, is_news) = unavailable(&status, "wrong password", Some(1), at(20)).unwrap();
        assert!(!is_news);
    }

    #[test]
    fn a_failure_that_a_later_look_has_overtaken_is_not_told() {
        assert_eq!(unavailable(&looked(50), "no route", Some(1), at(9)), None);
    }
}
