//! Restores: one Job for each specification, or the reason why there cannot be one. Nothing is tried twice.

mod build;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams, PropagationPolicy};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::names::{job_type, label};
use kubedr_api::{BackupLocation, MetadataBackupRecord, MetadataRestore, RestoreOutcome, RestoreReport};
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::{changes, drive};
use crate::metrics::ControllerName;
use crate::report::{self, ReportError};
use decide::{Action, Obstacle, Parts, Plan, RestoreJob, decide, plan};

/// Time until a restore is looked at again whose claim another one has.
const OTHER_RESTORE_RETRY: Duration = Duration::from_secs(2);

/// As it is watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<MetadataRestore>;

/// Why a restore could not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What happened could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    let restore_jobs = watcher::Config::default().labels(&format!("{}={}", label::TYPE, job_type::RESTORE));
    let jobs = changes::<Job>(&ctx, restore_jobs);
    let controller = controller.watches_stream(jobs, |job| {
        let name = job.labels().get(label::RESTORE)?;
        Some(ObjectRef::<Guarded>::new(name).within(&job.namespace()?))
    });
    drive(ControllerName::Restore, controller, reconcile, Arc::clone(&ctx), ctx, shutdown).await;
}

pub(super) async fn reconcile(guarded: Arc<Guarded>, ctx: Arc<Context>) -> Result<Requeue, RestoreError> {
    if guarded.meta().deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    let generation = guarded.meta().generation.unwrap_or_default();
    let restore = match &guarded.0 {
        Ok(restore) => restore,
        Err(invalid) => {
            let message =
                format!("the object does not fit the schema: {}; correct it or delete it", invalid.error);
            fail(&ctx, &guarded.name_any(), generation, message).await?;
            return Ok(Requeue::await_change());
        }
    };
    let status = restore.status.clone().unwrap_or_default();
    let jobs: Vec<_> = jobs_of(&ctx, restore).await?.iter().map(RestoreJob::of).collect();
    match decide(generation, &status, &jobs) {
        Action::Settled | Action::Follow | Action::AwaitEnd => {}
        Action::Abandon { name } => abandon(&ctx, &name).await?,
        Action::TellLost => {
            let message = "the restore's job was deleted before it had finished; delete this MetadataRestore and create it again";
            tell(&ctx, restore, status.restore_job_uid, RestoreOutcome::Failed(message.to_owned())).await?;
        }
        Action::Begin => return begin(&ctx, restore).await,
    }
    Ok(Requeue::await_change())
}

async fn jobs_of(ctx: &Context, restore: &MetadataRestore) -> Result<Vec<Job>, ApiError> {
    let name = restore.name_any();
    let selector = format!("{}={},{}={name}", label::TYPE, job_type::RESTORE, label::RESTORE);
    let action = || format!("list jobs of restore `{name}`");
    let jobs = call(action, ctx.api::<Job>().list(&ListParams::default().labels(&selector))).await?;
    let uid = restore.uid();
    let owned = |job: &Job| job.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    Ok(jobs.items.into_iter().filter(owned).collect())
}

async fn abandon(ctx: &Context, name: &str) -> Result<(), ApiError> {
    // The Job stays until its pod is gone: two of them never write to one volume.
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    match call(|| format!("delete job `{name}`"), ctx.api::<Job>().delete(name, &params)).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

async fn begin(ctx: &Context, restore: &MetadataRestore) -> Result<Requeue, RestoreError> {
    let name = restore.name_any();
    let lasting = async |message: String| {
        tell(ctx, restore, None, RestoreOutcome::Failed(message)).await?;
        Ok(Requeue::await_change())
    };
    let plan = match look(ctx, restore).await? {
        Ok(plan) => plan,
        Err(Obstacle::OtherRestore) => return Ok(Requeue::requeue(OTHER_RESTORE_RETRY)),
        Err(Obstacle::Lasting(message)) => return lasting(message).await,
    };
    let job = build::build_restore_job(restore, plan, ctx);
    let action = || format!("create the job of restore `{name}`");
    match call(action, ctx.api::<Job>().create(&PostParams::default(), &job)).await {
        Ok(job) => {
            tracing::info!(restore = name, job = job.name_any(), "a restore starts");
            tell(ctx, restore, job.uid(), RestoreOutcome::Started).await?;
            Ok(Requeue::await_change())
        }
        // The list did not show it yet: the Job's watch brings us back.
        Err(error) if error.is_conflict() => Ok(Requeue::await_change()),
        Err(error) if error.is_refusal() => {
            let again =
                "correct what the message names, then delete this MetadataRestore and create it again";
            lasting(format!("{error}; {again}")).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what the restore names, and what follows from it.
async fn look(ctx: &Context, restore: &MetadataRestore) -> Result<Result<Plan, Obstacle>, ApiError> {
    let (mbr, pvc) = (&restore.spec.mbr_name, &restore.spec.pvc_name);
    let record =
        call(|| format!("read record `{mbr}`"), ctx.api::<MetadataBackupRecord>().get_opt(mbr)).await?;
    let location = match &record {
        Some(record) => {
            let name = &record.spec.backuploc;
            call(|| format!("read location `{name}`"), ctx.api::<BackupLocation>().get_opt(name)).await?
        }
        None => None,
    };
    let claim =
        call(|| format!("read claim `{pvc}`"), ctx.api::<PersistentVolumeClaim>().get_opt(pvc)).await?;
    let pods = call(|| "list pods".to_owned(), ctx.api::<Pod>().list(&ListParams::default())).await?.items;
    let parts =
        Parts { record: record.as_ref(), location: location.as_ref(), claim: claim.as_ref(), pods: &pods };
    Ok(plan(&restore.spec, parts))
}

async fn tell(
    ctx: &Context,
    restore: &MetadataRestore,
    job_uid: Option<String>,
    outcome: RestoreOutcome,
) -> Result<(), ReportError> {
    let generation = restore.metadata.generation.unwrap_or_default();
    let report = RestoreReport { job_uid, generation, outcome };
    report::restore(ctx, &restore.name_any(), &report, Timestamp::now()).await
}

async fn fail(ctx: &Context, name: &str, generation: i64, message: String) -> Result<(), ReportError> {
    let report = RestoreReport { job_uid: None, generation, outcome: RestoreOutcome::Failed(message) };
    report::restore(ctx, name, &report, Timestamp::now()).await
}
