//! Locations: an init job for each specification and each version of its Secret, tried again until it succeeds.

mod build;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use kubedr_api::names::{annotation, field_manager, finalizer, job_type, label};
use kubedr_api::{BackupLocation, ConditionReason, InitOutcome, InitReport};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::run::init_report;
use crate::controllers::{changes, drive, finalizers, forget_details};
use crate::metrics::ControllerName;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};
use crate::standing::{self, Generation, Standing, Target};
use decide::{Action, InitJob, Wanted, decide};

/// Name of the kind.
const KIND: &str = "BackupLocation";

/// A refusal may have its cause outside of the location, such as a quota or a missing right, of which no watch tells.
const REFUSED_RETRY: Duration = Duration::from_mins(1);
/// Time until a location is looked at again when the Secrets had not been listed yet.
const SECRETS_UNKNOWN_RETRY: Duration = Duration::from_millis(200);

/// As it is watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<BackupLocation>;

/// Why a location could not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
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
    /// Metadata of the Secrets.
    pub(super) secrets: Store<PartialObjectMeta<Secret>>,
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    let locations = controller.store();
    let (secrets, writer) = store::<PartialObjectMeta<Secret>>();
    let secret_stream = watcher(ctx.api::<PartialObjectMeta<Secret>>(), watcher::Config::default())
        .default_backoff()
        .modify(|secret| {
            forget_details(&mut secret.metadata);
            secret.metadata.annotations = None;
            secret.metadata.labels = None;
        })
        .reflect(writer)
        .touched_objects();
    let init_jobs = watcher::Config::default().labels(&format!("{}={}", label::TYPE, job_type::INIT));
    let jobs = changes::<Job>(&ctx, init_jobs);
    let controller = controller
        .watches_stream(jobs, |job| {
            let name = job.labels().get(label::LOCATION)?;
            Some(ObjectRef::<Guarded>::new(name).within(&job.namespace()?))
        })
        .watches_stream(secret_stream, move |secret| users_of(&secret.name_any(), &locations));
    let shared = Arc::new(Locations { ctx: Arc::clone(&ctx), secrets });
    drive(ControllerName::Location, controller, reconcile, ctx, shared, shutdown).await;
}

fn users_of(secret: &str, locations: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    let named =
        |guarded: &Guarded| guarded.0.as_ref().is_ok_and(|location| location.spec.credentials == secret);
    let users = locations.state().into_iter().filter(|location| named(location));
    users.map(|location| ObjectRef::from_obj(&*location)).collect()
}

pub(super) async fn reconcile(
    guarded: Arc<Guarded>,
    shared: Arc<Locations>,
) -> Result<Requeue, LocationError> {
    let ctx = &shared.ctx;
    finalizers::remove::<BackupLocation>(ctx, guarded.meta(), finalizer::LOCATION).await?;
    if guarded.meta().deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    let location = match &guarded.0 {
        Ok(location) => location,
        Err(invalid) => {
            let subject = report::subject(KIND, &*guarded);
            standing::write_invalid::<BackupLocation>(ctx, subject, &invalid.error).await?;
            return Ok(Requeue::await_change());
        }
    };
    // Asked and never awaited: of several reconciles that wait for the store, kube wakes only the one that asked last.
    if shared.secrets.wait_until_ready().now_or_never().is_none() {
        return Ok(Requeue::requeue(SECRETS_UNKNOWN_RETRY));
    }
    let wanted = wanted(location, &shared);
    let jobs: Vec<_> = jobs_of(ctx, location).await?.iter().map(InitJob::of).collect();
    let status = location.status.clone().unwrap_or_default();
    let action = decide(&wanted, &status, &jobs, Timestamp::now());
    let (requeue, standing) = match perform(ctx, location, &wanted, &action).await {
        Ok(requeue) => (requeue, decide::standing(&action, &status)),
        Err(LocationError::Api(error)) if error.is_refusal() => {
            let standing = tell_refusal(ctx, location, &wanted, &error).await?;
            (Requeue::requeue(REFUSED_RETRY), standing)
        }
        Err(error) => return Err(error),
    };
    let target = Target {
        subject: report::subject(KIND, location),
        generation: location.metadata.generation,
        conditions: &status.conditions,
        observed: Generation::OfTheJob,
    };
    standing::write::<BackupLocation>(ctx, target, &standing).await?;
    Ok(requeue)
}

fn wanted(location: &BackupLocation, shared: &Locations) -> Wanted {
    let secret = ObjectRef::new(&location.spec.credentials).within(&shared.ctx.namespace);
    Wanted {
        generation: location.metadata.generation.unwrap_or_default(),
        credentials_version: shared
            .secrets
            .get(&secret)
            .and_then(|s| s.resource_version())
            .unwrap_or_default(),
    }
}

async fn jobs_of(ctx: &Context, location: &BackupLocation) -> Result<Vec<Job>, ApiError> {
    let name = location.name_any();
    let selector = format!("{}={},{}={name}", label::TYPE, job_type::INIT, label::LOCATION);
    let action = || format!("list init jobs of location `{name}`");
    let jobs = call(action, ctx.api::<Job>().list(&ListParams::default().labels(&selector))).await?;
    let uid = location.uid();
    let owned = |job: &Job| job.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    Ok(jobs.items.into_iter().filter(owned).collect())
}

async fn perform(
    ctx: &Context,
    location: &BackupLocation,
    wanted: &Wanted,
    action: &Action,
) -> Result<Requeue, LocationError> {
    match action {
        Action::Settled | Action::Follow { .. } | Action::AwaitEnd => Ok(Requeue::await_change()),
        Action::RetryAfter { wait, .. } => Ok(Requeue::requeue(*wait)),
        Action::Abandon { name } => {
            // The Job stays until its pod is gone.
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                ..DeleteParams::default()
            };
            match call(|| format!("delete job `{name}`"), ctx.api::<Job>().delete(name, &params)).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(Requeue::await_change()),
            }
        }
        Action::Start { attempt } => start(ctx, location, wanted, *attempt).await,
    }
}

async fn start(
    ctx: &Context,
    location: &BackupLocation,
    wanted: &Wanted,
    attempt: u32,
) -> Result<Requeue, LocationError> {
    let name = location.name_any();
    mark_uninitialized(ctx, location).await?;
    let job = build::build_init_job(location, wanted, attempt, &ctx.settings, &ctx.cluster_uid);
    let action = || format!("create the init job of location `{name}`");
    match call(action, ctx.api::<Job>().create(&PostParams::default(), &job)).await {
        Ok(job) => {
            tracing::info!(location = name, job = job.name_any(), attempt, "an init job starts");
            let started = init_report(&job, InitOutcome::Started);
            report::init(ctx, &name, &started, Timestamp::now()).await?;
            Ok(Requeue::await_change())
        }
        // The list did not show it yet: the Job's watch brings us back.
        Err(error) if error.is_conflict() => Ok(Requeue::await_change()),
        Err(error) => Err(error.into()),
    }
}

/// The annotation speaks of the specification as it is now; the job sets it to `"true"`.
async fn mark_uninitialized(ctx: &Context, location: &BackupLocation) -> Result<(), ApiError> {
    if location.annotations().get(annotation::INITIALIZED).is_none_or(|value| value != "true") {
        return Ok(());
    }
    let name = location.name_any();
    let patch = json!({ "metadata": { "annotations": { annotation::INITIALIZED: "false" } } });
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let action = || format!("annotate location `{name}`");
    call(action, ctx.api::<BackupLocation>().patch_metadata(&name, &params, &Patch::Merge(&patch))).await?;
    Ok(())
}

/// Tells that no job could be started, since there is none that could.
async fn tell_refusal(
    ctx: &Context,
    location: &BackupLocation,
    wanted: &Wanted,
    error: &ApiError,
) -> Result<Standing, ReportError> {
    let message = format!("{error}; correct what the message names");
    let generation = wanted.generation.to_string();
    let report = InitReport {
        // There is no Job whose UID could name the occasion.
        job_uid: short_hash(&[&location.uid().unwrap_or_default(), &generation, &message]),
        generation: wanted.generation,
        credentials_version: wanted.credentials_version.clone(),
        outcome: InitOutcome::Failed(message.clone()),
    };
    report::init(ctx, &location.name_any(), &report, Timestamp::now()).await?;
    Ok(Standing { reason: ConditionReason::InitFailed, message })
}
