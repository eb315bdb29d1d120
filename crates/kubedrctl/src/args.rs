//! Flags and environment. Nothing else in this crate reads the environment.
#![allow(clippy::doc_markdown, reason = "clap prints it as it stands")]

use std::{env, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::SignedDuration;

/// Backups of Kubernetes' etcd and certificates: in a bucket, without any cluster, and how those of a cluster stand.
///
/// `list`, `show`, `restore`, `check` and `init` need a bucket, its keys and the repository's password, and nothing else.
/// `status` and `backup` need a cluster.
#[derive(Parser, Debug)]
#[command(version, arg_required_else_help = true, max_term_width = 100, after_help = SECTIONS, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Form of the answer on standard output.
    #[arg(long, short, global = true, default_value = "text", help_heading = "Output")]
    pub output: Output,
    /// Tell more on standard error.
    #[arg(long, short, global = true, help_heading = "Output")]
    pub verbose: bool,
}

const SECTIONS: &str = "\
Examples:
  export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… RESTIC_PASSWORD=…
  kubedrctl list backups --endpoint https://s3.example.com --bucket backups
  kubedrctl restore --endpoint https://s3.example.com --bucket backups --targetdir ./restored latest
  kubedrctl check --repo s3:https://s3.example.com/backups/berlin --read-data
  kubedrctl status
  kubedrctl backup now nightly --wait

Environment; a flag wins over its variable:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN  keys; without any, this place's role
  AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL                        --endpoint
  AWS_REGION, AWS_DEFAULT_REGION                               --region
  RESTIC_REPOSITORY, RESTIC_REPOSITORY_FILE                    --repo, or a file that holds it
  RESTIC_PASSWORD, RESTIC_PASSWORD_FILE                        the password, or --password-file
  RESTIC_CACERT                                                --cacert
  HTTP_PROXY, HTTPS_PROXY, NO_PROXY                            the way to the S3 service
  KUBECONFIG                                                   --kubeconfig
  NO_COLOR                                                     no colours

Exit codes:
    0  done; `status`: everything is as it should be
    1  something that nobody foresaw
    2  flags, environment, a file that they name, or a target that is in use
    4  repository: storage, keys, password, no such snapshot, a check that failed
    7  a restore could not write to its target
    8  something that `status` shows is wrong, or the backup that was waited for failed
    9  the cluster could not be asked, or refused
  130  ended by Ctrl-C
  143  ended by SIGTERM";

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Lists what is in a repository.
    #[command(subcommand)]
    List(List),
    /// Shows all that is known of one backup.
    Show(ShowArgs),
    /// Brings a backup back, as `data/etcd-snapshot.db` and `data/certificates/`.
    ///
    /// `data` appears in the target when all of it is there and the hash that etcd put behind its database was found right, and
    /// not before. Nothing is written to the repository, not even a lock: whoever may read can restore.
    Restore(RestoreArgs),
    /// Looks whether everything is there that the backups need. Exit code 4 if something is missing or damaged.
    Check(CheckArgs),
    /// Makes a repository, and the bucket if need be. One that is there is opened and left as it is.
    Init(InitArgs),
    /// Tells in one screen how the backups of a cluster stand, what is wrong and what to do. Exit code 8 if something is wrong.
    Status(StatusArgs),
    /// Takes backups of a cluster.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Prints a script that completes commands and flags in a shell.
    ///
    /// bash: `source <(kubedrctl completion bash)`; zsh: `kubedrctl completion zsh > "${fpath[1]}/_kubedrctl"`; fish:
    /// `kubedrctl completion fish > ~/.config/fish/completions/kubedrctl.fish`.
    Completion(CompletionArgs),
    /// Writes the manual pages into a directory.
    Man(ManArgs),
}

/// What can be listed.
#[derive(Subcommand, Debug)]
pub enum List {
    /// Lists the backups, oldest first: time, id, policy, cluster, size, and whether there are certificates.
    Backups(ListArgs),
}

/// `backup`.
#[derive(Subcommand, Debug)]
pub enum BackupCommand {
    /// Takes a backup at once, as `kubectl create job --from=cronjob/POLICY-backup-cronjob` does.
    Now(BackupNowArgs),
}

/// Form of the answer.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document, also about a failure.
    Json,
}

const REPOSITORY: &str = "Repository";
const S3: &str = "S3 service";
const LOCKS: &str = "Locks";
const CLUSTER: &str = "Cluster";

/// Where the repository is, and what opens it.
#[derive(Args, Debug, Default)]
pub struct StorageArgs {
    /// S3 endpoint, such as `https://s3.eu-west-1.amazonaws.com` or `http://10.0.0.5:9000`. [env: AWS_ENDPOINT_URL_S3,
    /// AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL", help_heading = REPOSITORY, conflicts_with = "repo")]
    pub endpoint: Option<String>,
    /// Bucket that holds the repository.
    #[arg(long, value_name = "NAME", help_heading = REPOSITORY, conflicts_with = "repo")]
    pub bucket: Option<String>,
    /// Path of the repository inside the bucket. Default: the bucket's root.
    #[arg(long, value_name = "PATH", help_heading = REPOSITORY, conflicts_with = "repo")]
    pub prefix: Option<String>,
    /// Repository in restic's notation, in place of endpoint, bucket and prefix: `s3:https://host/bucket/prefix`, or a directory.
    /// [env: RESTIC_REPOSITORY, or the content of RESTIC_REPOSITORY_FILE]
    #[arg(long, value_name = "REPOSITORY", help_heading = REPOSITORY)]
    pub repo: Option<String>,
    /// Password of the repository. Everybody on this machine can see it in `ps`: prefer the environment or `--password-file`.
    /// [env: RESTIC_PASSWORD]
    #[arg(long, value_name = "PASSWORD", help_heading = REPOSITORY, conflicts_with = "password_file")]
    pub repopwd: Option<String>,
    /// File with the password. [env: RESTIC_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", help_heading = REPOSITORY)]
    pub password_file: Option<PathBuf>,
    /// Access key. Without any key the role that this place gives is taken. [env: AWS_ACCESS_KEY_ID, with AWS_SESSION_TOKEN for
    /// keys that expire]
    #[arg(long, value_name = "KEY", help_heading = S3)]
    pub accesskey: Option<String>,
    /// Secret key. Everybody on this machine can see it in `ps`: prefer the environment. [env: AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "KEY", help_heading = S3)]
    pub secretkey: Option<String>,
    /// Region. Default: the one that the host names (`s3.eu-west-1.amazonaws.com`), else `us-east-1`. [env: AWS_REGION,
    /// AWS_DEFAULT_REGION]
    #[arg(long, value_name = "REGION", help_heading = S3)]
    pub region: Option<String>,
    /// File with certificates (PEM) that are trusted beside the system's. [env: RESTIC_CACERT]
    #[arg(long, value_name = "FILE", help_heading = S3)]
    pub cacert: Option<PathBuf>,
    /// Accept any certificate: whoever sits on the way can read and change the requests.
    #[arg(long, help_heading = S3)]
    pub insecure_skip_tls_verify: bool,
    /// `true`: the bucket stands in the path, `https://host/bucket`; `false`: in the host's name, `https://bucket.host`.
    #[arg(long, value_name = "BOOL", default_value = "true", action = ArgAction::Set, help_heading = S3)]
    pub force_path_style: bool,
}

/// `list backups`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Only backups with this tag, such as `policy=nightly` or `cluster=UID`. May be given more than once: all must fit.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
}

/// `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Backup: its id, a beginning of its id that no other has, the name of its record, or `latest`.
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Directory that gets `data/`; it is created if need be.
    #[arg(long, value_name = "DIR")]
    pub targetdir: PathBuf,
    /// Replace a `data/` that is there, once the new one is complete. Without it such a target is refused.
    #[arg(long)]
    pub overwrite: bool,
    /// With `latest`: the latest backup that has this tag, such as `policy=nightly`. May be given more than once: all must fit.
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    pub tags: Vec<String>,
    /// Backup: its id, a beginning of its id that no other has, the name of its record, or `latest`.
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Read every byte. Without it only index and directories are read, and that every file of data exists with the right
    /// size.
    #[arg(long)]
    pub read_data: bool,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
}

/// How to get on with others who work in the repository.
#[derive(Args, Debug)]
pub struct LockArgs {
    /// How long to wait while others have locked the repository. A lock that its holder left behind goes after half an hour.
    #[arg(long, value_name = "DURATION", default_value = "35m", value_parser = duration, help_heading = LOCKS)]
    pub lock_wait: Duration,
    /// Take no lock: for keys that may only read. What others do meanwhile may look like damage.
    #[arg(long, help_heading = LOCKS)]
    pub no_lock: bool,
}

/// `init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Which cluster.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// Namespace of KubeDR.
    #[arg(long, short, value_name = "NAME", default_value = "kubedr-system", help_heading = CLUSTER)]
    pub namespace: String,
    /// Kubeconfig. Default: `~/.kube/config`, or the service account of the pod that this runs in. [env: KUBECONFIG]
    #[arg(long, value_name = "FILE", help_heading = CLUSTER)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub context: Option<String>,
}

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `backup now`.
#[derive(Args, Debug)]
pub struct BackupNowArgs {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Policy that says what is backed up, and to where.
    pub policy: String,
    /// Wait until the backup has ended, and print its record. Exit code 8 if it failed.
    #[arg(long)]
    pub wait: bool,
    /// With `--wait`: how long.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
}

/// `completion`.
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// The shell.
    pub shell: Shell,
}

/// `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Directory; it is created if need be.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "expected hours, minutes and seconds, such as 35m or 1h30m".to_owned())
}

/// The command line's description, for help, completion and reference.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command().name("kubedrctl")
}

/// The name under which this was called: `kubectl kubedr` for the plugin `kubectl-kubedr`.
pub fn called_as(program: &str) -> &'static str {
    let name = program.rsplit('/').next().unwrap_or_default();
    if name.starts_with("kubectl-kubedr") || name.starts_with("kubectl-kubedr".replace('-', "_").as_str()) {
        "kubectl kubedr"
    } else {
        "kubedrctl"
    }
}

/// Reads the command line; ends the process where it is wrong, or asks for help only.
pub fn parse() -> (Cli, &'static str) {
    let name = called_as(&env::args().next().unwrap_or_default());
    let mut command = command();
    if name != "kubedrctl" {
        let sections = SECTIONS.replace("  kubedrctl ", &format!("  {name} "));
        command = command.bin_name(name).display_name(name).after_help(sections);
    }
    let matches = command.clone().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    (cli, name)
}

/// What the environment says.
#[derive(Default)]
pub struct Environment {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Option<String>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `RESTIC_REPOSITORY`.
    pub repository: Option<String>,
    /// `RESTIC_REPOSITORY_FILE`.
    pub repository_file: Option<PathBuf>,
    /// `RESTIC_PASSWORD`.
    pub password: Option<String>,
    /// `RESTIC_PASSWORD_FILE`.
    pub password_file: Option<PathBuf>,
    /// `RESTIC_CACERT`.
    pub cacert: Option<PathBuf>,
}

impl Environment {
    /// Reads it. An empty variable counts as absent; line ends that a file left behind are cut off.
    pub fn read() -> Self {
        let either = |first, second| variable(first).or_else(|| variable(second));
        Self {
            access_key: variable("AWS_ACCESS_KEY_ID"),
            secret_key: variable("AWS_SECRET_ACCESS_KEY"),
            session_token: variable("AWS_SESSION_TOKEN"),
            endpoint: either("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            region: either("AWS_REGION", "AWS_DEFAULT_REGION"),
            repository: variable("RESTIC_REPOSITORY"),
            repository_file: variable("RESTIC_REPOSITORY_FILE").map(PathBuf::from),
            password: variable("RESTIC_PASSWORD"),
            password_file: variable("RESTIC_PASSWORD_FILE").map(PathBuf::from),
            cacert: variable("RESTIC_CACERT").map(PathBuf::from),
        }
    }
}

/// Whether a terminal may be given colours, as `NO_COLOR` and `TERM` say.
pub fn colours_are_wanted() -> bool {
    variable("NO_COLOR").is_none() && !terminal_is_dumb()
}

/// Whether the terminal can do nothing but print.
pub fn terminal_is_dumb() -> bool {
    variable("TERM").is_none_or(|term| term == "dumb")
}

fn variable(name: &str) -> Option<String> {
    let value = env::var(name).ok()?;
    let value = value.trim_end_matches(['\r', '\n']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_plugin_of_kubectl_is_known_by_its_name() {
        for (program, expected) in [
            ("/usr/local/bin/kubectl-kubedr", "kubectl kubedr"),
            ("kubectl-kubedr", "kubectl kubedr"),
            ("./kubedrctl", "kubedrctl"),
            ("", "kubedrctl"),
        ] {
            assert_eq!(called_as(program), expected, "{program}");
        }
    }

    #[test]
    fn the_flags_of_kubedr_0_x_work_wherever_a_repository_is_needed() {
        let flags = ["--accesskey=a", "--secretkey=s", "--repopwd=p", "--endpoint=http://h:1", "--bucket=b"];
        for line in [
            &["list", "backups"][..],
            &["show", "latest"],
            &["restore", "--targetdir=d", "12345678"],
            &["check"],
            &["init"],
        ] {
            let line = [&["kubedrctl"], line, &flags].concat();
            Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }
}
