//! `BackupLocation`: where backups go.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::Phase;

/// Where backups are stored: a bucket of an S3 service. A job initialises a restic repository in it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kubedr.catalogicsoftware.com",
    version = "v1alpha1",
    kind = "BackupLocation",
    plural = "backuplocations",
    namespaced,
    status = "BackupLocationStatus",
    derive = "PartialEq",
    shortname = "bl",
    category = "kubedr",
    doc = "Where backups are stored: a bucket of an S3 service, in which a job initialises a restic repository.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.initStatus"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.bucketName"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.initErrorMessage", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: expected at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupLocationSpec {
    /// Endpoint of the S3 service: scheme, host and port, without a path. Examples: `http://10.96.57.3:9000`,
    /// `https://s3.eu-west-1.amazonaws.com`. A change is validated and initialised anew; backups go on to the old
    /// place until the new one is ready.
    #[x_kube(validation = Rule::new(r"self.matches('^https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?$')")
        .message("url: expected http:// or https://, a host and perhaps a port, without a path, such as https://s3.eu-west-1.amazonaws.com"))]
    #[schemars(length(min = 1, max = 1024))]
    pub url: String,

    /// Name of the bucket. It is created if it does not exist.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$')")
        .message("bucketName: expected 3 to 63 lower-case letters, digits, dots and hyphens, as S3 takes them"))]
    #[schemars(length(min = 1, max = 63))]
    pub bucket_name: String,

    /// Name of a Secret in the same namespace with the keys `access_key`, `secret_key` and `restic_repo_password`. The
    /// password encrypts the repository: keep a copy outside the cluster, without it no backup can be restored.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("credentials: expected the name of a Secret"))]
    #[schemars(length(min = 1, max = 253))]
    pub credentials: String,
}

/// What is known of a location.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupLocationStatus {
    /// Generation of the specification that `initStatus` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Initializing`, `Completed` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_status: Option<Phase>,

    /// Why initialisation failed and what to do; empty on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_error_message: Option<String>,

    /// When `initStatus` was written: RFC 3339. KubeDR 0.x wrote free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_time: Option<String>,

    /// Identity of the repository, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,

    /// Resource version of the Secret with which the repository was last opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_version: Option<String>,

    /// UID of the init Job that `initStatus` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_job_uid: Option<String>,

    /// Conditions. `Ready`: the repository is initialised and opens with the password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
