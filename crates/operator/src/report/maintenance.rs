//! Writes that a maintenance job failed without a word of its own.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kubedr_api::names::field_manager;
use kubedr_api::{
    BackupLocation, BackupLocationStatus, ConditionReason, ConditionType, EventReason, init_status_patch,
    set_condition,
};

use super::{ATTEMPTS, EVENT_LIFETIME, ReportError, event, subject};
use crate::api_call::call;
use crate::context::Context;

/// A maintenance job that failed or cannot start.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Name of the location.
    pub location: &'a str,
    /// UID of the Job.
    pub job: &'a str,
    /// Generation of the location that the Job works for.
    pub generation: i64,
    /// Why.
    pub message: &'a str,
    /// When.
    pub ended: Timestamp,
}

/// Tells a location that it could not be looked at: event if that is news, then condition.
pub async fn sync_failed(ctx: &Context, failure: Failure<'_>) -> Result<(), ReportError> {
    let Failure { location, job, generation, message, ended } = failure;
    let api = ctx.api::<BackupLocation>();
    for _ in 0..ATTEMPTS {
        let Some(found) = current_location(ctx, failure).await? else { return Ok(()) };
        let known = found.status.clone().unwrap_or_default();
        let Some((status, is_news)) = unavailable(&known, message, Some(generation), ended) else {
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

/// The location, unless it is gone or was changed since the Job was made: what happened concerns another place then.
async fn current_location(
    ctx: &Context,
    failure: Failure<'_>,
) -> Result<Option<BackupLocation>, ReportError> {
    let Failure { location, generation, .. } = failure;
    let api = ctx.api::<BackupLocation>();
    let found = call(|| format!("read location `{location}`"), api.get_opt(location)).await?;
    let found = found.filter(|found| found.metadata.generation.is_none_or(|now| now == generation));
    if found.is_none() {
        tracing::info!(location, generation, "a failed job's location is gone or changed: nothing is told");
    }
    Ok(found)
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
        ConditionReason::NotValidated,
        message,
        generation,
        ended,
    );
    let same = old.iter().all(|condition| conditions.contains(condition)) && old.len() == conditions.len();
    let status = BackupLocationStatus {
        last_validation_time: known.last_validation_time.clone(),
        snapshots: known.snapshots,
        repository_bytes: known.repository_bytes,
        conditions,
        // The rest has other writers.
        ..BackupLocationStatus::default()
    };
    (!same).then_some((status, is_news))
}

/// Tells a location that snapshots could not be deleted, space not reclaimed, or what was seen not reported.
pub async fn maintenance_failed(ctx: &Context, failure: Failure<'_>) -> Result<(), ReportError> {
    let Failure { location, job, generation: _, message, ended } = failure;
    if Timestamp::now().duration_since(ended) > EVENT_LIFETIME {
        return Ok(());
    }
    let Some(found) = current_location(ctx, failure).await? else { return Ok(()) };
    tracing::info!(location, reason = message, "a maintenance job failed");
    event(ctx, &subject("BackupLocation", &found), EventReason::MaintenanceFailed, job, message).await
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
            repository_bytes: Some(900),
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
        assert_eq!((status.snapshots, status.repository_bytes), (Some(7), Some(900)));
        assert_eq!(status.repository_id, None);
        let said: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
        assert_eq!(said, [("CatalogComplete", "True"), ("Available", "Unknown")]);
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
