//! What every reconcile needs.

use std::sync::Arc;

use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};

use crate::job_settings::JobSettings;
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// Client, settings and counters, shared by all controllers.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// The one namespace that is served.
    pub namespace: String,
    /// Settings of the jobs' pods.
    pub settings: Arc<JobSettings>,
    /// UID of the namespace kube-system, which stands for the cluster.
    pub cluster_uid: String,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What /readyz answers.
    pub readiness: Arc<Readiness>,
}

impl Context {
    /// The API of a kind, in the operator's namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
