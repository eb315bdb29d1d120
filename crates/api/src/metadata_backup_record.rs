//! `MetadataBackupRecord`: one for each backup; together they are the catalogue.
#![allow(
    clippy::duplicated_attributes,
    reason = "clippy takes the columns of two `printcolumn`s for one attribute given twice"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hex digits of a snapshot's id that people read and type.
const SHORT_ID: usize = 8;

/// One backup in the catalogue. Created after every successful backup, and for every backup that is found in a repository.
/// Deleting it deletes the snapshot.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kubedr.catalogicsoftware.com",
    version = "v1alpha1",
    kind = "MetadataBackupRecord",
    plural = "metadatabackuprecords",
    namespaced,
    status = "MetadataBackupRecordStatus",
    derive = "PartialEq",
    shortname = "mbr",
    category = "kubedr",
    doc = "One backup in the catalogue. Deleting it deletes the snapshot; nothing else does.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policy"),
    printcolumn(name = "Location", type_ = "string", json_path = ".spec.backuploc"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshotId"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.totalBytesProcessed"),
    printcolumn(
        name = "Certificates",
        type_ = "boolean",
        json_path = ".status.certificates",
        priority = "1"
    ),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.backupTime"),
    printcolumn(name = "Origin", type_ = "string", json_path = ".status.origin", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MetadataBackupRecordSpec {
    /// Name of the `BackupLocation` that holds the snapshot.
    #[schemars(length(min = 1, max = 253))]
    pub backuploc: String,

    /// Name of the policy that the backup was taken for.
    #[schemars(length(min = 1, max = 253))]
    pub policy: String,

    /// First eight hex digits of the snapshot's id, as `restic snapshots` shows it.
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{8,64}$')").message("snapshotId: expected 8 to 64 hex digits"))]
    #[schemars(length(min = 1, max = 64))]
    pub snapshot_id: String,
}

/// What is known of a backup.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetadataBackupRecordStatus {
    /// The snapshot's id, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,

    /// Identity of the repository that holds the snapshot, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,

    /// When the snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub backup_time: Option<String>,

    /// Bytes that a restore writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes_processed: Option<i64>,

    /// Whether the backup holds the certificates too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<bool>,

    /// `Backup`: this cluster took it and wrote the record when it had. `Discovered`: the backup was found in the repository;
    /// retention never deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,

    /// The cluster that took the backup: UID of its namespace kube-system. Unknown for backups of KubeDR 0.x.
    #[serde(default, rename = "clusterUID", skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,

    /// Conditions. `SnapshotDeleted`: the snapshot is gone from the repository, so that the record goes too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a record comes from.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[schemars(transform = crate::run::without_description)]
pub enum Origin {
    /// A backup of this cluster.
    Backup,
    /// Found in the repository.
    Discovered,
}

/// The first eight hex digits of a snapshot's id.
#[must_use]
pub fn short_snapshot_id(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Name of the record for a snapshot, given by its id in full or in short.
#[must_use]
pub fn record_name(snapshot_id: &str) -> String {
    format!("mbr-{}", short_snapshot_id(snapshot_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_after_the_short_id() {
        assert_eq!(record_name("0123456789abcdef"), "mbr-01234567");
        assert_eq!(record_name("01234567"), "mbr-01234567");
    }
}
