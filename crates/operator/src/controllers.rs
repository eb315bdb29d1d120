//! The controllers, and what they have in common.

pub mod finalizers;
pub mod location;
pub mod maintenance;
pub mod policy;
pub mod record;
pub mod restore;
pub mod retention;
pub mod run;
#[cfg(test)]
mod scenarios;
pub mod surroundings;
pub mod totals;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::metrics::ControllerName;

/// Reconciles of one controller at a time. They wait for the API server most of the time.
const CONCURRENCY: u16 = 4;
/// Shortest and longest time until a failed reconcile is tried again; in between it is a matter of chance, so that
/// objects that failed together do not come back together.
const RETRY: std::ops::Range<u64> = 2_000..8_000;

/// Time until an object is looked at again when what belongs to it had not been listed yet.
const CACHE_UNKNOWN_RETRY: Duration = Duration::from_millis(200);

/// Runs a controller until `shutdown`; it ends when its reconciles under way have ended.
pub async fn drive<K, C, E, F>(
    name: ControllerName,
    controller: Controller<K>,
    reconcile: fn(Arc<K>, Arc<C>) -> F,
    ctx: Arc<Context>,
    shared: Arc<C>,
    shutdown: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Debug + Hash + Eq + Clone + Unpin,
    C: Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
{
    let objects = controller.store();
    let readiness = Arc::clone(&ctx.readiness);
    let metrics = Arc::clone(&ctx.metrics);
    let synced = async move {
        if objects.wait_until_ready().await.is_ok() {
            readiness.synced(name);
        }
    };
    let retry = |_: Arc<K>, _: &E, _: Arc<C>| Action::requeue(retry_after());
    let results = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(reconcile, retry, shared)
        .for_each(move |result| {
            let controller = name.as_str();
            match result {
                Ok(_) => metrics.count(name, true),
                Err(Error::ReconcilerFailed(error, object)) => {
                    metrics.count(name, false);
                    tracing::warn!(controller, object = object.name, %error, "a reconcile failed and will be tried again");
                }
                // An object that was deleted while it waited for its turn.
                Err(Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(controller, %error, "a watch was interrupted and will be resumed"),
            }
            std::future::ready(())
        });
    let synced = async {
        tokio::select! {
            () = synced => {}
            () = shutdown.cancelled() => {}
        }
    };
    futures::join!(synced, results);
}

fn retry_after() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let chance = RandomState::new().hash_one(());
    Duration::from_millis(RETRY.start + chance % (RETRY.end - RETRY.start))
}

/// The metadata of each object that appears, changes or goes: enough to know what to look at.
pub fn changes<K>(
    ctx: &Context,
    selection: watcher::Config,
) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send + 'static
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + Send + 'static,
{
    watcher(ctx.api::<PartialObjectMeta<K>>(), selection).default_backoff().touched_objects()
}

/// A cache of the objects of a kind, and each that appears, changes or goes.
pub fn mirror<K>(
    ctx: &Context,
    selection: watcher::Config,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (all, writer) = store();
    let stream = watcher(ctx.api::<K>(), selection)
        .default_backoff()
        .modify(|object| forget_details(object.meta_mut()))
        .reflect(writer)
        .touched_objects();
    (all, stream)
}

/// Drops what no controller reads and what makes up most of an object's size.
pub fn forget_details(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
