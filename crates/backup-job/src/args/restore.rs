//! Flags of `restore`.

use std::path::PathBuf;

use clap::Args;
use kubedr_api::task::env as name;

use super::{LockArgs, RunArgs, StorageArgs};

/// `restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Directory that gets `data/`; it is created if need be.
    #[arg(long, env = name::TARGET)]
    pub target: PathBuf,
    /// Replaces a `data/` that is there, once the new one is complete. Without it such a target is refused.
    #[arg(long, env = name::OVERWRITE)]
    pub overwrite: bool,
    /// Identity that the repository must have.
    #[arg(long, env = name::REPOSITORY_ID, hide = true)]
    pub repository_id: Option<String>,
    /// `MetadataRestore` to report about. Without it the job works without a cluster.
    #[arg(long, env = name::RESTORE, hide = true)]
    pub restore: Option<String>,
    /// Generation of its specification.
    #[arg(long, env = name::RESTORE_GENERATION, hide = true)]
    pub restore_generation: Option<i64>,
    /// With `latest`: the latest snapshot that has this tag, such as `policy=nightly`. May be given more than once.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// Snapshot: its id, a beginning of its id that no other has, or `latest`.
    #[arg(default_value = "latest", env = name::SNAPSHOT)]
    pub snapshot: String,
}
