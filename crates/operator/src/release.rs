//! The subcommand `release`: nothing of KubeDR blocks a deletion any more.
//!
//! A record's finalizer is taken off by the operator. Without one, deleting a record, its namespace or its CRD would wait for
//! ever. So before `helm uninstall` takes anything away, this ends the operator, which would set the finalizer again, then the
//! jobs that look after the repositories, waits until all are gone, and takes the finalizer off every record. Of records it lets
//! go only those whose deletion was asked for before, and snapshots it deletes none: it does not know storage. A job that was
//! deleting some is ended with the others, since nobody could follow it, and another one would make records with the finalizer.
//!
//! An operator that is ended because its namespace goes does the second half of that with its last breath ([`let_go`]).

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kubedr_api::MetadataBackupRecord;
use kubedr_api::names::{field_manager, finalizer, job_type, label};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::controllers::finalizers;

/// The operator's Deployment, as the chart calls it.
const DEPLOYMENT: &str = "kubedr-operator";
/// Labels of the operator's pods. A Deployment that is gone cannot be asked for its selector.
const OPERATOR_PODS: &str = "app.kubernetes.io/name=kubedr,app.kubernetes.io/component=operator";
/// Records in one answer of the API server.
const PAGE: u32 = 500;
/// Writes at a time.
const CONCURRENCY: usize = 8;

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All of it.
    pub whole: Duration,
    /// Waiting for the end of the operator. Its pod may be on a node that is lost, and then stays for ever.
    pub operator: Duration,
    /// Waiting for the end of the jobs, of which the same is true.
    pub jobs: Duration,
    /// Time between two looks, and between two tries.
    pub pause: Duration,
}

impl Limits {
    /// What an operator whose namespace goes takes of the thirty seconds that a pod has to end.
    const LAST_BREATH: Self = Self {
        whole: Duration::from_secs(20),
        operator: Duration::ZERO,
        jobs: Duration::ZERO,
        pause: Duration::from_millis(500),
    };
}

impl Default for Limits {
    /// Ten seconds less than the Job of the chart may take, and enough for thousands of records.
    fn default() -> Self {
        Self {
            whole: Duration::from_secs(100),
            operator: Duration::from_secs(50),
            jobs: Duration::from_secs(30),
            pause: Duration::from_secs(1),
        }
    }
}

/// Why records may still have their finalizer.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// No way to the API server is configured.
    #[error("cannot connect to the API server; run in a pod with a service account, or set KUBECONFIG")]
    Client(#[source] kube::Error),
    /// It took too long.
    #[error(
        "not all records of namespace `{namespace}` could be released within {} s; the log says why. \
         Take finalizer `{}` off by hand, or their deletion waits for an operator", .limit.as_secs(), finalizer::RECORD
    )]
    Late {
        /// The namespace.
        namespace: String,
        /// How long it was tried.
        limit: Duration,
    },
    /// SIGTERM came first.
    #[error("ended before all records of namespace `{namespace}` were released; run it again")]
    Ended {
        /// The namespace.
        namespace: String,
    },
}

/// Ends the operator of this namespace and takes the finalizer off its records. It ends within 100 seconds,
/// whatever the API server does.
pub async fn release(namespace: &str, shutdown: CancellationToken) -> Result<(), ReleaseError> {
    let client = Client::try_default().await.map_err(ReleaseError::Client)?;
    release_by(&client, namespace, Limits::default(), shutdown).await
}

/// Takes the finalizer off the records of a namespace that goes with its operator.
pub(crate) async fn let_go(client: &Client, namespace: &str) -> Result<(), ReleaseError> {
    let limits = Limits::LAST_BREATH;
    let farewell = Farewell::new(client, namespace, limits);
    tokio::time::timeout(limits.whole, farewell.free_records())
        .await
        .map_err(|_| ReleaseError::Late { namespace: namespace.to_owned(), limit: limits.whole })
}

async fn release_by(
    client: &Client,
    namespace: &str,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), ReleaseError> {
    let farewell = Farewell::new(client, namespace, limits);
    let steps = async {
        farewell.end_operator().await;
        farewell.end_jobs().await;
        farewell.free_records().await;
    };
    let namespace = || namespace.to_owned();
    tokio::select! {
        done = tokio::time::timeout(limits.whole, steps) => {
            done.map_err(|_| ReleaseError::Late { namespace: namespace(), limit: limits.whole })
        }
        () = shutdown.cancelled() => Err(ReleaseError::Ended { namespace: namespace() }),
    }
}

/// Every error is tried again, even a refusal: a Role that is a second old is not yet known to every API server.
struct Farewell {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    jobs: Api<Job>,
    records: Api<MetadataBackupRecord>,
    limits: Limits,
}

impl Farewell {
    fn new(client: &Client, namespace: &str, limits: Limits) -> Self {
        Self {
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            jobs: Api::namespaced(client.clone(), namespace),
            records: Api::namespaced(client.clone(), namespace),
            limits,
        }
    }

    /// Returns when the operator is gone, or when it has not gone for too long.
    async fn end_operator(&self) {
        self.end("the operator", self.limits.operator, || self.operator_is_gone()).await;
    }

    /// Returns when the jobs that look after the repositories are gone, or when they have not gone for too long.
    async fn end_jobs(&self) {
        self.end("the jobs of the locations", self.limits.jobs, || self.jobs_are_gone()).await;
    }

    async fn end<F>(&self, what: &str, limit: Duration, are_gone: impl Fn() -> F)
    where
        F: Future<Output = Result<bool, ApiError>>,
    {
        let gone = async {
            loop {
                match are_gone().await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(what, %error, "could not be ended and will be tried again");
                    }
                }
                tokio::time::sleep(self.limits.pause).await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_ok() {
            tracing::info!(what, "gone");
        } else {
            let seconds = limit.as_secs();
            tracing::warn!(
                what,
                seconds,
                "not gone, perhaps a node is lost; the records are released all the same"
            );
        }
    }

    /// Deletes the Deployment, which changes nothing about a deletion that is under way, and looks whether all is gone.
    async fn operator_is_gone(&self) -> Result<bool, ApiError> {
        let action = || format!("delete Deployment `{DEPLOYMENT}`");
        match call(action, self.deployments.delete(DEPLOYMENT, &DeleteParams::foreground())).await {
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let selection = ListParams::default().labels(OPERATOR_PODS);
        let pods =
            call(|| "list the operator's pods".to_owned(), self.pods.list_metadata(&selection)).await?;
        Ok(pods.items.is_empty())
    }

    /// Deletes the jobs, each of which stays until its pod is gone, and looks whether any is left.
    async fn jobs_are_gone(&self) -> Result<bool, ApiError> {
        let types = [job_type::FORGET, job_type::SYNC];
        let selection = ListParams::default().labels(&format!("{} in ({})", label::TYPE, types.join(", ")));
        let listed =
            call(|| "list the locations' jobs".to_owned(), self.jobs.list_metadata(&selection)).await?;
        for job in &listed.items {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let action = || format!("delete Job `{name}`");
            match call(action, self.jobs.delete(name, &DeleteParams::foreground())).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(listed.items.is_empty())
    }

    /// Returns when a listing shows no record with the finalizer.
    async fn free_records(&self) {
        let mut freed = 0;
        loop {
            match self.free_listed().await {
                Ok(Pass { freed: 0, left: None }) => break,
                Ok(pass) => {
                    freed += pass.freed;
                    let Some((left, error)) = pass.left else { continue };
                    tracing::warn!(left, %error, "records could not be released and will be tried again");
                }
                Err(error) => {
                    tracing::warn!(%error, "the records could not be listed and will be tried again");
                }
            }
            tokio::time::sleep(self.limits.pause).await;
        }
        tracing::info!(records = freed, "no record has the finalizer any more");
    }

    /// Takes the finalizer off every record that has it now.
    async fn free_listed(&self) -> Result<Pass, ApiError> {
        let listed = self.list().await?;
        let frees = listed.iter().filter_map(|record| {
            let others = finalizers::without(record, finalizer::RECORD)?;
            Some(self.free(record, others))
        });
        let outcomes: Vec<_> = stream::iter(frees).buffer_unordered(CONCURRENCY).collect().await;
        let all = outcomes.len();
        let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        let left = errors.len();
        Ok(Pass { freed: all - left, left: errors.into_iter().next().map(|error| (left, error)) })
    }

    /// The records of the namespace; none if their CRD is not there.
    async fn list(&self) -> Result<Vec<ObjectMeta>, ApiError> {
        let mut all = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = match call(|| "list the records".to_owned(), self.records.list_metadata(&page)).await
            {
                Err(error) if error.is_not_found() => return Ok(all),
                listed => listed?,
            };
            all.extend(listed.items.into_iter().map(|record| record.metadata));
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Leaves the record with these finalizers; one that is gone is free.
    async fn free(&self, record: &ObjectMeta, finalizers: Vec<&str>) -> Result<(), ApiError> {
        let name = record.name.as_deref().unwrap_or_default();
        // With the resource version, so that a finalizer that somebody adds meanwhile is not lost.
        let patch =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": record.resource_version } });
        let params =
            PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
        let action = || format!("remove finalizer `{}` from `{name}`", finalizer::RECORD);
        match call(action, self.records.patch_metadata(name, &params, &Patch::Merge(&patch))).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// What came of one pass over the records.
struct Pass {
    freed: usize,
    /// How many could not be released, and why the first of them could not.
    left: Option<(usize, ApiError)>,
}

#[cfg(test)]
mod tests;
