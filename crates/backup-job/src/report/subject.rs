//! What an event can be about.

use std::fmt::Debug;

use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use kubedr_api::{
    BackupLocation, EventReason, EventSubject, MetadataBackupPolicy, MetadataBackupRecord, MetadataRestore,
};
use serde::de::DeserializeOwned;

use super::kube_api::{ApiFailure, KubeApi, call};

/// An object of ours, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A location.
    Location(String),
    /// A policy.
    Policy(String),
    /// A restore.
    Restore(String),
    /// A record.
    Record(String),
}

impl KubeApi {
    /// Creates the event of this run unless it is there. An object that is gone needs none.
    pub async fn event_on(
        &self,
        subject: &Subject,
        reason: EventReason,
        run: &str,
        message: &str,
    ) -> Result<(), ApiFailure> {
        let found = match subject {
            Subject::Location(name) => self.subject::<BackupLocation>("BackupLocation", name).await,
            Subject::Policy(name) => self.subject::<MetadataBackupPolicy>("MetadataBackupPolicy", name).await,
            Subject::Restore(name) => self.subject::<MetadataRestore>("MetadataRestore", name).await,
            Subject::Record(name) => self.subject::<MetadataBackupRecord>("MetadataBackupRecord", name).await,
        };
        match found? {
            Some(subject) => self.event(&subject, reason, run, message).await,
            None => Ok(()),
        }
    }

    async fn subject<K>(&self, kind: &'static str, name: &str) -> Result<Option<EventSubject>, ApiFailure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let found = call(self.objects::<K>().get_opt(name)).await?;
        Ok(found.map(|object| EventSubject {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        }))
    }
}
