//! What flags and environment mean, or what is wrong with them.

mod backup;
mod etcd;
mod storage;

use std::{fs, path::PathBuf};

use kubedr_api::names::{etcd_secret, location_secret};
use kubedr_repo::LockHolder;

pub use self::storage::Storage;
use crate::{Failure, args::RunArgs, lock::user_name};

/// Where the secrets come from, so that messages can say where to put what is missing.
#[derive(Clone, Copy, Debug)]
pub enum SecretSource<'a> {
    /// The environment of whoever runs the job.
    Environment,
    /// A Secret of the cluster.
    Secret {
        /// Its name.
        name: &'a str,
        /// Its namespace.
        namespace: &'a str,
    },
}

impl<'a> SecretSource<'a> {
    /// The Secret of this name, or the environment if there is none.
    pub(crate) fn new(name: Option<&'a str>, namespace: Option<&'a str>) -> Self {
        match (non_empty(name), namespace) {
            (Some(name), Some(namespace)) => Self::Secret { name, namespace },
            _ => Self::Environment,
        }
    }

    fn missing(self, variable: &str, key: &str) -> Failure {
        Failure::Configuration(match self {
            Self::Environment => format!("`{variable}` is not set"),
            Self::Secret { name, namespace } => missing_key(name, namespace, key),
        })
    }
}

fn missing_key(name: &str, namespace: &str, key: &str) -> String {
    let location = [location_secret::ACCESS_KEY, location_secret::SECRET_KEY, location_secret::REPO_PASSWORD];
    let etcd = [etcd_secret::CA, etcd_secret::CERT, etcd_secret::KEY];
    let all = if etcd.contains(&key) { etcd } else { location };
    format!(
        "Secret `{name}` in namespace `{namespace}` does not exist or lacks the key `{key}`: it needs `{}`; \
         `kubectl -n {namespace} describe secret {name}` shows what it has",
        all.join("`, `")
    )
}

/// Whose lock it is: this pod's, or this machine's.
pub(crate) fn lock_holder(run: &RunArgs) -> LockHolder {
    let [cluster, namespace, pod] =
        [&run.cluster, &run.namespace, &run.pod_uid].map(|text| non_empty(text.as_deref()));
    let username = match (cluster, namespace, pod) {
        (Some(cluster), Some(namespace), Some(pod)) => user_name(cluster, namespace, pod),
        _ => "kubedr-backup-job".to_owned(),
    };
    let hostname = non_empty(run.pod_name.as_deref()).map_or_else(machine_name, str::to_owned);
    LockHolder { hostname, username }
}

fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    non_empty(Some(name.trim())).unwrap_or("localhost").to_owned()
}

/// An empty variable counts as absent.
fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn file(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

#[cfg(test)]
mod tests;
