//! Locations: an init job for each specification and each version of what it names, tried again until it succeeds.

mod build;
mod decide;
mod versions;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use kubedr_api::names::{annotation, field_manager, finalizer, job_type, label};
use kubedr_api::{
    BackupLocation, BackupLocationStatus, ConditionReason, InitOutcome, InitReport, MetadataBackupPolicy,
    VolumeTarget,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::run::init_report;
use crate::controllers::{changes, drive, finalizers, mirror};
use crate::metrics::ControllerName;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};
use crate::standing::{self, Generation, Standing, Target};
use build::Try;
use decide::{Action, InitJob, Known, Wanted, decide};
pub(super) use versions::Versions;
use versions::{Named, users_of};
use volume::{Reach, Storage, master_label, reach};

/// Name of the kind.
const KIND: &str = "BackupLocation";

/// A refusal may have its cause outside of the location, such as a quota or a missing right, of which no watch tells.
const REFUSED_RETRY: Duration = Duration::from_mins(1);
/// Time until a location is looked at again when the Secrets or `ConfigMap`s had not been listed yet.
const UNKNOWN_RETRY: Duration = Duration::from_millis(200);
/// Time between two looks at the claim of a volume that cannot be used, and at that of one that can. Neither claims nor nodes
/// are watched.
const UNUSABLE_RETRY: Duration = Duration::from_secs(10);
const VOLUME_PERIOD: Duration = Duration::from_mins(1);

/// A location this young without a Secret waits for one. Times of creation have whole seconds.
const NEW: SignedDuration = SignedDuration::from_secs(3);
const SECRET_AWAITED: Duration = Duration::from_secs(1);

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
    pub(super) versions: Versions,
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    ctx.metrics.locations.watch(controller.store());
    let (secrets, secret_stream) = mirror::<PartialObjectMeta<Secret>>(&ctx, watcher::Config::default());
    let (config_maps, config_map_stream) =
        mirror::<PartialObjectMeta<ConfigMap>>(&ctx, watcher::Config::default());
    let (of_secret, of_config_map) = (controller.store(), controller.store());
    let init_jobs = watcher::Config::default().labels(&format!("{}={}", label::TYPE, job_type::INIT));
    let jobs = changes::<Job>(&ctx, init_jobs);
    let controller = controller
        .watches_stream(jobs, |job| {
            let name = job.labels().get(label::LOCATION)?;
            Some(ObjectRef::<Guarded>::new(name).within(&job.namespace()?))
        })
        .watches_stream(secret_stream, move |secret| users_of(Named::Secret(&secret.name_any()), &of_secret))
        .watches_stream(config_map_stream, move |map| {
            users_of(Named::ConfigMap(&map.name_any()), &of_config_map)
        });
    let versions = Versions { secrets, config_maps };
    let shared = Arc::new(Locations { ctx: Arc::clone(&ctx), versions });
    drive(ControllerName::Location, controller, reconcile, ctx, shared, shutdown).await;
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
    if !shared.versions.are_known() {
        return Ok(Requeue::requeue(UNKNOWN_RETRY));
    }
    let wanted = Wanted {
        generation: location.metadata.generation.unwrap_or_default(),
        credentials_version: shared.versions.of(&ctx.namespace, &location.spec),
    };
    if wanted.credentials_version.is_empty() && is_new(location, Timestamp::now()) {
        return Ok(Requeue::requeue(SECRET_AWAITED));
    }
    let jobs: Vec<_> = jobs_of(ctx, location).await?.iter().map(InitJob::of).collect();
    let status = location.status.clone().unwrap_or_default();
    let storage = storage_of(ctx, location, &status).await?;
    let known = Known { status: &status, jobs: &jobs, storage: &storage };
    let action = decide(&wanted, known, Timestamp::now());
    let (requeue, standing) = match perform(ctx, location, &wanted, &action).await {
        Ok(requeue) => (requeue, decide::standing(&action, known)),
        Err(LocationError::Api(error)) if error.is_refusal() => {
            let message = format!("{error}; correct what the message names");
            tell_refusal(ctx, location, &wanted, &message).await?;
            (Requeue::requeue(REFUSED_RETRY), Standing { reason: ConditionReason::InitFailed, message })
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

/// Whether it has just been created: its Secret, created in the same breath, may come by its own watch a moment later.
fn is_new(location: &BackupLocation, now: Timestamp) -> bool {
    let created = location.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| now.duration_since(created.0) < NEW)
}

/// How the location's storage stands: an S3 service can always be tried, a volume takes its claim and perhaps a node.
async fn storage_of(
    ctx: &Context,
    location: &BackupLocation,
    status: &BackupLocationStatus,
) -> Result<Storage, ApiError> {
    let Some(VolumeTarget { claim_name }) = &location.spec.volume else {
        return Ok(Storage::Usable(Reach::EveryNode));
    };
    let claims = ctx.api::<PersistentVolumeClaim>();
    let claim = call(|| format!("read claim `{claim_name}`"), claims.get_opt(claim_name)).await?;
    let reach = match reach(claim_name, claim.as_ref(), location.spec.access_mode) {
        Ok(reach) => reach,
        Err(message) => return Ok(Storage::Unusable(message)),
    };
    if let (Reach::OneNode, Some(node)) = (reach, &status.volume_node) {
        let nodes = Api::<Node>::all(ctx.client.clone());
        if call(|| format!("read node `{node}`"), nodes.get_metadata_opt(node)).await?.is_none() {
            return Ok(Storage::NodeGone { node: node.clone() });
        }
    }
    Ok(Storage::Usable(reach))
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
        Action::Settled if location.spec.volume.is_some() => Ok(Requeue::requeue(VOLUME_PERIOD)),
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
        Action::Start { attempt, reach } => {
            let policies = match reach {
                Reach::OneNode => policies(ctx).await?,
                Reach::EveryNode => Vec::new(),
            };
            let policies = policies.iter().filter_map(|guarded| guarded.0.as_ref().ok());
            let master_label = master_label(policies, &location.name_any());
            start(ctx, location, Try { wanted, attempt: *attempt, reach: *reach, master_label }).await
        }
        Action::Refuse { message } => {
            mark_uninitialized(ctx, location).await?;
            tell_refusal(ctx, location, wanted, message).await?;
            Ok(Requeue::requeue(UNUSABLE_RETRY))
        }
    }
}

async fn policies(ctx: &Context) -> Result<Vec<DeserializeGuard<MetadataBackupPolicy>>, ApiError> {
    let api = ctx.api::<DeserializeGuard<MetadataBackupPolicy>>();
    Ok(call(|| "list policies".to_owned(), api.list(&ListParams::default())).await?.items)
}

async fn start(ctx: &Context, location: &BackupLocation, this: Try<'_>) -> Result<Requeue, LocationError> {
    let (name, attempt) = (location.name_any(), this.attempt);
    mark_uninitialized(ctx, location).await?;
    let job = build::build_init_job(location, this, &ctx.settings, &ctx.cluster_uid);
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
    message: &str,
) -> Result<(), ReportError> {
    let generation = wanted.generation.to_string();
    let report = InitReport {
        // There is no Job whose UID could name the occasion.
        job_uid: short_hash(&[&location.uid().unwrap_or_default(), &generation, message]),
        generation: wanted.generation,
        credentials_version: wanted.credentials_version.clone(),
        outcome: InitOutcome::Failed(message.to_owned()),
    };
    report::init(ctx, &location.name_any(), &report, Timestamp::now()).await
}
