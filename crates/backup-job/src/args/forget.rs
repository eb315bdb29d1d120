//! Flags of `forget`.

use clap::{ArgAction, Args};
use kubedr_api::task::env as name;

use super::{LockArgs, RunArgs, StorageArgs};

/// `forget`.
#[derive(Args, Debug)]
pub struct ForgetArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Identity that the repository must have.
    #[arg(long, env = name::REPOSITORY_ID)]
    pub repository_id: Option<String>,
    /// Snapshots to delete, by their full ids (`restic snapshots --json` shows them), separated by commas. Those that are gone
    /// already do no harm.
    #[arg(long = "snapshot", env = name::SNAPSHOTS, value_name = "ID", value_delimiter = ',')]
    pub snapshots: Vec<String>,
    /// Give space back after that, as `prune` does.
    #[arg(long, env = name::PRUNE, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub prune: bool,
}
