//! Totals: what all backups of a policy come to, kept in its status, since Jobs and records go.
//!
//! Which Jobs are counted stands in the same status as the figures, so both are written at once: whenever the operator dies, a
//! Job is counted or it is not. The policy is read before its Jobs, and the write is refused if it has changed since: of two
//! operators that count the same Job one has to look again.

mod count;

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::MetadataBackupPolicy;
use kubedr_api::names::{annotation, field_manager, job_type, label};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::{CACHE_UNKNOWN_RETRY, drive, mirror};
use crate::metrics::ControllerName;
use count::{News, is_of};

/// Attempts to write a status that others write at the same time. Each conflict means that another writer got through.
const ATTEMPTS: usize = 8;

/// As it is watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<MetadataBackupPolicy>;

/// Why backups could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The policy changed between each read and write.
    #[error("policy `{policy}` changed {ATTEMPTS} times while its totals were to be written")]
    Conflict {
        /// Name of the policy.
        policy: String,
    },
}

/// Context of this controller.
pub(super) struct Policies {
    pub(super) ctx: Arc<Context>,
    pub(super) jobs: Store<Job>,
}

fn backups() -> String {
    format!("{}={}", label::TYPE, job_type::BACKUP)
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    ctx.metrics.policies.watch(controller.store());
    let (jobs, job_stream) = mirror::<Job>(&ctx, watcher::Config::default().labels(&backups()));
    let controller = controller.watches_stream(job_stream, |job| {
        let policy = job.labels().get(label::POLICY)?;
        Some(ObjectRef::<Guarded>::new(policy).within(&job.namespace()?))
    });
    let shared = Arc::new(Policies { ctx: Arc::clone(&ctx), jobs });
    drive(ControllerName::Totals, controller, reconcile, ctx, shared, shutdown).await;
}

pub(super) async fn reconcile(guarded: Arc<Guarded>, shared: Arc<Policies>) -> Result<Requeue, TotalsError> {
    // The controller of policies tells that it does not fit the schema.
    let Ok(policy) = &guarded.0 else { return Ok(Requeue::await_change()) };
    if guarded.meta().deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    if shared.jobs.wait_until_ready().now_or_never().is_none() {
        return Ok(Requeue::requeue(CACHE_UNKNOWN_RETRY));
    }
    let cached = shared.jobs.state();
    let jobs: Vec<&Job> = cached.iter().map(|job| &**job).filter(|job| is_of(job, policy)).collect();
    let now = Timestamp::now();
    if !News::of(policy, &jobs, now).is_none() {
        write(&shared.ctx, policy).await?;
    }
    Ok(count::look_again(&jobs, now).map_or_else(Requeue::await_change, Requeue::requeue))
}

/// Judges anew by what the API server says now, and writes that.
async fn write(ctx: &Context, policy: &MetadataBackupPolicy) -> Result<(), TotalsError> {
    let name = policy.name_any();
    let api = ctx.api::<MetadataBackupPolicy>();
    for _ in 0..ATTEMPTS {
        let found = call(|| format!("read policy `{name}`"), api.get_opt(&name)).await?;
        let Some(mut found) = found.filter(|found| found.uid() == policy.uid()) else { return Ok(()) };
        let selector = ListParams::default().labels(&format!("{},{}={name}", backups(), label::POLICY));
        let jobs = call(|| format!("list jobs of policy `{name}`"), ctx.api::<Job>().list(&selector)).await?;
        let jobs: Vec<&Job> = jobs.items.iter().filter(|job| is_of(job, &found)).collect();
        let news = News::of(&found, &jobs, Timestamp::now());
        if let Some(status) = news.status(&found) {
            let patch = json!({
                "apiVersion": MetadataBackupPolicy::api_version(&()),
                "kind": MetadataBackupPolicy::kind(&()),
                "metadata": { "name": name, "resourceVersion": found.resource_version() },
                "status": status,
            });
            let params = PatchParams::apply(field_manager::METRICS).force();
            let action = || format!("write the totals of policy `{name}`");
            match call(action, api.patch_status(&name, &params, &Patch::Apply(&patch))).await {
                Err(error) if error.is_conflict() => continue,
                written => found = written?,
            }
        }
        return note(ctx, &found).await;
    }
    Err(TotalsError::Conflict { policy: name })
}

/// Notes on the policy which backup was counted last, as KubeDR 0.x did.
async fn note(ctx: &Context, policy: &MetadataBackupPolicy) -> Result<(), TotalsError> {
    let Some(pod) = count::unnoted(policy) else { return Ok(()) };
    let name = policy.name_any();
    let patch = json!({ "metadata": {
        "uid": policy.uid(),
        "annotations": { annotation::PROCESSED_BACKUP: pod },
    } });
    let params =
        PatchParams { field_manager: Some(field_manager::METRICS.to_owned()), ..PatchParams::default() };
    let api = ctx.api::<MetadataBackupPolicy>();
    match call(|| format!("annotate policy `{name}`"), api.patch(&name, &params, &Patch::Merge(&patch))).await
    {
        // It is gone, or another one has its name.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        noted => Ok(noted.map(drop)?),
    }
}
