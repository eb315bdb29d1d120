//! Policies: one CronJob each, applied whole whenever policy, location or the CronJob itself changes.

mod build;
mod decide;
mod drift;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{Patch, PatchParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::names::{cron_job_name, field_manager, finalizer, job_type, label};
use kubedr_api::{
    BackupLocation, ConditionReason, MetadataBackupPolicy, MetadataBackupPolicyStatus, Phase, RunIdentity,
    RunOutcome,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::{changes, drive, finalizers};
use crate::metrics::ControllerName;
use crate::report::{self, ReportError};
use crate::standing::{self, Generation, Standing, Target};
use decide::{Action, LocationState, decide};

/// Name of the kind.
const KIND: &str = "MetadataBackupPolicy";

/// A refusal may have its cause outside of the policy, such as a quota or a missing right, of which no watch tells.
const REFUSED_RETRY: Duration = Duration::from_mins(1);

/// As it is watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<MetadataBackupPolicy>;

/// Why a policy could not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What happened could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let all = watcher::Config::default;
    let controller = Controller::<Guarded>::new(ctx.api(), all());
    let policies = controller.store();
    let of_backups = all().labels(&format!("{}={}", label::TYPE, job_type::BACKUP));
    let cron_jobs = changes::<CronJob>(&ctx, of_backups.clone());
    // A Job that is deleted before it has reported leaves nothing but the policy's status to tell that it was there.
    let jobs = changes::<Job>(&ctx, of_backups);
    let locations = changes::<BackupLocation>(&ctx, all());
    let controller = controller
        .watches_stream(cron_jobs, |cron_job| policy_of(&cron_job))
        .watches_stream(jobs, |job| policy_of(&job))
        .watches_stream(locations, move |location| users_of(&location.name_any(), &policies));
    drive(ControllerName::Policy, controller, reconcile, Arc::clone(&ctx), ctx, shutdown).await;
}

fn policy_of<K>(child: &PartialObjectMeta<K>) -> Option<ObjectRef<Guarded>> {
    let metadata = &child.metadata;
    // The owner first, for a label may be edited away; a Job's owner is the CronJob.
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.kind == KIND);
    let policy = match owner {
        Some(owner) => &owner.name,
        None => metadata.labels.as_ref()?.get(label::POLICY)?,
    };
    Some(ObjectRef::new(policy).within(metadata.namespace.as_deref()?))
}

fn users_of(location: &str, policies: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    let named =
        |guarded: &Guarded| guarded.0.as_ref().is_ok_and(|policy| policy.spec.destination == location);
    let users = policies.state().into_iter().filter(|policy| named(policy));
    users.map(|policy| ObjectRef::from_obj(&*policy)).collect()
}

pub(super) async fn reconcile(guarded: Arc<Guarded>, ctx: Arc<Context>) -> Result<Requeue, PolicyError> {
    let ctx = &*ctx;
    finalizers::remove::<MetadataBackupPolicy>(ctx, guarded.meta(), finalizer::POLICY).await?;
    if guarded.meta().deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    let policy = match &guarded.0 {
        Ok(policy) => policy,
        Err(invalid) => {
            let subject = report::subject(KIND, &*guarded);
            standing::write_invalid::<MetadataBackupPolicy>(ctx, subject, &invalid.error).await?;
            return Ok(Requeue::await_change());
        }
    };
    let status = policy.status.clone().unwrap_or_default();
    settle_lost_run(ctx, policy, &status).await?;
    let location = read_location(ctx, &policy.spec.destination).await?;
    let cron_job = read_cron_job(ctx, policy).await?;
    let (action, standing) = decide(&policy.spec, &LocationState::of(location.as_ref()), cron_job.as_ref());
    let (standing, requeue) = match perform(ctx, policy, &action).await {
        Ok(()) => (standing, Requeue::await_change()),
        Err(error) if error.is_refusal() => (refused(&error), Requeue::requeue(REFUSED_RETRY)),
        Err(error) => return Err(error.into()),
    };
    let target = Target {
        subject: report::subject(KIND, policy),
        generation: policy.metadata.generation,
        conditions: &status.conditions,
        observed: Generation::Observed(status.observed_generation),
    };
    standing::write::<MetadataBackupPolicy>(ctx, target, &standing).await?;
    Ok(requeue)
}

async fn read_location(ctx: &Context, name: &str) -> Result<Option<BackupLocation>, ApiError> {
    call(|| format!("read location `{name}`"), ctx.api().get_opt(name)).await
}

async fn read_cron_job(ctx: &Context, policy: &MetadataBackupPolicy) -> Result<Option<CronJob>, ApiError> {
    let name = cron_job_name(&policy.name_any());
    call(|| format!("read CronJob `{name}`"), ctx.api().get_opt(&name)).await
}

async fn perform(ctx: &Context, policy: &MetadataBackupPolicy, action: &Action) -> Result<(), ApiError> {
    match action {
        Action::Leave => Ok(()),
        Action::Apply(destination) => {
            apply(ctx, &build::build_cron_job(policy, destination, &ctx.settings, &ctx.cluster_uid)).await
        }
        Action::Suspend => {
            let name = cron_job_name(&policy.name_any());
            let patch = Patch::Merge(json!({ "spec": { "suspend": true } }));
            let api = ctx.api::<CronJob>();
            call(|| format!("suspend CronJob `{name}`"), api.patch(&name, &ours(), &patch)).await.map(|_| ())
        }
    }
}

async fn apply(ctx: &Context, wanted: &CronJob) -> Result<(), ApiError> {
    let api = ctx.api::<CronJob>();
    let name = wanted.name_any();
    let params = PatchParams::apply(field_manager::OPERATOR).force();
    let action = || format!("apply CronJob `{name}`");
    let applied = call(action, api.patch(&name, &params, &Patch::Apply(wanted))).await?;
    if drift::has_foreign_entries(&applied, wanted) {
        tracing::warn!(cron_job = name, "entries that somebody else added are removed");
        let patch = Patch::Merge(drift::replacement(wanted));
        call(action, api.patch(&name, &ours(), &patch)).await?;
    }
    Ok(())
}

fn ours() -> PatchParams {
    PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() }
}

fn refused(error: &ApiError) -> Standing {
    Standing {
        reason: ConditionReason::CronJobRefused,
        message: format!("{error}; correct the policy or what the message names"),
    }
}

/// Tells of a run that the status calls under way and whose Job is no more: nobody else can.
async fn settle_lost_run(
    ctx: &Context,
    policy: &MetadataBackupPolicy,
    status: &MetadataBackupPolicyStatus,
) -> Result<(), PolicyError> {
    let Some(last) = status.last_run.as_ref().filter(|_| status.backup_status == Some(Phase::Initializing))
    else {
        return Ok(());
    };
    let name = &last.job_name;
    let job: Option<Job> = call(|| format!("read job `{name}`"), ctx.api().get_opt(name)).await?;
    if job.is_some_and(|job| job.uid().as_ref() == Some(&last.job_uid)) {
        return Ok(());
    }
    let now = Timestamp::now();
    let run = RunIdentity {
        job_name: name.clone(),
        job_uid: last.job_uid.clone(),
        pod: status.backup_pod.clone(),
        started: last.start_time.parse().unwrap_or(now),
    };
    let message = format!("job `{name}` was deleted before it had reported");
    Ok(report::backup_failed(ctx, &policy.name_any(), run, RunOutcome::Failed(message), now).await?)
}
