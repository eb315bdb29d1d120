//! Writes what became of a run: status, then event. Both may be repeated without harm.

mod maintenance;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use kubedr_api::names::field_manager;
use kubedr_api::{
    BackupLocation, EventReason, EventSubject, InitOutcome, InitReport, MetadataBackupPolicy,
    MetadataBackupPolicyStatus, MetadataRestore, MetadataRestoreStatus, Phase, RestoreOutcome, RestoreReport,
    RunIdentity, RunOutcome, RunReport, event_for, init_status_patch, restore_status_patch, run_status_patch,
};

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::occasion::short_hash;
pub use maintenance::{Failure, maintenance_failed, sync_failed};

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

/// Tells a restore that its job has begun or failed, or that it cannot have one; `ended` is when it did.
///
/// The object is read without its type, since what is told may be that it does not fit it.
pub async fn restore(
    ctx: &Context,
    name: &str,
    report: &RestoreReport,
    ended: Timestamp,
) -> Result<(), ReportError> {
    let resource = ApiResource::erase::<MetadataRestore>(&());
    let api = Api::<DynamicObject>::namespaced_with(ctx.client.clone(), &ctx.namespace, &resource);
    for _ in 0..ATTEMPTS {
        let Some(found) = call(|| format!("read restore `{name}`"), api.get_opt(name)).await? else {
            return Ok(());
        };
        let now = Timestamp::now();
        let known = found.data.get("status").cloned().unwrap_or_default();
        let known: MetadataRestoreStatus = serde_json::from_value(known).unwrap_or_default();
        if let Some(status) = report.merge(&known, now) {
            let patch = restore_status_patch(name, &found.resource_version().unwrap_or_default(), &status);
            let params = PatchParams::apply(field_manager::JOB).force();
            let action = || format!("write the status of restore `{name}`");
            if let RestoreOutcome::Failed(reason) = &report.outcome {
                tracing::info!(restore = name, reason, "a restore failed");
            }
            match call(action, api.patch_status(name, &params, &Patch::Apply(&patch))).await {
                Err(error) if error.is_conflict() => continue,
                written => written.map(|_| ())?,
            }
        } else if known.restore_status == Some(Phase::Completed) || now.duration_since(ended) > EVENT_LIFETIME
        {
            return Ok(());
        }
        let RestoreOutcome::Failed(message) = &report.outcome else { return Ok(()) };
        let occasion = report.job_uid.clone().unwrap_or_else(|| {
            short_hash(&[&found.uid().unwrap_or_default(), &report.generation.to_string()])
        });
        let subject = EventSubject {
            kind: "MetadataRestore",
            namespace: ctx.namespace.clone(),
            name: name.to_owned(),
            uid: found.uid().unwrap_or_default(),
        };
        return event(ctx, &subject, EventReason::RestoreFailed, &occasion, message).await;
    }
    Err(ReportError::Conflict { name: name.to_owned() })
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
