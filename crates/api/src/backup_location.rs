//! `BackupLocation`: where backups go.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::Phase;

/// Where backups are stored: a bucket of an S3 service, or a volume. A job initialises a restic repository in it.
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
    doc = "Where backups are stored: a bucket of an S3 service or a volume, in which a job initialises a restic repository.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Available", type_ = "string", json_path = r#".status.conditions[?(@.type=="Available")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.initStatus"),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.bucketName"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.prefix", priority = "1"),
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.volume.claimName", priority = "1"),
    printcolumn(name = "Access", type_ = "string", json_path = ".spec.accessMode", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.initErrorMessage", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: expected at most 63 characters")
)]
#[x_kube(validation = Rule::new("has(self.volume) ? !has(self.url) && !has(self.bucketName) : has(self.url) && has(self.bucketName)")
    .message("url, bucketName, volume: expected either url and bucketName, or volume"))]
#[x_kube(validation = Rule::new("!has(self.volume) || (!has(self.region) && !has(self.caCert) && !self.insecureSkipTLSVerify)")
    .message("region, caCert and insecureSkipTLSVerify: expected only with url, not with volume"))]
#[serde(rename_all = "camelCase")]
pub struct BackupLocationSpec {
    /// Endpoint of the S3 service: scheme, host and port, without a path. Examples: `http://10.96.57.3:9000`,
    /// `https://s3.eu-west-1.amazonaws.com`. A change is validated and initialised anew; backups go on to the old
    /// place until the new one is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?$')")
        .message("url: expected http:// or https://, a host and perhaps a port, without a path, such as https://s3.eu-west-1.amazonaws.com"))]
    #[schemars(length(min = 1, max = 1024))]
    pub url: Option<String>,

    /// Name of the bucket. It is created if it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$')")
        .message("bucketName: expected 3 to 63 lower-case letters, digits, dots and hyphens, as S3 takes them"))]
    #[schemars(length(min = 1, max = 63))]
    pub bucket_name: Option<String>,

    /// Path of the repository inside the bucket or volume, such as `clusters/berlin`, so that several clusters share one
    /// bucket with a repository each. Default: the bucket's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^[A-Za-z0-9!_.*()-]+(/[A-Za-z0-9!_.*()-]+)*$')")
        .message("prefix: expected names separated by single slashes, without one at the beginning or the end, such as clusters/berlin"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..' || p == '.')").message("prefix: expected a path without `.` and `..`"))]
    #[schemars(length(min = 1, max = 512))]
    pub prefix: Option<String>,

    /// A volume instead of an S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeTarget>,

    /// Name of a Secret in the same namespace with the keys `access_key`, `secret_key` and `restic_repo_password`, and perhaps
    /// `session_token`. Without `access_key` and `secret_key` the job takes the credentials that its surroundings offer: web
    /// identity, then the instance's profile. The password encrypts the repository: keep a copy outside the cluster, without it
    /// no backup can be restored.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("credentials: expected the name of a Secret"))]
    #[schemars(length(min = 1, max = 253))]
    pub credentials: String,

    /// Region of the S3 service. Default: the one that the host names (`s3.eu-west-1.amazonaws.com`), else `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9-]+$')").message("region: expected a name such as eu-west-1"))]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// Certificates (PEM) that are trusted for the S3 service beside the system's: a key of a Secret or of a `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.secret) != has(self.configMap)").message("caCert: expected either secret or configMap"))]
    pub ca_cert: Option<CaCertSource>,

    /// `true` accepts any certificate of the S3 service. Whoever sits between cluster and service can then read and change what
    /// is sent; the repository itself stays encrypted. For trials.
    #[serde(default, rename = "insecureSkipTLSVerify")]
    pub insecure_skip_tls_verify: bool,

    /// `true` asks for `https://host/bucket`, which every service understands, `false` for `https://bucket.host`.
    #[serde(default = "yes")]
    pub force_path_style: bool,

    /// `ReadOnly` lists and restores what is there, and never writes, deletes or locks: for a cluster that stands by for the
    /// loss of another. The repository must exist.
    #[serde(default)]
    pub access_mode: AccessMode,

    /// Time between two looks at the repository, each of which asks whether the storage answers and the password opens it, and
    /// brings the records up to date: hours, minutes and seconds, such as `30m` or `1h`. At least a minute.
    #[serde(default = "one_hour")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1m') && duration(self) <= duration('8760h')")
        .message("validationFrequency: expected hours, minutes and seconds, such as 30m or 1h30m, at least a minute and at most a year"))]
    #[schemars(length(min = 2, max = 32))]
    pub validation_frequency: String,
}

/// A volume that holds the repository.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTarget {
    /// Name of a `PersistentVolumeClaim` in the same namespace. One that only a single node can mount at a time
    /// (`ReadWriteOnce`) keeps all jobs on one master node.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("volume.claimName: expected the name of a PersistentVolumeClaim"))]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// Where a certificate authority is: exactly one of the two.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaCertSource {
    /// A key of a Secret in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<CaCertKey>,
    /// A key of a `ConfigMap` in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<CaCertKey>,
}

impl fmt::Display for CaCertSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secret, config_map } = self;
        let named = [("Secret", secret), ("ConfigMap", config_map)];
        let (kind, source) =
            named.into_iter().find_map(|(kind, source)| Some((kind, source.as_ref()?))).ok_or(fmt::Error)?;
        write!(f, "{kind}/{}/{}", source.name, source.key)
    }
}

/// A key of a Secret or `ConfigMap`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaCertKey {
    /// Name of the object.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("caCert, name: expected the name of a Secret or ConfigMap"))]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its key.
    #[serde(default = "ca_crt")]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message("caCert, key: expected a key of the Secret or ConfigMap"))]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What may be done with a location.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[schemars(transform = crate::run::without_description)]
pub enum AccessMode {
    /// Everything.
    #[default]
    ReadWrite,
    /// Listing and restoring; nothing is written, deleted or locked.
    ReadOnly,
}

fn yes() -> bool {
    true
}

fn one_hour() -> String {
    "1h".to_owned()
}

fn ca_crt() -> String {
    "ca.crt".to_owned()
}

impl BackupLocationSpec {
    /// The repository in restic's notation; a volume's is the path at which jobs mount it.
    #[must_use]
    pub fn repository_url(&self) -> String {
        let Self { url, bucket_name, prefix, volume, .. } = self;
        let root = if let Some(VolumeTarget { claim_name }) = volume {
            crate::task::volume_dir(claim_name)
        } else {
            let endpoint = url.as_deref().unwrap_or_default().trim_end_matches('/');
            format!("s3:{endpoint}/{}", bucket_name.as_deref().unwrap_or_default())
        };
        match prefix {
            Some(prefix) => format!("{root}/{prefix}"),
            None => root,
        }
    }

    /// Time between two looks at the repository. An hour if the text is none of those that the schema lets through.
    #[must_use]
    pub fn validation_period(&self) -> Duration {
        let parsed = self.validation_frequency.parse::<jiff::SignedDuration>().ok();
        parsed.and_then(|period| Duration::try_from(period).ok()).unwrap_or(Duration::from_hours(1))
    }

    /// Whether nothing may be written to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.access_mode == AccessMode::ReadOnly
    }
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

    /// Resource version of the Secret with which the repository was last opened, and after a `+` that of the object with the
    /// certificates of `caCert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_version: Option<String>,

    /// Node on which all jobs run because the volume can be mounted on one node at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_node: Option<String>,

    /// UID of the init Job that `initStatus` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_job_uid: Option<String>,

    /// When the repository was last looked at: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_validation_time: Option<String>,

    /// Snapshots that were in the repository then, whoever made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<i64>,

    /// Bytes that the repository took up in its storage then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_bytes: Option<i64>,

    /// Snapshots whose records are gone and which could not be deleted yet. They are deleted as soon as the storage answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_deletions: Vec<PendingDeletion>,

    /// The last time space was reclaimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_prune: Option<PruneResult>,

    /// The last time the repository was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<CheckResult>,

    /// Conditions. `Ready`: the repository is initialised and opens with the password. `Available`: the storage answered when it
    /// was last asked. `CatalogComplete`: every backup in the repository has its record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A snapshot that is to be deleted and whose record is gone.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    /// The snapshot's id, in full.
    pub snapshot_id: String,
    /// Identity of the repository that holds it: it is deleted from no other.
    pub repository_id: String,
    /// Name that its record had.
    pub record: String,
    /// Since when it waits: RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

/// What reclaiming space has done.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PruneResult {
    /// When it ended: RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// Bytes that the storage has got back.
    #[serde(default)]
    pub bytes_deleted: i64,
    /// Bytes that are marked and which the next prune may delete: data goes no sooner than 23 hours after it was marked, so that a
    /// backup that runs meanwhile loses nothing.
    #[serde(default)]
    pub bytes_marked: i64,
}

/// What a check of the repository has found.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// When it ended: RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    /// `Passed` or `Failed`.
    pub result: CheckOutcome,
    /// What is wrong and what to do; empty if nothing is.
    #[serde(default)]
    pub message: String,
}

/// Whether a check found damage.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[schemars(transform = crate::run::without_description)]
pub enum CheckOutcome {
    /// None.
    Passed,
    /// Some.
    Failed,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(object: Value) -> BackupLocationSpec {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_repository_url_is_what_restic_expects() {
        let mut bucket = json!({ "url": "http://h:9000", "bucketName": "b", "credentials": "c" });
        assert_eq!(spec(bucket.clone()).repository_url(), "s3:http://h:9000/b");
        bucket["prefix"] = json!("x/y");
        assert_eq!(spec(bucket).repository_url(), "s3:http://h:9000/b/x/y");
        let volume = json!({ "volume": { "claimName": "v" }, "prefix": "x", "credentials": "c" });
        assert_eq!(spec(volume).repository_url(), "/claim/v/x");
    }

    #[test]
    fn the_time_between_two_validations_is_read_as_it_is_written() {
        let mut object = json!({ "volume": { "claimName": "v" }, "credentials": "c" });
        assert_eq!(spec(object.clone()).validation_period(), Duration::from_hours(1));
        for (text, minutes) in [("120s", 2), ("1h30m", 90)] {
            object["validationFrequency"] = json!(text);
            assert_eq!(spec(object.clone()).validation_period(), Duration::from_mins(minutes));
        }
    }
}
