//! `MetadataBackupPolicy`: what is backed up, when and to where.
#![allow(
    clippy::struct_field_names,
    reason = "the keep rules have restic's names; the derived code does not take the attribute on the struct"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{BackupTotals, LastRun, Phase};

/// Default of `spec.etcdEndpoint`: where etcd listens on a master of a kubeadm cluster.
pub const DEFAULT_ETCD_ENDPOINT: &str = "https://127.0.0.1:2379";
/// Default of `spec.etcdCreds`.
pub const DEFAULT_ETCD_CREDS: &str = "etcd-creds";
/// Default of `spec.retainNumBackups`.
pub const DEFAULT_RETAIN_NUM_BACKUPS: i64 = 120;
/// The one key that `spec.options` knows: the label that marks master nodes.
pub const OPTION_MASTER_NODE_LABEL: &str = "master-node-label-name";

/// What is backed up, when and to where. The operator keeps one CronJob for each policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kubedr.catalogicsoftware.com",
    version = "v1alpha1",
    kind = "MetadataBackupPolicy",
    plural = "metadatabackuppolicies",
    namespaced,
    status = "MetadataBackupPolicyStatus",
    derive = "PartialEq",
    shortname = "mbp",
    category = "kubedr",
    doc = "What is backed up, when and to where. The operator keeps one CronJob for each policy.",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Last Status", type_ = "string", json_path = ".status.backupStatus"),
    printcolumn(name = "Last Success", type_ = "date", json_path = ".status.lastSuccessfulTime"),
    printcolumn(name = "Record", type_ = "string", json_path = ".status.mbrName"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Destination", type_ = "string", json_path = ".spec.destination", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.backupErrorMessage", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 37").message("metadata.name: expected at most 37 characters, since the CronJob is named <policy>-backup-cronjob")
)]
#[serde(rename_all = "camelCase")]
pub struct MetadataBackupPolicySpec {
    /// Name of the `BackupLocation` in the same namespace that backups go to.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("destination: expected the name of a BackupLocation"))]
    #[schemars(length(min = 1, max = 63))]
    pub destination: String,

    /// Directory on the master node whose files are backed up beside etcd, usually `/etc/kubernetes/pki`. Absent:
    /// certificates are not backed up, and a lost master cannot be rebuilt from the backup alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("certsDir: expected an absolute path, such as /etc/kubernetes/pki"))]
    #[x_kube(validation = Rule::new("self.split('/').exists(p, p != '' && p != '.')").message("certsDir: expected a directory below /, not / itself"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..')").message("certsDir: expected a path without `..`"))]
    #[x_kube(validation = Rule::new("!self.contains(':')").message("certsDir: expected a path without a colon, which Kubernetes does not mount"))]
    #[schemars(length(min = 1, max = 1024))]
    pub certs_dir: Option<String>,

    /// Client URL of etcd as seen from the master node, or several separated by commas. A healthy voting member is
    /// chosen, a follower before the leader, and the next one is tried if it fails.
    #[serde(default = "default_etcd_endpoint")]
    #[x_kube(validation = Rule::new(r"self.matches('^ *https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})? *(, *https?://([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})? *)*$')")
        .message("etcdEndpoint: expected http:// or https://, a host and perhaps a port, without a path, or several such URLs separated by commas"))]
    #[schemars(length(min = 1, max = 1024))]
    pub etcd_endpoint: String,

    /// Name of a Secret in the same namespace with the keys `ca.crt`, `client.crt` and `client.key`.
    #[serde(default = "default_etcd_creds")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("etcdCreds: expected the name of a Secret"))]
    #[schemars(length(min = 1, max = 253))]
    pub etcd_creds: String,

    /// When backups are taken, as a CronJob's schedule: `0 1 * * *`, `*/30 * * * MON-FRI`, `@daily`, `@every 6h`.
    #[schemars(schema_with = "crate::schedule::schema")]
    pub schedule: String,

    /// Time zone of `schedule`, by its IANA name, such as `Europe/Berlin` or `Etc/UTC`. Default: the one of the cluster's
    /// controller manager, usually UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][-A-Za-z0-9_+/]*$') && self.lowerAscii() != 'local' && timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0")
        .message("timeZone: expected the IANA name of a time zone, such as Europe/Berlin or Etc/UTC"))]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,

    /// For how many seconds a backup whose time was missed, since the controller manager was down or the one before still ran, may
    /// begin late; after that it is left out. Default: until the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 10").message("startingDeadlineSeconds: expected 10 or more, since Kubernetes looks every ten seconds"))]
    pub starting_deadline_seconds: Option<i64>,

    /// After how many seconds a backup that still runs is ended and reported as failed. Default: `job.activeDeadlineSeconds` of the
    /// chart, an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("activeDeadlineSeconds: expected 1 or more"))]
    pub active_deadline_seconds: Option<i64>,

    /// How many successful backups of this policy are kept; the oldest beyond go after each backup, record and snapshot together.
    /// 0 means the default. The same as `retention.keepLast`; beside `retention` it counts only if it is not the default.
    #[serde(default = "default_retain_num_backups")]
    #[x_kube(validation = Rule::new("self >= 0").message("retainNumBackups: expected 0 (which means 120) or more"))]
    pub retain_num_backups: i64,

    /// Rules beyond a number, with restic's meaning: a backup is kept if any rule keeps it. The last backup is always kept, and
    /// so is each whose record has the annotation `kubedr.catalogicsoftware.com/keep: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.keepLast) || has(self.keepHourly) || has(self.keepDaily) || has(self.keepWeekly) || has(self.keepMonthly) || has(self.keepYearly) || has(self.keepWithin)")
        .message("retention: expected at least one rule, such as keepDaily"))]
    pub retention: Option<Retention>,

    /// `true` pauses the schedule, `false` resumes it. A backup that runs is not stopped.
    #[serde(default)]
    pub suspend: bool,

    /// Further settings. The one key is `master-node-label-name`: the label that marks the nodes on which a backup may
    /// run. Default: a node with `node-role.kubernetes.io/control-plane` or `node-role.kubernetes.io/master`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(k, k == 'master-node-label-name')").message("options: expected no other key than master-node-label-name"))]
    #[x_kube(validation = Rule::new("self.all(k, self[k].matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
        .message("options, master-node-label-name: expected the name of a label, such as node-role.kubernetes.io/control-plane"))]
    #[schemars(schema_with = "options_schema")]
    pub options: BTreeMap<String, String>,

    /// What the backup pods ask for and may use at most, as in a pod's specification: `{limits: {memory: 1Gi}}`. Default:
    /// `job.resources` of the chart, which this replaces as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::run_pod::resources")]
    pub resources: Option<ResourceRequirements>,

    /// Labels of the nodes on which a backup may run, such as `node-role.kubernetes.io/etcd: "true"`; it then need not be a master,
    /// unless `options` names a label, too. Default: the masters, as `options` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::run_pod::node_selector")]
    pub node_selector: Option<BTreeMap<String, String>>,

    /// Taints that the backup pods put up with, as in a pod's specification; an empty list means none. Default: all of `NoSchedule`
    /// and `NoExecute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::run_pod::tolerations")]
    pub tolerations: Option<Vec<Toleration>>,
}

/// Which backups are kept. Hours, days, weeks, months and years are those of UTC.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The last so many backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepLast: expected 1 or more"))]
    pub keep_last: Option<u32>,
    /// The last backup of each of the last so many hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepHourly: expected 1 or more"))]
    pub keep_hourly: Option<u32>,
    /// The last backup of each of the last so many days that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepDaily: expected 1 or more"))]
    pub keep_daily: Option<u32>,
    /// The last backup of each of the last so many weeks that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepWeekly: expected 1 or more"))]
    pub keep_weekly: Option<u32>,
    /// The last backup of each of the last so many months that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepMonthly: expected 1 or more"))]
    pub keep_monthly: Option<u32>,
    /// The last backup of each of the last so many years that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("retention.keepYearly: expected 1 or more"))]
    pub keep_yearly: Option<u32>,
    /// All backups that are younger than this, counted from the last one: years, months, days and hours, such as `2y5m7d3h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,4}y)?([0-9]{1,4}m)?([0-9]{1,5}d)?([0-9]{1,6}h)?$') && self.matches('[1-9]')")
        .message("retention.keepWithin: expected years, months, days and hours, such as 2y5m7d3h, more than zero"))]
    #[schemars(length(min = 2, max = 32))]
    pub keep_within: Option<String>,
}

/// What is known of a policy's backups.
///
/// The fields from `backupTime` to `lastRun` belong to a run: the job writes them, or the operator for a job that ended
/// without a report. The rest is the operator's; `totals` and `activeSchedule` have a field manager of their own.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetadataBackupPolicyStatus {
    /// Generation of the specification that the condition `Ready` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// When `backupStatus` was written: RFC 3339. KubeDR 0.x wrote free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_time: Option<String>,

    /// `Initializing` while a backup runs, then `Completed` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_status: Option<Phase>,

    /// Why the last backup failed and what to do; empty on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_error_message: Option<String>,

    /// Files of the last backup that the one before did not have.
    #[serde(default)]
    pub files_new: i64,

    /// Files of the last backup that the one before had with another content or time.
    #[serde(default)]
    pub files_changed: i64,

    /// Bytes that the last backup newly stored, after deduplication and before compression.
    #[serde(default)]
    pub data_added: i64,

    /// Bytes that the last backup read.
    #[serde(default)]
    pub total_bytes_processed: i64,

    /// How long the last backup took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_duration_secs: Option<String>,

    /// First eight hex digits of the last successful backup's snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,

    /// Pod of the last backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_pod: Option<String>,

    /// Record of the last successful backup: what a restore names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbr_name: Option<String>,

    /// When the last successful backup was stored and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_successful_time: Option<String>,

    /// The run that `backupStatus` speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,

    /// What all backups of this policy come to; the metrics show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<BackupTotals>,

    /// The schedule that counts now, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_schedule: Option<ActiveSchedule>,

    /// Conditions. `Ready`: the CronJob is in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A schedule, and since when it counts: a backup that was due before that was not missed.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ActiveSchedule {
    /// `spec.schedule`.
    pub schedule: String,
    /// `spec.timeZone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `spec.suspend`.
    #[serde(default)]
    pub suspend: bool,
    /// Since when they are as they are: RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}

fn default_etcd_endpoint() -> String {
    DEFAULT_ETCD_ENDPOINT.to_owned()
}

fn default_etcd_creds() -> String {
    DEFAULT_ETCD_CREDS.to_owned()
}

const fn default_retain_num_backups() -> i64 {
    DEFAULT_RETAIN_NUM_BACKUPS
}

fn options_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": { "type": "string", "maxLength": 317 },
    })
}
