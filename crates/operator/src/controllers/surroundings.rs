//! Whether what holds the records is being deleted: then they are too, and not because somebody wants their snapshots gone.
//!
//! Namespace and CRD are marked before what is in them, so whoever first sees that a record is being deleted and then that
//! these two are not knows that the record itself was meant.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, CustomResourceExt};
use kubedr_api::MetadataBackupRecord;
use tokio::sync::Mutex;

use crate::api_call::{ApiError, call};
use crate::context::Context;

/// So many records may be deleted at once that each of them cannot ask.
const REMEMBERED: Duration = Duration::from_secs(1);

/// The records' namespace and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// They stay.
    Staying,
    /// One of them is being deleted or is gone.
    Leaving,
}

/// Reads both.
pub async fn read(ctx: &Context) -> Result<Surroundings, ApiError> {
    let name = &ctx.namespace;
    let namespaces = Api::<Namespace>::all(ctx.client.clone());
    let namespace = call(|| format!("read namespace `{name}`"), namespaces.get_metadata_opt(name)).await?;
    let name = MetadataBackupRecord::crd_name();
    let crds = Api::<CustomResourceDefinition>::all(ctx.client.clone());
    let crd = call(|| format!("read CustomResourceDefinition `{name}`"), crds.get_metadata_opt(name)).await?;
    let stays = |metadata: Option<&ObjectMeta>| metadata.is_some_and(|m| m.deletion_timestamp.is_none());
    let both = stays(namespace.as_ref().map(|n| &n.metadata)) && stays(crd.as_ref().map(|c| &c.metadata));
    Ok(if both { Surroundings::Staying } else { Surroundings::Leaving })
}

/// What was read a moment ago. It is good enough to keep a record waiting or to let it go, and never to delete a snapshot.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<Option<(Instant, Surroundings)>>);

impl Remembered {
    /// What was read within the last second, or what is so now.
    pub async fn get(&self, ctx: &Context) -> Result<Surroundings, ApiError> {
        let mut last = self.0.lock().await;
        // Not for longer, whatever it is: a CRD that was deleted may be installed anew.
        if let Some((at, known)) = *last
            && at.elapsed() < REMEMBERED
        {
            return Ok(known);
        }
        let known = read(ctx).await?;
        *last = Some((Instant::now(), known));
        Ok(known)
    }
}
