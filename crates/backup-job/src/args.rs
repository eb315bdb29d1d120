//! Flags and environment. Nothing else in this crate reads the environment.

use std::{env, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use kubedr_api::task::env as name;

/// Initialises a restic repository, backs up etcd and certificates into it, restores from it, and keeps it in order.
///
/// Secrets are never arguments: the keys of the S3 service come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for keys
/// that expire, `AWS_SESSION_TOKEN`, the repository's password from `RESTIC_PASSWORD` or the file that `--password-file`
/// names. Without keys, web identity, container credentials and the instance profile of AWS are tried. A flag wins over
/// its variable.
#[derive(Parser, Debug)]
#[command(name = "kubedr-backup-job", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to tell what is being done.
    #[command(flatten)]
    pub log: LogArgs,
}

const EXIT_CODES: &str = "Exit codes:
    0  done, stored, checked, and reported
    1  something that the job did not foresee
    2  configuration: flags, environment, a Secret or one of its keys
    3  etcd: no healthy member, refused credentials, a broken stream
    4  repository: storage, password, a check that failed
    5  reporting: the work is done and stored, but the API server did not take the report
    6  a file of the certificates could not be read
    7  a restore could not write to its target
  143  ended by SIGTERM";

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Makes sure that there is a repository and that the password opens it.
    Init(InitArgs),
    /// Stores a snapshot of etcd, and the certificates, as one snapshot; reads it back and compares.
    Backup(Box<BackupArgs>),
    /// Writes a snapshot's files into a directory, as `data/etcd-snapshot.db` and `data/certificates/`.
    Restore(RestoreArgs),
    /// Deletes snapshots, for good.
    Forget(ForgetArgs),
    /// Gives the space back that no snapshot uses, in two phases a day apart, then checks. Run it daily.
    Prune(PruneArgs),
    /// Looks whether everything is there that the snapshots need.
    Check(CheckArgs),
    /// Looks at a location's repository and brings the records of the cluster up to date.
    Sync(SyncArgs),
}

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

/// Where the repository is.
#[derive(Args, Debug)]
pub struct StorageArgs {
    /// Repository in restic's notation: `s3:http://host:port/bucket`, or a directory.
    #[arg(long, short, env = name::REPOSITORY)]
    pub repository: Option<String>,
    /// File with the repository's password. `RESTIC_PASSWORD` is the password itself.
    #[arg(long, env = "RESTIC_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,
    /// Region of the S3 service. Default: the one that the host names (`s3.eu-west-1.amazonaws.com`), else `us-east-1`.
    #[arg(long, env = name::REGION)]
    pub region: Option<String>,
    /// File with certificates (PEM) that are trusted for the S3 service beside the system's.
    #[arg(long, env = name::CA_CERT)]
    pub cacert: Option<PathBuf>,
    /// Write nothing to the repository, not even a lock.
    #[arg(long, env = name::READ_ONLY, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub read_only: bool,
    /// Object and key behind that file, for messages.
    #[arg(long, env = name::CA_CERT_SOURCE, hide = true)]
    pub cacert_source: Option<String>,
    /// Do not check the certificate of the S3 service: whoever sits on the way can read and change the requests. `--cacert` is
    /// then not looked at.
    #[arg(long, env = name::INSECURE_TLS, value_name = "BOOL", default_value_t, action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_tls: bool,
    /// `true`: the bucket stands in the path, `https://host/bucket`, which every S3 service understands; `false`: in the
    /// name of the host, `https://bucket.host`.
    #[arg(long, env = name::FORCE_PATH_STYLE, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub force_path_style: bool,
    /// Secret behind keys and password, for messages.
    #[arg(long, env = name::CREDENTIALS, hide = true)]
    pub credentials: Option<String>,
}

/// How to get on with others who work in the repository.
#[derive(Args, Debug)]
pub struct LockArgs {
    /// How long to wait while others have locked the repository. A lock that its holder left behind goes after half an hour.
    #[arg(long, env = name::LOCK_WAIT, value_name = "DURATION", default_value = "35m", value_parser = duration)]
    pub lock_wait: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "expected hours, minutes and seconds, such as 35m or 1h30m".to_owned())
}

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

/// `backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// Where the repository is.
    #[command(flatten)]
    pub storage: StorageArgs,
    /// Which run this is.
    #[command(flatten)]
    pub run: RunArgs,
    /// How to get on with others.
    #[command(flatten)]
    pub lock: LockArgs,
    /// Client URLs of etcd, separated by commas.
    #[arg(long, env = name::ETCD_ENDPOINTS, default_value = kubedr_api::DEFAULT_ETCD_ENDPOINT)]
    pub etcd_endpoints: String,
    /// File with etcd's certificate authority (PEM).
    #[arg(long, env = name::ETCD_CA)]
    pub etcd_cacert: Option<PathBuf>,
    /// File with the client certificate for etcd (PEM).
    #[arg(long, env = name::ETCD_CERT)]
    pub etcd_cert: Option<PathBuf>,
    /// File with the key of the client certificate (PEM).
    #[arg(long, env = name::ETCD_KEY)]
    pub etcd_key: Option<PathBuf>,
    /// Secret behind the three files, for messages.
    #[arg(long, env = name::ETCD_CREDENTIALS, hide = true)]
    pub etcd_credentials: Option<String>,
    /// Directory whose files are backed up beside etcd, usually `/etc/kubernetes/pki`.
    #[arg(long, env = name::CERTS_DIR)]
    pub certs_dir: Option<PathBuf>,
    /// Where the file system is mounted that `--certs-dir` is a path of.
    #[arg(long, env = name::HOST_ROOT, default_value = "/")]
    pub host_root: PathBuf,
    /// `MetadataBackupPolicy` to report about. Without it the job works without a cluster.
    #[arg(long, env = name::POLICY)]
    pub policy: Option<String>,
    /// Host of the snapshot. Default: the node's name, or this machine's.
    #[arg(long, env = name::NODE_NAME)]
    pub host: Option<String>,
}

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

/// What only the environment says.
pub struct Secrets {
    /// Access key of the S3 service.
    pub access_key: Option<String>,
    /// Secret key of the S3 service.
    pub secret_key: Option<String>,
    /// What belongs to keys that expire.
    pub session_token: Option<String>,
    /// Password of the repository.
    pub password: Option<String>,
}

impl Secrets {
    /// Whether nothing at all is there: the Secret does not exist, or the environment was forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { access_key, secret_key, session_token, password } = self;
        [access_key, secret_key, session_token, password].iter().all(|secret| secret.is_none())
    }

    /// Reads them. An empty variable counts as absent; line ends that a file left behind are cut off.
    pub fn from_environment() -> Self {
        Self {
            access_key: secret(name::ACCESS_KEY),
            secret_key: secret(name::SECRET_KEY),
            session_token: secret(name::SESSION_TOKEN),
            password: secret(name::PASSWORD),
        }
    }
}

fn secret(variable: &str) -> Option<String> {
    let value = env::var(variable).ok()?;
    let value = value.trim_end_matches(['\r', '\n']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use kubedr_api::task::{BackupTask, ForgetTask, InitTask, RepositoryTask, RestoreTask, SyncTask};

    use super::*;

    /// The flag that reads this variable.
    fn flag_of(subcommand: &str, variable: &str) -> String {
        let cli = Cli::command();
        let command = cli.find_subcommand(subcommand).unwrap();
        let reads = |arg: &&clap::Arg| arg.get_env().is_some_and(|env| env == variable);
        let arg = command.get_arguments().find(reads);
        format!(
            "--{}",
            arg.unwrap_or_else(|| panic!("{subcommand}: no flag reads {variable}")).get_long().unwrap()
        )
    }

    /// Parses what the operator encodes, by way of the flags that read its variables.
    fn parse(subcommand: &str, variables: Vec<(&'static str, String)>) -> Command {
        let mut line = vec!["kubedr-backup-job".to_owned(), subcommand.to_owned()];
        for (variable, value) in variables {
            line.push(format!("{}={value}", flag_of(subcommand, variable)));
        }
        Cli::try_parse_from(line).unwrap().command
    }

    fn repository() -> RepositoryTask {
        RepositoryTask {
            repository: "s3:http://h/b".into(),
            location: "l".into(),
            credentials: "s3-secret".into(),
            region: Some("eu-west-1".into()),
            ca_cert: Some(serde_json::from_value(serde_json::json!({"configMap": {"name": "ca"}})).unwrap()),
            insecure_skip_tls_verify: true,
            force_path_style: false,
            access_mode: kubedr_api::AccessMode::ReadWrite,
            cluster_uid: "uid".into(),
        }
    }

    #[test]
    fn clap_finds_nothing_wrong() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_operator_tells_a_backup_arrives() {
        let task = BackupTask {
            repository: repository(),
            policy: "daily".into(),
            etcd_endpoints: "https://a:1,https://b:1".into(),
            etcd_credentials: "etcd-creds".into(),
            certs_dir: Some("/etc/kubernetes/pki".into()),
        };
        let Command::Backup(args) = parse("backup", task.variables()) else { panic!() };
        assert_eq!(args.storage.repository, Some(task.repository.repository));
        assert_eq!(args.storage.credentials, Some(task.repository.credentials));
        assert_eq!(args.run.location, Some(task.repository.location));
        assert_eq!(args.policy, Some(task.policy));
        assert_eq!(args.run.cluster, Some(task.repository.cluster_uid));
        assert_eq!(args.etcd_endpoints, task.etcd_endpoints);
        assert_eq!(args.etcd_credentials, Some(task.etcd_credentials));
        assert_eq!(args.certs_dir, task.certs_dir.map(PathBuf::from));
        assert_eq!(args.host_root, PathBuf::from("/host"));
        assert_eq!(args.etcd_key, Some("/etc/kubedr/etcd/client.key".into()));
    }

    #[test]
    fn what_the_operator_tells_an_init_arrives() {
        let task = InitTask {
            repository: RepositoryTask { access_mode: kubedr_api::AccessMode::ReadOnly, ..repository() },
            generation: 3,
            credentials_version: "77".into(),
            pin_node: true,
        };
        let Command::Init(args) = parse("init", task.variables()) else { panic!() };
        assert_eq!(args.storage.repository, Some(task.repository.repository));
        assert_eq!(args.storage.region, task.repository.region);
        assert_eq!(args.storage.cacert, Some(kubedr_api::task::CA_CERT_FILE.into()));
        assert!(args.storage.insecure_tls && !args.storage.force_path_style);
        assert_eq!(args.location_generation, Some(3));
        assert_eq!(args.credentials_version.as_deref(), Some("77"));
        assert!(args.pin_node && args.storage.read_only);
        assert_eq!(args.storage.cacert_source.as_deref(), Some("ConfigMap/ca/ca.crt"));
    }

    #[test]
    fn what_the_operator_tells_a_restore_arrives() {
        let task = RestoreTask {
            repository: repository(),
            restore: "back".into(),
            generation: 2,
            snapshot: "ab".repeat(32),
            repository_id: Some("cd".repeat(32)),
            overwrite: true,
        };
        let mut variables = task.variables();
        // Positional, and a switch: `parse` writes flags with values.
        variables.retain(|(name, _)| ![name::SNAPSHOT, name::OVERWRITE].contains(name));
        let Command::Restore(args) = parse("restore", variables) else { panic!() };
        assert_eq!(args.restore, Some(task.restore));
        assert_eq!(args.restore_generation, Some(2));
        assert_eq!(args.repository_id, task.repository_id);
        assert_eq!(args.target, PathBuf::from("/restore"));
        let restore = Cli::command().find_subcommand("restore").unwrap().clone();
        for name in [name::SNAPSHOT, name::OVERWRITE] {
            assert!(
                restore.get_arguments().any(|arg| arg.get_env().is_some_and(|env| env == name)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_the_operator_tells_a_forget_arrives() {
        let task = ForgetTask {
            repository: repository(),
            repository_id: "cd".repeat(32),
            snapshots: vec!["ab".repeat(32), "ef".repeat(32)],
            prune: true,
        };
        let Command::Forget(args) = parse("forget", task.variables()) else { panic!() };
        assert_eq!(args.run.location, Some(task.repository.location.clone()));
        assert_eq!(args.repository_id, Some(task.repository_id.clone()));
        assert_eq!((&args.snapshots, args.prune), (&task.snapshots, true));
        let only_prune = ForgetTask { snapshots: Vec::new(), prune: false, ..task };
        let Command::Forget(args) = parse("forget", only_prune.variables()) else { panic!() };
        assert_eq!((args.snapshots.join(""), args.prune), (String::new(), false));
        assert_eq!(args.lock.lock_wait, kubedr_api::task::LOCK_WAIT, "with which the operator reckons");
    }

    #[test]
    fn what_the_operator_tells_a_sync_arrives() {
        let mut repository = repository();
        repository.access_mode = kubedr_api::AccessMode::ReadOnly;
        let task = SyncTask { repository, generation: 3, repository_id: "cd".repeat(32) };
        let Command::Sync(args) = parse("sync", task.variables()) else { panic!() };
        assert_eq!((args.location_generation, args.repository_id), (Some(3), Some(task.repository_id)));
        assert_eq!((args.run.cluster, args.storage.read_only), (Some(task.repository.cluster_uid), true));
    }

    #[test]
    fn the_time_to_wait_for_a_lock_is_read_as_people_write_it() {
        for (text, seconds) in [("90s", 90), ("35m", 2100), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "35", "-1m", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_pod_knows_of_itself_has_a_flag() {
        for (variable, _) in kubedr_api::task::pod_env() {
            flag_of("backup", variable);
        }
    }

    #[test]
    fn secrets_have_no_flag() {
        let secrets = kubedr_api::task::secret_env().map(|(variable, _)| variable);
        for subcommand in Cli::command().get_subcommands() {
            for arg in subcommand.get_arguments() {
                let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default();
                assert!(!secrets.contains(&env), "{env}");
            }
        }
    }
}
