//! Flags of `backup`.

use std::path::PathBuf;

use clap::Args;
use kubedr_api::task::env as name;

use super::{LockArgs, RunArgs, StorageArgs};

/// `backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Client URLs of etcd, separated by commas.
    #[arg(long, env = name::ETCD_ENDPOINTS, default_value = kubedr_api::DEFAULT_ETCD_ENDPOINT)]
    pub etcd_endpoints: String,
    /// File with etcd's certificate authority (PEM).
    #[arg(long, env = name::ETCD_CA)]
    pub etcd_cacert: Option<PathBuf>,
    /// File with the client certificate for etcd (PEM).
    #[arg(long, env = name::ETCD_CERT)]
    pub etcd_cert: Option<PathBuf>,
    /// File with the key of the client certificate (PEM).
    #[arg(long, env = name::ETCD_KEY)]
    pub etcd_key: Option<PathBuf>,
    /// Secret behind the three files, for messages.
    #[arg(long, env = name::ETCD_CREDENTIALS, hide = true)]
    pub etcd_credentials: Option<String>,
    /// Directory whose files are backed up beside etcd, usually `/etc/kubernetes/pki`.
    #[arg(long, env = name::CERTS_DIR)]
    pub certs_dir: Option<PathBuf>,
    /// Where the file system is mounted that `--certs-dir` is a path of.
    #[arg(long, env = name::HOST_ROOT, default_value = "/")]
    pub host_root: PathBuf,
    /// `MetadataBackupPolicy` to report about. Without it the job works without a cluster.
    #[arg(long, env = name::POLICY)]
    pub policy: Option<String>,
    /// Host of the snapshot. Default: the node's name, or this machine's.
    #[arg(long, env = name::NODE_NAME)]
    pub host: Option<String>,
}
