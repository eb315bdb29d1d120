//! The command line; no other module reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Turns `BackupLocation`s and `MetadataBackupPolicy`s into jobs, and tells what became of them.
#[derive(Parser, Clone, Debug)]
#[command(name = "kubedr-operator", version, about, long_about = None)]
pub struct Args {
    /// Without one, the operator serves.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Namespace that the operator serves: its own.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,

    /// Name under which the operator holds the lease: that of its pod.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,

    /// Where /metrics, /livez and /readyz are served.
    #[arg(long, env = "KUBEDR_METRICS_ADDR", default_value = "0.0.0.0:8080")]
    pub metrics_addr: SocketAddr,

    /// File with the settings of the jobs' pods. It is read once, at start.
    #[arg(long, env = "KUBEDR_JOB_SETTINGS", default_value = "/etc/kubedr/job.json")]
    pub job_settings: PathBuf,

    /// Form of the log.
    #[arg(long, env = "KUBEDR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `info,kube=debug`.
    #[arg(long, env = "KUBEDR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// What the program does instead of serving.
#[derive(Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ends the operator of the namespace and takes the finalizer off its records, so that their deletion waits for nobody.
    ///
    /// `helm uninstall` runs it before it removes anything. It deletes no record and no snapshot, and ends within 100 seconds.
    Release,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_serves() {
        let plain = ["kubedr-operator", "--namespace=backup", "--pod-name=a", "--log-level=debug"];
        assert_eq!(Args::parse_from(plain).command, None);
        let args = Args::parse_from(plain.into_iter().chain(["release"]));
        assert_eq!((args.command, args.namespace.as_str()), (Some(Command::Release), "backup"));
    }
}
