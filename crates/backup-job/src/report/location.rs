//! What all jobs of a location do with it: read it, write their part of its status, tell events.

use kube::{Resource, ResourceExt};
use kubedr_api::{BackupLocation, BackupLocationStatus, EventReason};
use serde_json::json;

use super::{
    Subject,
    kube_api::{ApiFailure, KubeApi, apply_as, call, persist},
};
use crate::drive::Patience;

impl KubeApi {
    /// The location as it is now. One that was deleted meanwhile has nobody to be told.
    pub async fn location(&self, name: &str) -> Result<Option<BackupLocation>, ApiFailure> {
        call(self.objects::<BackupLocation>().get_opt(name)).await
    }

    /// Writes what this field manager owns of the status of a location, as it was read: the rest has other writers.
    pub async fn apply_location_status(
        &self,
        location: &BackupLocation,
        field_manager: &str,
        status: &BackupLocationStatus,
    ) -> Result<(), ApiFailure> {
        let name = location.name_any();
        let patch = json!({
            "apiVersion": BackupLocation::api_version(&()),
            "kind": BackupLocation::kind(&()),
            "metadata": { "name": name, "resourceVersion": location.resource_version() },
            "status": status,
        });
        let (params, patch) = apply_as(field_manager, &patch);
        call(self.objects::<BackupLocation>().patch_status(&name, &params, &patch)).await.map(drop)
    }

    /// Tells an event of a location that belongs to this run.
    pub async fn location_event(
        &self,
        location: &str,
        run: &str,
        (reason, message): (EventReason, &str),
        patience: Patience,
    ) -> Result<(), String> {
        let what = format!("creating the event `{}`", reason.as_str());
        let subject = Subject::Location(location.to_owned());
        persist(&what, patience, || self.event_on(&subject, reason, run, message)).await
    }
}
