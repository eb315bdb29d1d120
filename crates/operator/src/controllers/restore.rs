//! Restores: this version refuses them, once per specification, and says what to use instead.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::names::field_manager;
use kubedr_api::{EventReason, MetadataRestore, Phase};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::call;
use crate::context::Context;
use crate::controllers::drive;
use crate::metrics::ControllerName;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};

const MESSAGE: &str = "this version of KubeDR does not restore by resource; use the backup-job image's restore or stock \
                       restic, see docs/restore.md";

type Guarded = DeserializeGuard<MetadataRestore>;

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    drive(ControllerName::Restore, controller, reconcile, Arc::clone(&ctx), ctx, shutdown).await;
}

async fn reconcile(guarded: Arc<Guarded>, ctx: Arc<Context>) -> Result<Requeue, ReportError> {
    let name = guarded.name_any();
    let generation = guarded.meta().generation;
    let status = guarded.0.as_ref().ok().and_then(|restore| restore.status.clone()).unwrap_or_default();
    let told = status.restore_status == Some(Phase::Failed) && status.observed_generation == generation;
    // A restore that KubeDR 0.x completed stays completed.
    let done = status.restore_status == Some(Phase::Completed);
    if told || done || guarded.0.is_err() {
        return Ok(Requeue::await_change());
    }
    let subject = report::subject("MetadataRestore", &*guarded);
    let occasion = short_hash(&[&subject.uid, &generation.unwrap_or_default().to_string()]);
    report::event(&ctx, &subject, EventReason::RestoreFailed, &occasion, MESSAGE).await?;
    let patch = json!({
        "apiVersion": MetadataRestore::api_version(&()),
        "kind": MetadataRestore::kind(&()),
        "status": {
            "observedGeneration": generation,
            "restoreStatus": Phase::Failed,
            "restoreErrorMessage": MESSAGE,
            "restoreTime": Timestamp::now().to_string(),
        },
    });
    let resource = ApiResource::erase::<MetadataRestore>(&());
    let api = kube::Api::<DynamicObject>::namespaced_with(ctx.client.clone(), &ctx.namespace, &resource);
    let params = PatchParams::apply(field_manager::OPERATOR).force();
    let action = || format!("write the status of restore `{name}`");
    call(action, api.patch_status(&name, &params, &Patch::Apply(&patch))).await?;
    Ok(Requeue::await_change())
}
