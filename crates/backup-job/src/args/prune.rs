//! Flags of `prune`.

use clap::Args;

use super::{LockArgs, StorageArgs};

/// `prune`.
#[derive(Args, Debug)]
pub struct PruneArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}
