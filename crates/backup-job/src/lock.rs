//! Locks of this run: in its name, and visible while it waits for others.

use std::{fmt, sync::Arc, time::Duration};

use kubedr_repo::{LockGuard, LockHolder, LockInfo, LockMode, LockOptions, Repository};

use crate::{Failure, backup::blocking};

/// Who knows of the holders of other locks, and is told that this run waits for them. Called where blocking is allowed.
pub trait Neighbours: Send + Sync {
    /// Whether it is certain that the holder of this lock is no more.
    fn is_gone(&self, lock: &LockInfo) -> bool;

    /// This lock stands in the way: told when the waiting begins, and then every minute.
    fn waiting(&self, lock: &LockInfo);
}

/// Nobody: without a cluster only the age of a lock counts.
#[derive(Debug)]
pub struct NoNeighbours;

impl Neighbours for NoNeighbours {
    fn is_gone(&self, _: &LockInfo) -> bool {
        false
    }

    fn waiting(&self, _: &LockInfo) {}
}

/// How a run locks a repository.
#[derive(Clone)]
pub enum Locking {
    /// Not at all, since nothing may be written.
    Off,
    /// In the way of restic, which respects these locks and whose locks are respected.
    Restic {
        /// In whose name.
        holder: LockHolder,
        /// How long it waits for others.
        wait: Duration,
        /// Who knows of others.
        neighbours: Arc<dyn Neighbours>,
    },
}

impl fmt::Debug for Locking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Restic { holder, wait, neighbours: _ } => {
                f.debug_struct("Restic").field("holder", holder).field("wait", wait).finish_non_exhaustive()
            }
        }
    }
}

/// A repository under a lock. Dropping it gives the lock back, also when SIGTERM ends the work.
#[derive(Debug)]
pub struct Locked {
    /// The repository: it refuses changes once the lock is lost.
    pub repository: Arc<Repository>,
    guard: Option<LockGuard>,
}

impl Locking {
    /// Takes a lock, waiting for others if need be.
    pub async fn take(&self, repository: &Arc<Repository>, mode: LockMode) -> Result<Locked, Failure> {
        let Self::Restic { holder, wait, neighbours } = self.clone() else {
            return Ok(Locked { repository: repository.clone(), guard: None });
        };
        let repository = repository.clone();
        blocking(move || {
            let waiting = |lock: &LockInfo| {
                tracing::info!(%lock, "waiting for a lock on the repository");
                neighbours.waiting(lock);
            };
            let is_gone = |lock: &LockInfo| neighbours.is_gone(lock);
            let options = LockOptions { holder, mode, wait, is_gone: &is_gone, waiting: &waiting };
            let guard = repository.lock(&options)?;
            Ok(Locked { repository: Arc::new(repository.hold(&guard)), guard: Some(guard) })
        })
        .await
    }
}

impl Locked {
    /// Gives the lock back.
    pub async fn release(self) {
        let Self { repository: _, guard } = self;
        // What cannot be removed goes stale; the log says so.
        let _ = blocking(move || {
            drop(guard);
            Ok(())
        })
        .await;
    }
}

/// Name of a lock's holder that is a pod: cluster, namespace and pod by their UIDs and name.
#[must_use]
pub fn user_name(cluster: &str, namespace: &str, pod_uid: &str) -> String {
    format!("kubedr/{cluster}/{namespace}/{pod_uid}")
}

/// UID of the pod of this cluster and namespace that holds the lock, if one does.
#[must_use]
pub fn pod_of<'a>(lock: &'a LockInfo, cluster: &str, namespace: &str) -> Option<&'a str> {
    let pod = lock.username.strip_prefix(user_name(cluster, namespace, "").as_str())?;
    (!cluster.is_empty() && !pod.is_empty() && !pod.contains('/')).then_some(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_of(username: &str) -> LockInfo {
        LockInfo {
            id: "00".repeat(32),
            time: "2026-11-22T12:00:00Z".parse().unwrap(),
            exclusive: true,
            hostname: "daily-1-x".into(),
            username: username.into(),
            pid: 1,
        }
    }

    #[test]
    fn only_a_lock_of_this_cluster_and_namespace_has_a_pod_that_can_be_looked_for() {
        let own = lock_of(&user_name("c1", "ns", "p1"));
        assert_eq!(pod_of(&own, "c1", "ns"), Some("p1"));
        assert_eq!(pod_of(&own, "c2", "ns"), None);
        assert_eq!(pod_of(&own, "c1", "n"), None);
        assert_eq!(pod_of(&own, "", "ns"), None);
        for other in ["root", "kubedr/c1/ns/", "kubedr/c1/ns", "kubedr/c1/ns/p1/x", ""] {
            assert_eq!(pod_of(&lock_of(other), "c1", "ns"), None, "{other}");
        }
        assert_eq!(pod_of(&lock_of("kubedr//ns/p1"), "", "ns"), None, "a cluster that nobody knows");
    }
}
