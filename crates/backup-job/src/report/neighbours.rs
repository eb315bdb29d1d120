//! What the API server knows of those who hold locks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use kubedr_api::EventReason;
use kubedr_repo::LockInfo;
use tokio::runtime::Handle;

use super::{
    Subject,
    kube_api::{KubeApi, call, persist},
};
use crate::{drive::Patience, lock::Neighbours, lock::pod_of};

/// A pod that was alive is not asked about again for this long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The pods of this run's namespace.
pub struct Pods {
    api: KubeApi,
    cluster: String,
    namespace: String,
    subject: Subject,
    run: String,
    /// The calls come from threads that may block.
    runtime: Handle,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// UIDs never come back.
    gone: BTreeSet<String>,
    alive: BTreeMap<String, Instant>,
    has_told: bool,
}

impl Pods {
    /// For the run of this Job, which tells of its waiting on `subject`. To be called inside of the runtime.
    #[must_use]
    pub fn new(api: KubeApi, cluster: &str, namespace: &str, subject: Subject, run: &str) -> Self {
        Self {
            api,
            cluster: cluster.to_owned(),
            namespace: namespace.to_owned(),
            subject,
            run: run.to_owned(),
            runtime: Handle::current(),
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change is a single one.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pod of this UID is there and has not ended. Read from the API server itself, not from a cache: a pod that
    /// is newer than what is read would seem to be gone.
    async fn is_alive(&self, uid: &str) -> bool {
        match call(self.api.objects::<Pod>().list(&ListParams::default())).await {
            Ok(pods) => pods.items.iter().any(|pod| pod.uid().as_deref() == Some(uid) && !has_ended(pod)),
            Err(error) => {
                tracing::warn!(%error, "the pods cannot be listed: nobody knows whether a lock's holder is gone");
                true
            }
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

impl Neighbours for Pods {
    fn is_gone(&self, lock: &LockInfo) -> bool {
        let Some(uid) = pod_of(lock, &self.cluster, &self.namespace) else { return false };
        if self.memory().gone.contains(uid) {
            return true;
        }
        if self.memory().alive.get(uid).is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return false;
        }
        let is_alive = self.runtime.block_on(self.is_alive(uid));
        if is_alive {
            self.memory().alive.insert(uid.to_owned(), Instant::now());
        } else {
            tracing::info!(%lock, "the pod that held this lock is gone");
            self.memory().gone.insert(uid.to_owned());
        }
        !is_alive
    }

    fn waiting(&self, lock: &LockInfo) {
        if std::mem::replace(&mut self.memory().has_told, true) {
            return;
        }
        let message = format!("The repository is locked; waiting for {lock}");
        let told =
            self.runtime.block_on(persist("creating the event `WaitingForLock`", Patience::Little, || {
                self.api.event_on(&self.subject, EventReason::WaitingForLock, &self.run, &message)
            }));
        if let Err(error) = told {
            tracing::warn!(error, "nobody was told of the waiting");
        }
    }
}
