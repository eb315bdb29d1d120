//! Flags of `sync`.

use clap::Args;
use kubedr_api::task::env as name;

use super::{RunArgs, StorageArgs};

/// `sync`.
#[derive(Args, Debug)]
pub struct SyncArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// Generation of the location that is looked at.
    #[arg(long, env = name::LOCATION_GENERATION, hide = true)]
    pub location_generation: Option<i64>,
    /// Identity of the repository that the location is initialised with.
    #[arg(long, env = name::REPOSITORY_ID, hide = true)]
    pub repository_id: Option<String>,
}
