//! Every name that more than one place has to spell the same way.

/// API group of all kinds.
pub const GROUP: &str = "kubedr.catalogicsoftware.com";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// Category: `kubectl get kubedr` lists all kinds.
pub const CATEGORY: &str = "kubedr";

/// Labels on objects that KubeDR creates.
pub mod label {
    /// What a job is for: one of [`super::job_type`].
    pub const TYPE: &str = "kubedr.type";
    /// Name of the location that an init job initialises.
    pub const LOCATION: &str = "kubedr.backuploc";
    /// Name of the policy that a CronJob, Job, pod or record belongs to.
    pub const POLICY: &str = "kubedr.backup-policy";
    /// Name of the record that a restore pod restores.
    pub const RESTORE_RECORD: &str = "kubedr.restore-mbr";
    /// Name of the `MetadataRestore` that a Job works for.
    pub const RESTORE: &str = "kubedr.restore";
    /// `"true"` on what deletes snapshots.
    pub const SNAPSHOT_DELETION: &str = "kubedr.catalogicsoftware.com/snap-deletion-pod";
    /// The Job that a pod belongs to, set by the Job controller: its name.
    pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
    /// The Job that a pod belongs to, set by the Job controller: its UID.
    pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";
    /// Marks the program that owns an object, by the recommended Kubernetes label.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
}

/// Values of [`label::TYPE`].
pub mod job_type {
    /// Initialises the repository of a location.
    pub const INIT: &str = "backuploc-init";
    /// Takes a backup.
    pub const BACKUP: &str = "backup";
    /// Restores a record onto a volume.
    pub const RESTORE: &str = "restore";
    /// Looks at a location's repository and brings the records up to date.
    pub const SYNC: &str = "sync";
    /// Deletes snapshots, reclaims space, checks.
    pub const FORGET: &str = "forget";
}

/// Annotations.
pub mod annotation {
    /// On a location: `"true"` once its repository is initialised, `"false"` or absent otherwise.
    pub const INITIALIZED: &str = "initialized.annotations.kubedr.catalogicsoftware.com";
    /// On a policy: the backup pod whose figures have been counted in the metrics.
    pub const PROCESSED_BACKUP: &str = "processed-backup.annotations.kubedr.catalogicsoftware.com";
    /// On a restore: `"true"` once the data is on the volume.
    pub const RESTORED: &str = "restored.annotations.kubedr.catalogicsoftware.com";
    /// On an init, sync, forget or restore job: generation of the location or restore that it works for.
    pub const GENERATION: &str = "kubedr.catalogicsoftware.com/generation";
    /// On an init, sync or forget job: resource version of the Secret with which the location is initialised, followed by a `+` and
    /// that of the object with the certificates of `caCert`, if it names one.
    pub const CREDENTIALS_VERSION: &str = "kubedr.catalogicsoftware.com/credentials-version";
    /// On a Job: why it failed, once that has been told.
    pub const FAILURE: &str = "kubedr.catalogicsoftware.com/failure";
    /// On a record: `"true"` keeps it from retention.
    pub const KEEP: &str = "kubedr.catalogicsoftware.com/keep";
    /// On a CronJob: where its backups go, so that they go on to there while a changed location is not yet initialised.
    pub const DESTINATION: &str = "kubedr.catalogicsoftware.com/destination";
    /// On a location: when a job last set out to delete snapshots: RFC 3339. Space is to be reclaimed once more after that.
    pub const LAST_DELETION: &str = "kubedr.catalogicsoftware.com/last-deletion";
    /// On a location: when a job last set out to reclaim space: RFC 3339.
    pub const LAST_PRUNE_TRY: &str = "kubedr.catalogicsoftware.com/last-prune-try";
    /// On a job of a location: how many tries of the same there were, this one included.
    pub const ATTEMPT: &str = "kubedr.catalogicsoftware.com/attempt";
}

/// Finalizers. The first two were set by KubeDR 0.x; ours takes them off wherever it sees them, and sets the third.
pub mod finalizer {
    /// On locations, by KubeDR 0.x only.
    pub const LOCATION: &str = "backuplocation.finalizers.kubedr.catalogicsoftware.com";
    /// On policies, by KubeDR 0.x only.
    pub const POLICY: &str = "metadata-backup-policy.finalizers.kubedr.catalogicsoftware.com";
    /// On records.
    pub const RECORD: &str = "mbr.finalizers.kubedr.catalogicsoftware.com";
}

/// Field managers for server-side apply, one per binary.
///
/// What belongs to a run (a policy's `status.backup*` and its like) is written under [`field_manager::JOB`] by whoever
/// writes it, so that each write replaces the run's fields as a whole.
pub mod field_manager {
    /// The operator.
    pub const OPERATOR: &str = "kubedr-operator";
    /// The job.
    pub const JOB: &str = "kubedr-backup-job";
    /// What a sync job writes to a location's status.
    pub const SYNC: &str = "kubedr-sync";
    /// What a forget job writes to a location's status.
    pub const FORGET: &str = "kubedr-forget";
    /// What the operator writes to a policy's status for the metrics.
    pub const METRICS: &str = "kubedr-metrics";
}

/// Keys of the Secret that a location names.
pub mod location_secret {
    /// S3 access key.
    pub const ACCESS_KEY: &str = "access_key";
    /// S3 secret key.
    pub const SECRET_KEY: &str = "secret_key";
    /// Password of the restic repository.
    pub const REPO_PASSWORD: &str = "restic_repo_password";
    /// Session token of temporary S3 keys.
    pub const SESSION_TOKEN: &str = "session_token";
}

/// Keys of the Secret that a policy names.
pub mod etcd_secret {
    /// Certificate authority of etcd's server certificate, PEM.
    pub const CA: &str = "ca.crt";
    /// Client certificate, PEM.
    pub const CERT: &str = "client.crt";
    /// Key of the client certificate, PEM.
    pub const KEY: &str = "client.key";
}

/// Paths in the repository.
pub mod snapshot {
    /// Path of every snapshot.
    pub const ROOT: &str = "/data";
    /// The etcd snapshot, hash trailer included.
    pub const ETCD: &str = "/data/etcd-snapshot.db";
    /// The certificates, as one deterministic tar archive.
    pub const CERTIFICATES: &str = "/data/certificates.tar";
    /// Tag `cluster=<UID of the namespace kube-system>`.
    pub const TAG_CLUSTER: &str = "cluster";
    /// Tag `namespace=<namespace of the policy>`.
    pub const TAG_NAMESPACE: &str = "namespace";
    /// Tag `policy=<name of the policy>`.
    pub const TAG_POLICY: &str = "policy";
    /// Tag `location=<name of the location>`.
    pub const TAG_LOCATION: &str = "location";
}

/// Exit codes of the job. They are part of its interface: scripts and the operator act on them.
pub mod exit_code {
    /// Something that the job did not foresee.
    pub const UNEXPECTED: i32 = 1;
    /// Wrong or missing configuration: flags, environment, a Secret or one of its keys.
    pub const CONFIGURATION: i32 = 2;
    /// etcd: no healthy member, refused credentials, a broken stream.
    pub const ETCD: i32 = 3;
    /// Repository: storage, password, a check that failed.
    pub const REPOSITORY: i32 = 4;
    /// The work is done and stored, but the API server did not take the report.
    pub const REPORTING: i32 = 5;
    /// A file of the certificates could not be read.
    pub const SOURCE_FILES: i32 = 6;
    /// A restore could not write to its target.
    pub const TARGET: i32 = 7;
    /// Ended by SIGTERM.
    pub const TERMINATED: i32 = 143;
}

/// Name of the Lease by which an operator leads.
pub const LEASE: &str = "kubedr-operator";

/// Most characters of a policy's name: its CronJob's name must stay within 52.
pub const POLICY_NAME_MAX: usize = 37;

/// Name of a policy's CronJob.
#[must_use]
pub fn cron_job_name(policy: &str) -> String {
    format!("{policy}-backup-cronjob")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_policy_name_gives_a_cron_job_name_that_kubernetes_takes() {
        assert_eq!(cron_job_name(&"p".repeat(POLICY_NAME_MAX)).len(), 52);
    }
}
