//! Flags of which run of which object this is.

use clap::Args;
use kubedr_api::task::env as name;

/// Which run of which object this is; the operator fills it.
#[derive(Args, Debug, Default)]
pub struct RunArgs {
    /// `BackupLocation` to report about.
    #[arg(long, env = name::LOCATION)]
    pub location: Option<String>,
    /// Namespace of the object to report about.
    #[arg(long, env = name::NAMESPACE)]
    pub namespace: Option<String>,
    /// What stands for the cluster: in the snapshot's tag `cluster`, and in locks.
    #[arg(long, env = name::CLUSTER_UID)]
    pub cluster: Option<String>,
    /// UID of the pod of this run.
    #[arg(long, env = name::POD_UID, hide = true)]
    pub pod_uid: Option<String>,
    /// Pod of this run.
    #[arg(long, env = name::POD_NAME, hide = true)]
    pub pod_name: Option<String>,
    /// Job of this run.
    #[arg(long, env = name::JOB_NAME, hide = true)]
    pub job_name: Option<String>,
    /// UID of the Job of this run.
    #[arg(long, env = name::JOB_UID, hide = true)]
    pub job_uid: Option<String>,
}
