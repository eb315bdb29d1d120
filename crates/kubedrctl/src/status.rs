//! `status`: how the backups of a cluster stand.

mod judge;
mod render;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use kubedr_api::{BackupLocation, MetadataBackupPolicy, MetadataBackupRecord, names::LEASE};

use crate::{
    answer::Answer,
    args::ClusterArgs,
    cluster::{Cluster, code},
    failure::Failure,
    progress::Progress,
    terminal::Screen,
};
use judge::{Facts, judge};

/// Marks the operator's Deployment.
const OPERATOR: &str = "app.kubernetes.io/name=kubedr,app.kubernetes.io/component=operator";

/// Tells how the backups of this cluster stand.
pub async fn status(args: &ClusterArgs) -> Result<Answer, Failure> {
    let progress = Progress::begin("asking the cluster");
    let cluster = Cluster::connect(args).await?;
    let facts = look(&cluster).await?;
    drop(progress);
    let status = judge(&facts, Timestamp::now());
    let failure = (!status.healthy).then(|| {
        Failure::Unhealthy(format!(
            "something is wrong with the backups in namespace `{}`",
            cluster.namespace
        ))
    });
    Ok(Answer::new(render::render(&status, Screen::stdout()), &status)?.with_failure(failure))
}

async fn look(cluster: &Cluster) -> Result<Facts, Failure> {
    let list = |api: Api<DynamicObject>, what: &'static str| async move {
        let listed = api.list(&ListParams::default()).await;
        listed.map(|list| list.items).map_err(|error| cluster.failed(&format!("list {what}"), &error))
    };
    let (policies, locations, records, operator, lease) = tokio::try_join!(
        list(cluster.dynamic::<MetadataBackupPolicy>(), "policies"),
        list(cluster.dynamic::<BackupLocation>(), "locations"),
        list(cluster.dynamic::<MetadataBackupRecord>(), "records"),
        operator(cluster),
        lease(cluster),
    )?;
    Ok(Facts { namespace: cluster.namespace.clone(), policies, locations, records, operator, lease })
}

/// The Deployments of the operator; nothing is known of them by those who may not see them.
async fn operator(cluster: &Cluster) -> Result<Option<Vec<Deployment>>, Failure> {
    match cluster.api::<Deployment>().list(&ListParams::default().labels(OPERATOR)).await {
        Ok(list) => Ok(Some(list.items)),
        Err(error) if code(&error) == Some(403) => Ok(None),
        Err(error) => Err(cluster.failed("list Deployments", &error)),
    }
}

/// The operator's Lease, one or none; nothing is known of it by those who may not see it.
async fn lease(cluster: &Cluster) -> Result<Option<Vec<Lease>>, Failure> {
    match cluster.api::<Lease>().get_opt(LEASE).await {
        Ok(lease) => Ok(Some(lease.into_iter().collect())),
        Err(error) if code(&error) == Some(403) => Ok(None),
        Err(error) => Err(cluster.failed(&format!("read Lease `{LEASE}`"), &error)),
    }
}
