//! Releases of the chart.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cluster::checkout;
use crate::{Cluster, resource, seconds, until};

/// The namespace that most tests share, under the name that the documentation uses.
pub const SHARED_NAMESPACE: &str = "kubedr-system";

/// An operator, installed by Helm into a namespace.
#[derive(Clone, Debug)]
pub struct Release {
    namespace: String,
    values: Vec<String>,
    start: Start,
}

/// How a test begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the release.
    Installed,
    /// With nothing of ours in the cluster.
    FromScratch,
}

impl Release {
    /// The release in [`SHARED_NAMESPACE`], which brings the CRDs; installed, or upgraded to this checkout, at the first call.
    ///
    /// # Panics
    /// When that fails, since then every test fails.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Release> = OnceLock::new();
        SHARED.get_or_init(|| {
            let release =
                Self { namespace: SHARED_NAMESPACE.to_owned(), values: Vec::new(), start: Start::Installed };
            release.prepare().expect("the chart installs into a fresh cluster");
            release
        })
    }

    /// A release of its own for a test, to be installed; `values` are arguments of `--set`.
    #[must_use]
    pub fn own(namespace: &str, values: &[&str]) -> Self {
        let mut values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        values.push("crds.install=false".to_owned());
        Self { namespace: namespace.to_owned(), values, start: Start::Installed }
    }

    /// A release that a test installs itself, with the CRDs.
    #[must_use]
    pub fn to_come(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), values: Vec::new(), start: Start::FromScratch }
    }

    /// Path of the chart.
    #[must_use]
    pub fn chart() -> String {
        checkout().join("charts/kubedr").display().to_string()
    }

    /// The namespace that the operator serves.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes the namespace and, unless the test is to do so, installs the chart into it.
    pub fn prepare(&self) -> Result<()> {
        let cluster = Cluster::get();
        match self.start {
            Start::Installed => {
                prepare_namespace(cluster, &self.namespace)?;
                self.upgrade(&[])
            }
            Start::FromScratch => {
                remove_all(cluster)?;
                prepare_namespace(cluster, &self.namespace)
            }
        }
    }

    /// Takes the CRDs away that a test brought itself: the next release has its own.
    pub(crate) fn leave(&self) -> Result<()> {
        match self.start {
            Start::Installed => Ok(()),
            Start::FromScratch => remove_all(Cluster::get()),
        }
    }

    /// Upgrades the release with further values and waits until the operator of them runs.
    pub fn upgrade(&self, more: &[&str]) -> Result<()> {
        let cluster = Cluster::get();
        let images = Self::images();
        let chart = Self::chart();
        let mut args = vec!["upgrade", "--install", "kubedr", &chart, "--namespace", &self.namespace];
        args.extend(["--wait", "--timeout", "120s"]);
        args.extend(images.iter().map(String::as_str));
        args.extend(
            self.values
                .iter()
                .map(String::as_str)
                .chain(more.iter().copied())
                .flat_map(|value| ["--set", value]),
        );
        let output = cluster.helm(&args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "helm upgrade --install into {} failed: {said}", self.namespace);
        Ok(())
    }

    /// Arguments of Helm that name the images of this checkout.
    #[must_use]
    pub fn images() -> Vec<String> {
        // As JSON, for a tag of digits only is a text all the same; and `--set` of a test goes over it.
        let image = |(value, variable)| format!("image.{value}={:?}", Cluster::get().var(variable));
        [
            ("registry", "IMAGE_REGISTRY"),
            ("operator.tag", "OPERATOR_TAG"),
            ("backupJob.tag", "BACKUP_JOB_TAG"),
        ]
        .map(image)
        .into_iter()
        .flat_map(|value| ["--set-json".to_owned(), value])
        .collect()
    }

    /// The operator's pods that are not being deleted, oldest first.
    pub fn operator_pods(&self) -> Result<Vec<String>> {
        let mut pods = Cluster::get().api().list(&resource(&self.namespace, "pods"), "")?;
        pods.retain(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            name.starts_with("kubedr-operator-") && pod["metadata"]["deletionTimestamp"].is_null()
        });
        pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].to_string());
        Ok(pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Sets the number of operators and waits until it is so.
    pub fn scale(&self, replicas: usize) -> Result<()> {
        let deployment = resource(&self.namespace, "deployments") + "/kubedr-operator";
        let api = Cluster::get().api();
        api.merge(&deployment, &json!({ "spec": { "replicas": replicas } }))?;
        until(&format!("{replicas} operators"), seconds(60), || {
            let pods = self.operator_pods()?;
            let ready = api.get(&deployment)?["status"]["readyReplicas"].as_u64().unwrap_or(0);
            ensure!(pods.len() == replicas && ready == replicas as u64, "{pods:?}, {ready} ready");
            Ok(())
        })
    }
}

/// The namespace with the Pod Security label that backup pods need, and etcd's certificates in `etcd-creds`.
fn prepare_namespace(cluster: &Cluster, namespace: &str) -> Result<()> {
    let api = cluster.api();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "labels": { "pod-security.kubernetes.io/enforce": "privileged" },
        },
    });
    api.apply(&format!("/api/v1/namespaces/{namespace}"), &object)?;
    let read =
        |name| std::fs::read_to_string(cluster.var(name)).with_context(|| format!("the file of {name}"));
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "etcd-creds" },
        "stringData": { "ca.crt": read("ETCD_CA")?, "client.crt": read("ETCD_CERT")?, "client.key": read("ETCD_KEY")? },
    });
    api.apply(&format!("{}/etcd-creds", resource(namespace, "secrets")), &secret)?;
    Ok(())
}

/// Takes away the shared release, all objects of our kinds, and the CRDs.
fn remove_all(cluster: &Cluster) -> Result<()> {
    let release = [
        "uninstall",
        "kubedr",
        "--namespace",
        SHARED_NAMESPACE,
        "--no-hooks",
        "--ignore-not-found",
        "--wait",
    ];
    let gone = cluster.helm(&release)?;
    ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    let crds = cluster.kubectl(&["get", "crd", "--output=name"])?;
    for crd in crds.lines().filter(|crd| crd.ends_with(".kubedr.catalogicsoftware.com")) {
        let plural = crd.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
        let all = format!("/apis/kubedr.catalogicsoftware.com/v1alpha1/{plural}");
        for object in cluster.api().list(&all, "")? {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let path = format!("{}/{}", resource(&text("namespace"), plural), text("name"));
            let freed = cluster.api().merge(&path, &json!({ "metadata": { "finalizers": null } }));
            // One that is being deleted may go by itself.
            if cluster.api().find(&path)?.is_some() {
                freed?;
            }
        }
        cluster.kubectl(&["delete", crd, "--timeout=60s"])?;
    }
    Ok(())
}
