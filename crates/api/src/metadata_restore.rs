//! `MetadataRestore`: puts a backup's data onto a volume.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::Phase;

/// Asks for the data of one record on a volume.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kubedr.catalogicsoftware.com",
    version = "v1alpha1",
    kind = "MetadataRestore",
    plural = "metadatarestores",
    namespaced,
    status = "MetadataRestoreStatus",
    derive = "PartialEq",
    shortname = "mrs",
    category = "kubedr",
    doc = "Asks for the data of one record on a volume.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.restoreStatus"),
    printcolumn(name = "Record", type_ = "string", json_path = ".spec.mbrName"),
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.pvcName"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.restoreErrorMessage"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: expected at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct MetadataRestoreSpec {
    /// Name of the `MetadataBackupRecord` whose data is wanted.
    #[x_kube(validation = Rule::new("self.size() > 0").message("mbrName: expected the name of a MetadataBackupRecord"))]
    #[schemars(length(max = 253))]
    pub mbr_name: String,

    /// Name of a `PersistentVolumeClaim` in the same namespace that takes the data.
    #[x_kube(validation = Rule::new("self.size() > 0").message("pvcName: expected the name of a PersistentVolumeClaim"))]
    #[schemars(length(max = 253))]
    pub pvc_name: String,

    /// `true` replaces a directory `data` that the volume holds already, once the new one is complete and its hash is right; until
    /// then both need room. By default such a volume is refused.
    #[serde(default)]
    pub overwrite: bool,
}

/// What became of a restore.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetadataRestoreStatus {
    /// Generation of the specification that `restoreStatus` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Initializing`, `Completed` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_status: Option<Phase>,

    /// Why the restore failed and what to do; empty on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_error_message: Option<String>,

    /// When `restoreStatus` was written: RFC 3339. KubeDR 0.x wrote free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_time: Option<String>,

    /// What was restored and what to know about it, such as files whose owner the volume did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_message: Option<String>,

    /// Id of the snapshot, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,

    /// Bytes that were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes_restored: Option<i64>,

    /// UID of the Job that `restoreStatus` speaks of.
    #[serde(default, rename = "restoreJobUID", skip_serializing_if = "Option::is_none")]
    pub restore_job_uid: Option<String>,

    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
