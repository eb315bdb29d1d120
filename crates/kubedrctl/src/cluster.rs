//! The cluster: how it is reached, and what it means when it does not answer as it should.

use std::{fmt::Debug, time::Duration};

use kube::{
    Api, Client, Config, Resource,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;

use crate::{args::ClusterArgs, failure::Failure};

/// Time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Cluster {
    /// The cluster that flags and environment lead to.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, Failure> {
        let no_way = |error: &dyn std::fmt::Display| {
            Failure::Cluster(format!(
                "no way to a cluster: {error}; give `--kubeconfig` or set KUBECONFIG, and `--context` if it has several"
            ))
        };
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &args.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| no_way(&chain(&error)))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| no_way(&chain(&error)))?
            }
            None if args.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| no_way(&chain(&error)))?
            }
            None => Config::infer().await.map_err(|error| no_way(&chain(&error)))?,
        };
        config.connect_timeout = Some(CALL_TIMEOUT);
        config.read_timeout = Some(CALL_TIMEOUT);
        let client = Client::try_from(config).map_err(|error| no_way(&chain(&error)))?;
        Ok(Self::new(client, &args.namespace))
    }

    /// The namespace behind this client.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// Objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind, also such as do not fit it.
    pub fn dynamic<K>(&self) -> Api<DynamicObject>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<K>(&()))
    }

    /// What it means that this could not be done.
    pub fn failed(&self, action: &str, error: &kube::Error) -> Failure {
        let advice = match code(error) {
            Some(401) => {
                "; the cluster does not know these credentials: log in anew, or choose another `--context`"
            }
            Some(403) => {
                "; the rights of this user do not suffice: ask for them, or choose another `--context`"
            }
            Some(404) => "; KubeDR is not installed in this cluster, or another `--context` was meant",
            Some(_) => "",
            None => "; check that the cluster runs and that `--kubeconfig` and `--context` lead to it",
        };
        Failure::Cluster(format!(
            "cannot {action} in namespace `{}`: {}{advice}",
            self.namespace,
            chain(error)
        ))
    }
}

/// The HTTP status, if the API server answered.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
