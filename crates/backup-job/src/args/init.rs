//! Flags of `init`.

use clap::{ArgAction, Args};
use kubedr_api::task::env as name;

use super::{RunArgs, StorageArgs};

/// `init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// Generation of the location that is initialised.
    #[arg(long, env = name::LOCATION_GENERATION, hide = true)]
    pub location_generation: Option<i64>,
    /// Resource version of the Secret that is used.
    #[arg(long, env = name::CREDENTIALS_VERSION, hide = true)]
    pub credentials_version: Option<String>,
    /// Tells the location on which node this is.
    #[arg(long, env = name::PIN_NODE, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub pin_node: bool,
    /// The node.
    #[arg(long, env = name::NODE_NAME, hide = true)]
    pub node_name: Option<String>,
}
