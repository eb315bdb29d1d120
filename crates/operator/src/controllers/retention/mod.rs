//! Retention: deletes the records of each policy that its rules do not keep. What that means for the snapshots is a matter of
//! `record` and `maintenance`.

mod select;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use kubedr_api::{BackupLocation, MetadataBackupPolicy, MetadataBackupRecord};
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::{CACHE_UNKNOWN_RETRY, drive, mirror, record};
use crate::metrics::ControllerName;
use crate::retention::KeepRules;
use select::{Known, expired_records, repositories, rules};

/// Records that are deleted at a time; the next ones follow after [`PAUSE`].
const BATCH: usize = 100;
const PAUSE: Duration = Duration::from_secs(1);

/// As they are watched: an object that does not fit the type does not hide the others.
type Guarded = DeserializeGuard<MetadataBackupPolicy>;
type GuardedLocation = DeserializeGuard<BackupLocation>;

/// Context of this controller.
pub(super) struct Policies {
    pub(super) ctx: Arc<Context>,
    pub(super) records: Store<record::Guarded>,
    pub(super) locations: Store<GuardedLocation>,
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let controller = Controller::<Guarded>::new(ctx.api(), watcher::Config::default());
    let policies = controller.store();
    let (records, record_stream) = mirror::<record::Guarded>(&ctx, watcher::Config::default());
    let (locations, location_stream) = mirror::<GuardedLocation>(&ctx, watcher::Config::default());
    let controller = controller
        .watches_stream(record_stream, |record| {
            let policy = &record.0.as_ref().ok()?.spec.policy;
            Some(ObjectRef::<Guarded>::new(policy).within(&record.namespace()?))
        })
        // Whether a location's snapshots may be deleted matters to all policies that ever had it as destination.
        .watches_stream(location_stream, move |_| {
            policies.state().iter().map(|policy| ObjectRef::from_obj(&**policy)).collect::<Vec<_>>()
        });
    let shared = Arc::new(Policies { ctx: Arc::clone(&ctx), records, locations });
    drive(ControllerName::Retention, controller, reconcile, ctx, shared, shutdown).await;
}

pub(super) async fn reconcile(guarded: Arc<Guarded>, shared: Arc<Policies>) -> Result<Requeue, ApiError> {
    let Ok(policy) = &guarded.0 else { return Ok(Requeue::await_change()) };
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(Requeue::await_change());
    }
    let name = policy.name_any();
    let rules = match rules(&policy.spec) {
        Ok(rules) => rules,
        Err(error) => {
            tracing::warn!(policy = name, %error, "the keep rules cannot be read, so nothing is deleted");
            return Ok(Requeue::await_change());
        }
    };
    let ready = [
        shared.records.wait_until_ready().now_or_never().is_some(),
        shared.locations.wait_until_ready().now_or_never().is_some(),
    ];
    if ready.contains(&false) {
        return Ok(Requeue::requeue(CACHE_UNKNOWN_RETRY));
    }
    let ctx = &*shared.ctx;
    let (locations, records) = (shared.locations.state(), shared.records.state());
    let cached = View {
        locations: repositories(locations.iter().filter_map(|guarded| guarded.0.as_ref().ok())),
        records: records.iter().filter_map(|guarded| guarded.0.as_ref().ok()).collect(),
    };
    if cached.expired(ctx, policy, &rules).is_empty() {
        return Ok(Requeue::await_change());
    }
    delete_expired(ctx, policy).await
}

/// What retention looks at.
struct View<'a> {
    locations: HashMap<String, String>,
    records: Vec<&'a MetadataBackupRecord>,
}

impl<'a> View<'a> {
    fn expired(
        &self,
        ctx: &Context,
        policy: &MetadataBackupPolicy,
        rules: &KeepRules,
    ) -> Vec<&'a MetadataBackupRecord> {
        let known =
            Known { repositories: &self.locations, cluster_uid: &ctx.cluster_uid, now: Timestamp::now() };
        expired_records(policy, rules, self.records.iter().copied(), known)
    }
}

/// Judges anew by what the API server says now: a cache may show a record that somebody has just deleted, and one more than
/// needed would go, or rules that have just been relaxed.
async fn delete_expired(ctx: &Context, policy: &MetadataBackupPolicy) -> Result<Requeue, ApiError> {
    let name = policy.name_any();
    let api = ctx.api::<MetadataBackupPolicy>();
    let now = call(|| format!("read policy `{name}`"), api.get_opt(&name)).await?;
    let Some(policy) =
        now.filter(|now| now.uid() == policy.uid() && now.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Requeue::await_change());
    };
    let Ok(rules) = rules(&policy.spec) else { return Ok(Requeue::await_change()) };
    let locations = list::<GuardedLocation>(ctx, "locations").await?;
    let records = list::<record::Guarded>(ctx, "records").await?;
    let view = View {
        locations: repositories(locations.iter().filter_map(|guarded| guarded.0.as_ref().ok())),
        records: records.iter().filter_map(|guarded| guarded.0.as_ref().ok()).collect(),
    };
    let expired = view.expired(ctx, &policy, &rules);
    for record in expired.iter().take(BATCH) {
        delete(ctx, &name, record).await?;
    }
    Ok(if expired.len() > BATCH { Requeue::requeue(PAUSE) } else { Requeue::await_change() })
}

async fn list<K>(ctx: &Context, what: &str) -> Result<Vec<K>, ApiError>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    Ok(call(|| format!("list {what}"), ctx.api::<K>().list(&ListParams::default())).await?.items)
}

/// Deletes the record as it was when it was judged: one that was pinned or deleted since stays as it is.
async fn delete(ctx: &Context, policy: &str, record: &MetadataBackupRecord) -> Result<(), ApiError> {
    let name = record.name_any();
    let preconditions = Preconditions { uid: record.uid(), resource_version: record.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let api = ctx.api::<MetadataBackupRecord>();
    match call(|| format!("delete record `{name}`"), api.delete(&name, &params)).await {
        Ok(_) => {
            tracing::info!(policy, record = name, "retention deletes a record");
            Ok(())
        }
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
