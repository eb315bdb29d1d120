//! The word that lets a record go, and how it is taken back.

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use kubedr_api::{ConditionReason, ConditionType, MetadataBackupRecord, names::field_manager, set_condition};
use serde_json::json;

use super::kube_api::{ApiFailure, KubeApi, apply_as, call};

impl KubeApi {
    /// Says on the record that its snapshot is not in the repository any more, unless it says so already or the record is
    /// gone.
    pub async fn snapshot_is_gone(
        &self,
        record: &MetadataBackupRecord,
        reason: ConditionReason,
        message: &str,
    ) -> Result<(), ApiFailure> {
        let name = record.name_any();
        let old = record.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let type_ = ConditionType::SnapshotDeleted;
        if old.iter().any(|known| known.type_ == type_.as_str() && known.status == "True") {
            return Ok(());
        }
        let mut conditions = Vec::new();
        set_condition(&mut conditions, type_, reason, message, record.metadata.generation, Timestamp::now());
        let patch = json!({
            "apiVersion": MetadataBackupRecord::api_version(&()),
            "kind": MetadataBackupRecord::kind(&()),
            // With its UID, so that a new record of the same name is left alone.
            "metadata": { "name": name, "uid": record.uid() },
            "status": { "conditions": conditions },
        });
        let (params, patch) = apply_as(field_manager::FORGET, &patch);
        match call(self.objects::<MetadataBackupRecord>().patch_status(&name, &params, &patch)).await {
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
            written => written.map(drop),
        }
    }

    /// Takes that back: the snapshot is there again, and the record stands for it as before.
    pub async fn snapshot_is_there(&self, record: &MetadataBackupRecord) -> Result<(), ApiFailure> {
        let name = record.name_any();
        let patch = json!({
            "apiVersion": MetadataBackupRecord::api_version(&()),
            "kind": MetadataBackupRecord::kind(&()),
            "metadata": { "name": name, "resourceVersion": record.resource_version() },
            // Whoever applies nothing lets go of what it had applied.
            "status": { "conditions": [] },
        });
        let (params, patch) = apply_as(field_manager::FORGET, &patch);
        match call(self.objects::<MetadataBackupRecord>().patch_status(&name, &params, &patch)).await {
            Err(error) if error.code() == Some(404) => Ok(()),
            written => written.map(drop),
        }
    }
}
