//! Flags of how the job tells what is being done.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kubedr_api::task::env as name;

/// How to tell what is being done.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// Form of the log.
    #[arg(long, global = true, env = name::LOG_FORMAT, default_value = "text")]
    pub log_format: LogFormat,
    /// Level of the log: `error`, `warn`, `info`, `debug`, or directives such as `info,kubedr_repo=debug`.
    #[arg(long, global = true, env = "KUBEDR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// File that gets the error, if the job fails and the file can be written: the kubelet shows it in the pod's status.
    #[arg(long, global = true, env = "KUBEDR_TERMINATION_LOG", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}

/// Form of the log.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
