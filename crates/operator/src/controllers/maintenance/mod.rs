//! Maintenance: per location one job at a time, which looks at the repository and brings the records up to date, or deletes the
//! snapshots whose records are being deleted and reclaims space.
//!
//! Which snapshots those are is decided here and told to the job one by one: it deletes no other. They are read afresh, and
//! after them whether namespace and CRD stay: the deletion of a record for itself is all that ever deletes a snapshot.

mod build;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::names::{annotation, field_manager, job_type, label};
use kubedr_api::{BackupLocation, EventReason, shorten};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::surroundings::{self, Surroundings};
use crate::controllers::{CACHE_UNKNOWN_RETRY, drive, mirror, record};
use crate::metrics::ControllerName;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};
use decide::{Action, Deletions, Due, MaintenanceJob, State, Task, decide, stranded, surplus};

/// Name of the kind.
const KIND: &str = "BackupLocation";
/// A refusal may have its cause outside of the location, such as a quota or a missing right, of which no watch tells.
const REFUSED_RETRY: Duration = Duration::from_mins(1);
/// Longest list of ids in a message, in bytes: an event has room for little more.
const IDS_MAX: usize = 600;

/// As it is watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<BackupLocation>;

/// Why a location's maintenance could not be seen to.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What happened could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Context of this controller.
pub(super) struct Locations {
    pub(super) ctx: Arc<Context>,
    pub(super) records: Store<record::Guarded>,
    pub(super) jobs: Store<Job>,
}

/// Selects the jobs of both kinds.
fn selector() -> String {
    format!("{} in ({}, {})", label::TYPE, job_type::SYNC, job_type::FORGET)
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let (records, record_stream) = mirror::<record::Guarded>(&ctx, watcher::Config::default());
    let (jobs, job_stream) = mirror::<Job>(&ctx, watcher::Config::default().labels(&selector()));
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default())
        .watches_stream(record_stream, |record| {
            // A record that stays gives no work.
            record.meta().deletion_timestamp.as_ref()?;
            let location = &record.0.as_ref().ok()?.spec.backuploc;
            Some(ObjectRef::<Guarded>::new(location).within(&record.namespace()?))
        })
        .watches_stream(job_stream, |job| {
            let location = job.labels().get(label::LOCATION)?;
            Some(ObjectRef::<Guarded>::new(location).within(&job.namespace()?))
        });
    let shared = Arc::new(Locations { ctx: Arc::clone(&ctx), records, jobs });
    drive(ControllerName::Maintenance, controller, reconcile, ctx, shared, shutdown).await;
}

pub(super) async fn reconcile(
    guarded: Arc<Guarded>,
    shared: Arc<Locations>,
) -> Result<Requeue, MaintenanceError> {
    // The controller of locations tells that it does not fit the schema.
    let Ok(location) = &guarded.0 else { return Ok(Requeue::await_change()) };
    let ready = [
        shared.records.wait_until_ready().now_or_never().is_some(),
        shared.jobs.wait_until_ready().now_or_never().is_some(),
    ];
    if ready.contains(&false) {
        return Ok(Requeue::requeue(CACHE_UNKNOWN_RETRY));
    }
    let ctx = &*shared.ctx;
    if !stranded(location).is_empty() {
        drop_stranded(ctx, &location.name_any()).await?;
    }
    let (jobs, records) = (shared.jobs.state(), shared.records.state());
    let jobs = jobs_of(location, jobs.iter().map(|job| &**job));
    let deletions = deletions_of(location, records.iter().map(|record| &**record));
    let state = State { location, jobs: &jobs, deletions: &deletions, now: Timestamp::now() };
    let action = decide(&state);
    for name in surplus(&jobs, &action) {
        delete_job(ctx, name).await?;
    }
    match action {
        Action::Wait => Ok(Requeue::await_change()),
        Action::LookAgain(after) => Ok(Requeue::requeue(after)),
        Action::Start(due) => match start(ctx, location, &due, &deletions).await {
            Err(MaintenanceError::Api(error)) if error.is_refusal() => {
                tell_refusal(ctx, location, &error).await
            }
            other => other,
        },
    }
}

fn jobs_of<'a>(location: &BackupLocation, jobs: impl Iterator<Item = &'a Job>) -> Vec<MaintenanceJob> {
    let uid = location.uid();
    let owned = |job: &&Job| job.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    jobs.filter(owned).filter_map(MaintenanceJob::of).collect()
}

fn deletions_of<'a>(
    location: &BackupLocation,
    records: impl Iterator<Item = &'a record::Guarded>,
) -> Deletions {
    Deletions::of(records.filter_map(|guarded| guarded.0.as_ref().ok()), &location.name_any())
}

/// Takes snapshots off the list of those to be deleted that are in another repository than the location's: nobody may delete
/// anything there. Says so first; should they come back with their repository, they are found again.
async fn drop_stranded(ctx: &Context, name: &str) -> Result<(), MaintenanceError> {
    let api = ctx.api::<BackupLocation>();
    let Some(location) = call(|| format!("read location `{name}`"), api.get_opt(name)).await? else {
        return Ok(());
    };
    let stranded = stranded(&location);
    if stranded.is_empty() {
        return Ok(());
    }
    let (ids, repository) = (
        stranded.iter().map(|pending| pending.snapshot_id.as_str()).collect::<Vec<_>>(),
        stranded.iter().map(|pending| pending.repository_id.as_str()).next().unwrap_or_default(),
    );
    let message = format!(
        "{} snapshots that waited for their deletion stay where they are, since the location leads to another repository now than \
         `{repository}`: {}; delete them there with `restic forget` if they are of no use",
        ids.len(),
        shorten(&ids.join(", "), IDS_MAX)
    );
    let subject = report::subject(KIND, &location);
    report::event(ctx, &subject, EventReason::SnapshotKept, &short_hash(&ids), &message).await?;
    let all = location.status.as_ref().map(|status| &status.pending_deletions);
    let left: Vec<_> = all.into_iter().flatten().filter(|pending| !stranded.contains(pending)).collect();
    // With the resource version: the jobs take entries off the same list. After a conflict the reconcile is tried again.
    let patch = json!({
        "metadata": { "resourceVersion": location.metadata.resource_version },
        "status": { "pendingDeletions": left },
    });
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let action = || format!("take snapshots of another repository off the list of location `{name}`");
    call(action, api.patch_status(name, &params, &Patch::Merge(&patch))).await?;
    tracing::warn!(location = name, snapshots = ids.len(), repository, "pending deletions are dropped");
    Ok(())
}

/// Looks at everything afresh and creates the job that is due then, if one still is.
async fn start(
    ctx: &Context,
    cached: &BackupLocation,
    due: &Due,
    deletions: &Deletions,
) -> Result<Requeue, MaintenanceError> {
    let name = cached.name_any();
    let api = ctx.api::<BackupLocation>();
    let Some(location) = call(|| format!("read location `{name}`"), api.get_opt(&name)).await? else {
        return Ok(Requeue::await_change());
    };
    let jobs = list_jobs(ctx, &location).await?;
    let deletions = match due.task {
        // A look deletes nothing, so that a cache will do for why it is due.
        Task::Sync => Deletions { known: Vec::new(), unidentified: deletions.unidentified.clone() },
        Task::Forget { .. } => match list_deletions(ctx, &location).await? {
            Some(deletions) => deletions,
            // The records go with it and leave the snapshots alone. A CRD may be installed anew.
            None => return Ok(Requeue::requeue(REFUSED_RETRY)),
        },
    };
    let now = Timestamp::now();
    let due = match decide(&State { location: &location, jobs: &jobs, deletions: &deletions, now }) {
        Action::Start(due) => due,
        Action::LookAgain(after) => return Ok(Requeue::requeue(after)),
        Action::Wait => return Ok(Requeue::await_change()),
    };
    note(ctx, &location, &due.task, now).await?;
    let job = build::build_job(&location, &due, &jobs, &ctx.settings, &ctx.cluster_uid);
    let action = || format!("create a maintenance job of location `{name}`");
    match call(action, ctx.api::<Job>().create(&PostParams::default(), &job)).await {
        Ok(job) => {
            let (snapshots, prune) = match &due.task {
                Task::Sync => (0, false),
                Task::Forget { snapshots, prune } => (snapshots.len(), *prune),
            };
            let (attempt, job) = (due.attempt, job.name_any());
            tracing::info!(location = name, job, attempt, snapshots, prune, "a maintenance job starts");
            Ok(Requeue::await_change())
        }
        // Another replica was faster: the Job's watch brings us back.
        Err(error) if error.is_conflict() => Ok(Requeue::await_change()),
        Err(error) => Err(error.into()),
    }
}

async fn list_jobs(ctx: &Context, location: &BackupLocation) -> Result<Vec<MaintenanceJob>, ApiError> {
    let name = location.name_any();
    let selector = format!("{},{}={name}", selector(), label::LOCATION);
    let action = || format!("list maintenance jobs of location `{name}`");
    let jobs = call(action, ctx.api::<Job>().list(&ListParams::default().labels(&selector))).await?;
    Ok(jobs_of(location, jobs.items.iter()))
}

/// What is to be deleted; `None` if namespace or CRD are being deleted. The order matters: see [`surroundings`].
async fn list_deletions(ctx: &Context, location: &BackupLocation) -> Result<Option<Deletions>, ApiError> {
    let api = ctx.api::<record::Guarded>();
    let records = call(|| "list records".to_owned(), api.list(&ListParams::default())).await?;
    Ok(match surroundings::read(ctx).await? {
        Surroundings::Staying => Some(deletions_of(location, records.items.iter())),
        Surroundings::Leaving => None,
    })
}

/// Notes on the location what is about to be tried, since the Job does not stay for long enough to tell.
async fn note(ctx: &Context, location: &BackupLocation, task: &Task, now: Timestamp) -> Result<(), ApiError> {
    let Task::Forget { snapshots, prune } = task else { return Ok(()) };
    let mut annotations = serde_json::Map::new();
    if !snapshots.is_empty() {
        annotations.insert(annotation::LAST_DELETION.to_owned(), json!(now.to_string()));
    }
    if *prune {
        annotations.insert(annotation::LAST_PRUNE_TRY.to_owned(), json!(now.to_string()));
    }
    let name = location.name_any();
    let patch = json!({ "metadata": { "annotations": annotations } });
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let action = || format!("annotate location `{name}`");
    call(action, ctx.api::<BackupLocation>().patch_metadata(&name, &params, &Patch::Merge(&patch))).await?;
    Ok(())
}

async fn delete_job(ctx: &Context, name: &str) -> Result<(), ApiError> {
    let api = ctx.api::<Job>();
    match call(|| format!("delete job `{name}`"), api.delete(name, &DeleteParams::background())).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Tells that no job could be started, since there is none that could.
async fn tell_refusal(
    ctx: &Context,
    location: &BackupLocation,
    error: &ApiError,
) -> Result<Requeue, MaintenanceError> {
    let message = format!("{error}; correct what the message names");
    let subject = report::subject(KIND, location);
    let occasion = short_hash(&[&subject.uid, &message]);
    report::event(ctx, &subject, EventReason::MaintenanceFailed, &occasion, &message).await?;
    Ok(Requeue::requeue(REFUSED_RETRY))
}
