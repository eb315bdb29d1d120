//! Flags of `check`.

use clap::Args;

use super::{LockArgs, StorageArgs};

/// `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Read every byte. Without it only index and directories are read, and that every file of data exists with the right
    /// size.
    #[arg(long)]
    pub read_data: bool,
}
