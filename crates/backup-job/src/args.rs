//! Flags and environment. Nothing else in this crate reads the environment.

mod backup;
mod check;
mod forget;
mod init;
mod lock;
mod log;
mod prune;
mod restore;
mod run;
mod secrets;
mod storage;
mod sync;

use clap::{Parser, Subcommand};

pub use self::{
    backup::BackupArgs,
    check::CheckArgs,
    forget::ForgetArgs,
    init::InitArgs,
    lock::LockArgs,
    log::{LogArgs, LogFormat},
    prune::PruneArgs,
    restore::RestoreArgs,
    run::RunArgs,
    secrets::Secrets,
    storage::StorageArgs,
    sync::SyncArgs,
};

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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::CommandFactory;
    use kubedr_api::task::{
        BackupTask, ForgetTask, InitTask, RepositoryTask, RestoreTask, SyncTask, env as name,
    };

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
