//! What the operator tells a job: the names of the environment variables, and the one place that fills them.
//!
//! The other side is `args.rs` of the job, whose flags read these variables; a test there parses what this module encodes.
//! Where restic, AWS or etcdctl have a variable of their own, it is theirs, so that the image is used by hand in the way
//! an admin knows. Secrets are no part of a task: the pod gets them from the Secrets themselves ([`secret_env`]).

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
    /// Session token that belongs to the two keys above, if they expire.
    pub const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";
    /// Region of the S3 service.
    pub const REGION: &str = "AWS_REGION";
    /// File with certificates that are trusted for the S3 service beside the system's.
    pub const CA_CERT: &str = "RESTIC_CACERT";
    /// `true`: the certificate of the S3 service is not checked.
    pub const INSECURE_TLS: &str = "KUBEDR_INSECURE_TLS";
    /// `false`: the bucket's name is part of the host's name.
    pub const FORCE_PATH_STYLE: &str = "KUBEDR_FORCE_PATH_STYLE";
    /// Name of the Secret behind password and keys, for messages.
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
    /// UID of the namespace kube-system, which stands for the cluster.
    pub const CLUSTER_UID: &str = "KUBEDR_CLUSTER_UID";
    /// Namespace of policy, location and pod.
    pub const NAMESPACE: &str = "POD_NAMESPACE";
    /// Name of the pod.
    pub const POD_NAME: &str = "POD_NAME";
    /// Name of the node; the snapshot's host.
    pub const NODE_NAME: &str = "NODE_NAME";
    /// Name of the Job.
    pub const JOB_NAME: &str = "KUBEDR_JOB_NAME";
    /// UID of the Job.
    pub const JOB_UID: &str = "KUBEDR_JOB_UID";
    /// `json` or `text`.
    pub const LOG_FORMAT: &str = "KUBEDR_LOG_FORMAT";
}

/// Where the job's pod has the Secret with etcd's certificates.
pub const ETCD_CREDENTIALS_DIR: &str = "/etc/kubedr/etcd";
/// Where the job's pod has the node's directories.
pub const HOST_ROOT: &str = "/host";

/// Variables as name and value, in a fixed order.
pub type Variables = Vec<(&'static str, String)>;

/// What `init` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitTask {
    /// Repository URL.
    pub repository: String,
    /// Name of the location.
    pub location: String,
    /// Generation of its specification.
    pub generation: i64,
    /// Name of the Secret.
    pub credentials: String,
    /// Resource version of the Secret, empty if it does not exist.
    pub credentials_version: String,
}

impl InitTask {
    /// The environment of an init job.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let Self { repository, location, generation, credentials, credentials_version } = self;
        vec![
            (env::REPOSITORY, repository.clone()),
            (env::LOCATION, location.clone()),
            (env::LOCATION_GENERATION, generation.to_string()),
            (env::CREDENTIALS, credentials.clone()),
            (env::CREDENTIALS_VERSION, credentials_version.clone()),
        ]
    }
}

/// What `backup` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupTask {
    /// Repository URL.
    pub repository: String,
    /// Name of the location.
    pub location: String,
    /// Name of the location's Secret.
    pub credentials: String,
    /// Name of the policy.
    pub policy: String,
    /// UID of the namespace kube-system.
    pub cluster_uid: String,
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
        let Self {
            repository,
            location,
            credentials,
            policy,
            cluster_uid,
            etcd_endpoints,
            etcd_credentials,
            certs_dir,
        } = self;
        let mut all = vec![
            (env::REPOSITORY, repository.clone()),
            (env::LOCATION, location.clone()),
            (env::CREDENTIALS, credentials.clone()),
            (env::POLICY, policy.clone()),
            (env::CLUSTER_UID, cluster_uid.clone()),
            (env::ETCD_ENDPOINTS, etcd_endpoints.clone()),
            (env::ETCD_CREDENTIALS, etcd_credentials.clone()),
            (env::ETCD_CA, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::CA)),
            (env::ETCD_CERT, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::CERT)),
            (env::ETCD_KEY, format!("{ETCD_CREDENTIALS_DIR}/{}", crate::names::etcd_secret::KEY)),
        ];
        if let Some(dir) = certs_dir {
            all.push((env::CERTS_DIR, dir.clone()));
            all.push((env::HOST_ROOT, HOST_ROOT.to_owned()));
        }
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
pub fn pod_env() -> [(&'static str, String); 5] {
    use crate::names::label;
    [
        (env::NAMESPACE, "metadata.namespace".to_owned()),
        (env::POD_NAME, "metadata.name".to_owned()),
        (env::NODE_NAME, "spec.nodeName".to_owned()),
        (env::JOB_NAME, format!("metadata.labels['{}']", label::JOB_NAME)),
        (env::JOB_UID, format!("metadata.labels['{}']", label::JOB_UID)),
    ]
}
