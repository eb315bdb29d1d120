//! What the operator tells a job: the names of the environment variables, and the one place that fills them.
//!
//! The other side is `args.rs` of the job, whose flags read these variables; a test there parses what this module encodes.
//! Where restic, AWS or etcdctl have a variable of their own, it is theirs, so that the image is used by hand in the way
//! an admin knows. Secrets are no part of a task: the pod gets them from the Secrets themselves ([`secret_env`]).

use std::time::Duration;

use crate::{AccessMode, CaCertSource};

/// Names of environment variables.
pub mod env {
    /// Repository URL in restic's notation, `s3:<endpoint>/<bucket>`, or a directory.
    pub const REPOSITORY: &str = "RESTIC_REPOSITORY";
    /// Password of the repository.
    pub const PASSWORD: &str = "RESTIC_PASSWORD";
    /// S3 access key.
    pub const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
    /// S3 secret key.
    pub const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
    /// Session token of temporary S3 keys.
    pub const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
    /// Region of the S3 service.
    pub const REGION: &str = "AWS_REGION";
    /// File with certificates that are trusted for the S3 service.
    pub const CA_CERT: &str = "RESTIC_CACERT";
    /// Where that file comes from, for messages: `Secret/<name>/<key>` or `ConfigMap/<name>/<key>`.
    pub const CA_CERT_SOURCE: &str = "KUBEDR_CA_CERT_SOURCE";
    /// `true` accepts any certificate of the S3 service.
    pub const INSECURE_TLS: &str = "KUBEDR_INSECURE_TLS";
    /// `true` or `false`: whether the bucket stands in the path or in the host's name.
    pub const FORCE_PATH_STYLE: &str = "KUBEDR_FORCE_PATH_STYLE";
    /// `true`: nothing may be written to the repository, not even a lock.
    pub const READ_ONLY: &str = "KUBEDR_READ_ONLY";
    /// How long to wait for others who have locked the repository, such as `35m`.
    pub const LOCK_WAIT: &str = "KUBEDR_LOCK_WAIT";
    /// Name of the Secret behind keys and password, for messages.
    pub const CREDENTIALS: &str = "KUBEDR_CREDENTIALS";
    /// Client URLs of etcd, separated by commas.
    pub const ETCD_ENDPOINTS: &str = "ETCDCTL_ENDPOINTS";
    /// File with the certificate authority of etcd.
    pub const ETCD_CA: &str = "ETCDCTL_CACERT";
    /// File with the client certificate.
    pub const ETCD_CERT: &str = "ETCDCTL_CERT";
    /// File with the key of the client certificate.
    pub const ETCD_KEY: &str = "ETCDCTL_KEY";
    /// Name of the Secret behind the three files, for messages.
    pub const ETCD_CREDENTIALS: &str = "KUBEDR_ETCD_CREDENTIALS";
    /// Directory of the node whose files are backed up.
    pub const CERTS_DIR: &str = "KUBEDR_CERTS_DIR";
    /// Where the node's directories are mounted: `CERTS_DIR` is read below it.
    pub const HOST_ROOT: &str = "KUBEDR_HOST_ROOT";
    /// Name of the policy; without it the job works without a cluster.
    pub const POLICY: &str = "KUBEDR_POLICY";
    /// Name of the location.
    pub const LOCATION: &str = "KUBEDR_LOCATION";
    /// Generation of the location's specification that an init job initialises.
    pub const LOCATION_GENERATION: &str = "KUBEDR_LOCATION_GENERATION";
    /// Resource version of the Secret that an init job uses.
    pub const CREDENTIALS_VERSION: &str = "KUBEDR_CREDENTIALS_VERSION";
    /// `true`: the volume can be mounted on one node at a time, and the location's status is to say on which one it is.
    pub const PIN_NODE: &str = "KUBEDR_PIN_NODE";
    /// Name of the `MetadataRestore`.
    pub const RESTORE: &str = "KUBEDR_RESTORE";
    /// Generation of its specification.
    pub const RESTORE_GENERATION: &str = "KUBEDR_RESTORE_GENERATION";
    /// Snapshot that is restored: its id, in full or from the beginning.
    pub const SNAPSHOT: &str = "KUBEDR_SNAPSHOT";
    /// Directory that gets `data/`.
    pub const TARGET: &str = "KUBEDR_TARGET";
    /// `true` replaces a `data/` that is there.
    pub const OVERWRITE: &str = "KUBEDR_OVERWRITE";
    /// Identity of the repository that snapshots are deleted from: nothing happens to another.
    pub const REPOSITORY_ID: &str = "KUBEDR_REPOSITORY_ID";
    /// Ids of the snapshots that are to be deleted, in full, separated by commas.
    pub const SNAPSHOTS: &str = "KUBEDR_SNAPSHOTS";
    /// `true`: space is reclaimed after that.
    pub const PRUNE: &str = "KUBEDR_PRUNE";
    /// UID of the namespace kube-system, which stands for the cluster.
    pub const CLUSTER_UID: &str = "KUBEDR_CLUSTER_UID";
    /// Namespace of policy, location and pod.
    pub const NAMESPACE: &str = "POD_NAMESPACE";
    /// Name of the pod.
    pub const POD_NAME: &str = "POD_NAME";
    /// UID of the pod.
    pub const POD_UID: &str = "POD_UID";
    /// Name of the node; the snapshot's host.
    pub const NODE_NAME: &str = "NODE_NAME";
    /// Name of the Job.
    pub const JOB_NAME: &str = "KUBEDR_JOB_NAME";
    /// UID of the Job.
    pub const JOB_UID: &str = "KUBEDR_JOB_UID";
    /// `json` or `text`.
    pub const LOG_FORMAT: &str = "KUBEDR_LOG_FORMAT";
}

/// How long a job waits for a lock of others unless it is told otherwise: a lock that nobody refreshes goes after 30 minutes.
pub const LOCK_WAIT: Duration = Duration::from_mins(35);

/// Where the job's pod has the Secret with etcd's certificates.
pub const ETCD_CREDENTIALS_DIR: &str = "/etc/kubedr/etcd";
/// Where the job's pod has the node's directories.
pub const HOST_ROOT: &str = "/host";

/// Where a job's pod has the certificates that are trusted for the S3 service.
pub const CA_CERT_FILE: &str = "/etc/kubedr/ca/ca.crt";
/// Where a job's pod has the volume that holds a repository, by the name of its claim: then the path in a message tells the
/// claim too.
#[must_use]
pub fn volume_dir(claim: &str) -> String {
    format!("/claim/{claim}")
}
/// Where a restore's pod has the volume that takes the data.
pub const TARGET_DIR: &str = "/restore";

/// Variables as name and value, in a fixed order.
pub type Variables = Vec<(&'static str, String)>;

/// How to reach a repository, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryTask {
    /// Repository URL, or the directory where its volume is mounted.
    pub repository: String,
    /// Name of the location.
    pub location: String,
    /// Name of the Secret.
    pub credentials: String,
    /// Region of the S3 service, if the location names one.
    pub region: Option<String>,
    /// Where the certificates in [`CA_CERT_FILE`] come from, if any are to be trusted.
    pub ca_cert: Option<CaCertSource>,
    /// Whether any certificate of the S3 service will do.
    pub insecure_skip_tls_verify: bool,
    /// Whether the bucket stands in the path.
    pub force_path_style: bool,
    /// Whether anything may be written.
    pub access_mode: AccessMode,
    /// UID of the namespace kube-system.
    pub cluster_uid: String,
}

impl RepositoryTask {
    /// The variables that each job gets.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self {
            repository,
            location,
            credentials,
            region,
            ca_cert,
            insecure_skip_tls_verify,
            force_path_style,
            access_mode,
            cluster_uid,
        } = self;
        let mut all = vec![
            (env::REPOSITORY, repository.clone()),
            (env::LOCATION, location.clone()),
            (env::CREDENTIALS, credentials.clone()),
            (env::CLUSTER_UID, cluster_uid.clone()),
        ];
        if let Some(region) = region {
            all.push((env::REGION, region.clone()));
        }
        if let Some(source) = ca_cert {
            all.push((env::CA_CERT, CA_CERT_FILE.to_owned()));
            all.push((env::CA_CERT_SOURCE, source.to_string()));
        }
        // What is not said is as it was before these could be said.
        let switches = [
            (env::INSECURE_TLS, *insecure_skip_tls_verify, false),
            (env::FORCE_PATH_STYLE, *force_path_style, true),
            (env::READ_ONLY, *access_mode == AccessMode::ReadOnly, false),
        ];
        let said = switches.into_iter().filter(|(_, value, default)| value != default);
        all.extend(said.map(|(name, value, _)| (name, value.to_string())));
        all
    }
}

/// What `init` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitTask {
    /// The repository.
    pub repository: RepositoryTask,
    /// Generation of the location's specification.
    pub generation: i64,
    /// Resource version of the Secret, empty if it does not exist.
    pub credentials_version: String,
    /// Whether the location's status is to say on which node the volume is.
    pub pin_node: bool,
}

impl InitTask {
    /// The environment of an init job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, generation, credentials_version, pin_node } = self;
        let mut all = repository.variables();
        all.extend([
            (env::LOCATION_GENERATION, generation.to_string()),
            (env::CREDENTIALS_VERSION, credentials_version.clone()),
        ]);
        if *pin_node {
            all.push((env::PIN_NODE, pin_node.to_string()));
        }
        all
    }
}

/// What `backup` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupTask {
    /// The repository.
    pub repository: RepositoryTask,
    /// Name of the policy.
    pub policy: String,
    /// Client URLs of etcd, separated by commas.
    pub etcd_endpoints: String,
    /// Name of the Secret with etcd's certificates.
    pub etcd_credentials: String,
    /// Directory of the node with the certificates, if they are backed up.
    pub certs_dir: Option<String>,
}

impl BackupTask {
    /// The environment of a backup job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, policy, etcd_endpoints, etcd_credentials, certs_dir } = self;
        let mut all = repository.variables();
        all.extend([
            (env::POLICY, policy.clone()),
            (env::ETCD_ENDPOINTS, etcd_endpoints.clone()),
            (env::ETCD_CREDENTIALS, etcd_credentials.clone()),
            (env::ETCD_CA, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::CA)),
            (env::ETCD_CERT, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::CERT)),
            (env::ETCD_KEY, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::KEY)),
        ]);
        if let Some(dir) = certs_dir {
            all.push((env::CERTS_DIR, dir.clone()));
            all.push((env::HOST_ROOT, HOST_ROOT.to_owned()));
        }
        all
    }
}

/// What `restore` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTask {
    /// The repository.
    pub repository: RepositoryTask,
    /// Name of the `MetadataRestore`.
    pub restore: String,
    /// Generation of its specification.
    pub generation: i64,
    /// Id of the snapshot, in full if it is known.
    pub snapshot: String,
    /// Identity of the repository, if it is known.
    pub repository_id: Option<String>,
    /// Whether a `data/` that is there is replaced.
    pub overwrite: bool,
}

impl RestoreTask {
    /// The environment of a restore job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, restore, generation, snapshot, repository_id, overwrite } = self;
        let mut all = repository.variables();
        all.extend([
            (env::RESTORE, restore.clone()),
            (env::RESTORE_GENERATION, generation.to_string()),
            (env::SNAPSHOT, snapshot.clone()),
            (env::TARGET, TARGET_DIR.to_owned()),
            (env::OVERWRITE, overwrite.to_string()),
        ]);
        all.extend(repository_id.clone().map(|id| (env::REPOSITORY_ID, id)));
        all
    }
}

/// What `sync` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncTask {
    /// The repository.
    pub repository: RepositoryTask,
    /// Generation of the location's specification.
    pub generation: i64,
    /// Identity of the repository that the location is initialised with.
    pub repository_id: String,
}

impl SyncTask {
    /// The environment of a sync job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, generation, repository_id } = self;
        let mut all = repository.variables();
        all.extend([
            (env::LOCATION_GENERATION, generation.to_string()),
            (env::REPOSITORY_ID, repository_id.clone()),
        ]);
        all
    }
}

/// What `forget` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetTask {
    /// The repository.
    pub repository: RepositoryTask,
    /// Its identity.
    pub repository_id: String,
    /// Ids of the snapshots to delete, in full.
    pub snapshots: Vec<String>,
    /// Whether space is reclaimed after that.
    pub prune: bool,
}

impl ForgetTask {
    /// The environment of a forget job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, repository_id, snapshots, prune } = self;
        let mut all = repository.variables();
        all.extend([
            (env::REPOSITORY_ID, repository_id.clone()),
            (env::SNAPSHOTS, snapshots.join(",")),
            (env::PRUNE, prune.to_string()),
        ]);
        all
    }
}

/// Variables that come from the keys of a location's Secret: variable, then key.
#[must_use]
pub const fn secret_env() -> [(&'static str, &'static str); 4] {
    use crate::names::location_secret::{ACCESS_KEY, REPO_PASSWORD, SECRET_KEY, SESSION_TOKEN};
    [
        (env::ACCESS_KEY, ACCESS_KEY),
        (env::SECRET_KEY, SECRET_KEY),
        (env::SESSION_TOKEN, SESSION_TOKEN),
        (env::PASSWORD, REPO_PASSWORD),
    ]
}

/// Variables that come from the pod itself: variable, then field path of the downward API.
#[must_use]
pub fn pod_env() -> [(&'static str, String); 6] {
    use crate::names::label;
    [
        (env::NAMESPACE, "metadata.namespace".to_owned()),
        (env::POD_NAME, "metadata.name".to_owned()),
        (env::POD_UID, "metadata.uid".to_owned()),
        (env::NODE_NAME, "spec.nodeName".to_owned()),
        (env::JOB_NAME, format!("metadata.labels['{}']", label::JOB_NAME)),
        (env::JOB_UID, format!("metadata.labels['{}']", label::JOB_UID)),
    ]
}
