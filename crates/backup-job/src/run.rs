//! From the command line to the exit code.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
};

use clap::Parser;
use jiff::Timestamp;
use kubedr_api::RunIdentity;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    BackupSettings, Existing, Failure, IfAbsent, RestoreSettings, SecretSource, Storage,
    args::{BackupArgs, Cli, Command, InitArgs, RestoreArgs, RunArgs, Secrets},
    back_up,
    drive::{Reporter, drive},
    initialise, logging,
    report::{BackupReporter, InitReporter, KubeApi, Nobody, RestoreReporter},
    restore,
};

/// Longest message that the kubelet takes from the termination log, in bytes.
const TERMINATION_MESSAGE_MAX: usize = 4096;

/// Runs the job as the command line and the environment say, and gives the process's exit code.
#[must_use]
pub fn main() -> i32 {
    let Cli { command, log } = Cli::parse();
    let outcome = logging::start(log.log_format, &log.log_level).and_then(|()| run(command));
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            tracing::error!(exit_code = failure.exit_code(), error = %failure, "the job failed");
            note(&log.termination_log, &failure.to_string());
            failure.exit_code()
        }
    }
}

/// Leaves the message where the kubelet finds it, if there is such a place; it is never created.
fn note(path: &Path, message: &str) {
    let text = kubedr_api::shorten(message, TERMINATION_MESSAGE_MAX);
    if fs::exists(path).unwrap_or(false)
        && let Err(error) = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .and_then(|mut f| f.write_all(text.as_bytes()))
    {
        tracing::debug!(%error, path = %path.display(), "no termination log");
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unexpected(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Init(args) => init(args).await,
            Command::Backup(args) => backup(*args).await,
            Command::Restore(args) => restore_to(args).await,
        }
    });
    // Work that SIGTERM interrupted still blocks a thread; the process does not wait for it.
    runtime.shutdown_background();
    outcome
}

async fn backup(args: BackupArgs) -> Result<(), Failure> {
    let secrets = Secrets::from_environment();
    match non_empty(args.policy.as_ref()) {
        None => {
            let work = async { back_up(BackupSettings::new(&args, secrets)?).await };
            finish(work, &Nobody).await
        }
        Some(policy) => {
            let identity = Identity::new(&args.run, "--policy")?;
            let reporter = BackupReporter {
                api: KubeApi::connect(&identity.namespace).await.map_err(Failure::Configuration)?,
                policy: policy.to_owned(),
                location: identity.location,
                cluster: non_empty(args.run.cluster.as_ref()).map(str::to_owned),
                run: identity.run,
            };
            let work = async { back_up(BackupSettings::new(&args, secrets)?).await };
            finish(work, &reporter).await
        }
    }
}

async fn init(args: InitArgs) -> Result<(), Failure> {
    let secrets = Secrets::from_environment();
    let if_absent = if args.storage.read_only { IfAbsent::Fail } else { IfAbsent::Create };
    if non_empty(args.run.location.as_ref()).is_none() {
        let work = async {
            let storage = Storage::new(&args.storage, secrets, SecretSource::Environment)?;
            initialise(storage, if_absent).await
        };
        return finish(work, &Nobody).await;
    }
    let identity = Identity::new(&args.run, "--location")?;
    let reporter = InitReporter {
        api: KubeApi::connect(&identity.namespace).await.map_err(Failure::Configuration)?,
        location: identity.location,
        job_uid: identity.run.job_uid,
        generation: args.location_generation.ok_or_else(|| missing("--location-generation", "--location"))?,
        credentials_version: args.credentials_version.clone().unwrap_or_default(),
        volume_node: args.node_name.clone().filter(|node| args.pin_node && !node.is_empty()),
    };
    let work = async {
        let source = SecretSource::new(args.storage.credentials.as_deref(), Some(&identity.namespace));
        initialise(Storage::new(&args.storage, secrets, source)?, if_absent).await
    };
    finish(work, &reporter).await
}

async fn restore_to(args: RestoreArgs) -> Result<(), Failure> {
    let secrets = Secrets::from_environment();
    let Some(name) = non_empty(args.restore.as_ref()).map(str::to_owned) else {
        let work = async { restore(restore_settings(args, secrets, None)?).await };
        return finish(work, &Nobody).await;
    };
    let identity = Identity::new(&args.run, "--restore")?;
    let reporter = RestoreReporter {
        api: KubeApi::connect(&identity.namespace).await.map_err(Failure::Configuration)?,
        restore: name,
        job_uid: identity.run.job_uid,
        generation: args.restore_generation.ok_or_else(|| missing("--restore-generation", "--restore"))?,
    };
    let work = async { restore(restore_settings(args, secrets, Some(&identity.namespace))?).await };
    finish(work, &reporter).await
}

fn restore_settings(
    args: RestoreArgs,
    secrets: Secrets,
    namespace: Option<&str>,
) -> Result<RestoreSettings, Failure> {
    let source = SecretSource::new(args.storage.credentials.as_deref(), namespace);
    Ok(RestoreSettings {
        storage: Storage::new(&args.storage, secrets, source)?,
        repository_id: non_empty(args.repository_id.as_ref()).map(str::to_owned),
        snapshot: args.snapshot,
        tags: args.tags,
        target: args.target,
        existing: if args.overwrite { Existing::Replace } else { Existing::Refuse },
    })
}

/// Drives the work and prints its summary.
async fn finish<D: Serialize + Sync>(
    work: impl Future<Output = Result<D, Failure>>,
    reporter: &impl Reporter<D>,
) -> Result<(), Failure> {
    let done = Box::pin(drive(work, reporter, terminated())).await?;
    let summary = serde_json::to_string(&done).map_err(|error| Failure::Unexpected(error.to_string()))?;
    // A closed pipe is no reason to call a stored backup failed.
    if let Err(error) = writeln!(std::io::stdout(), "{summary}") {
        tracing::warn!(%error, "the summary could not be printed");
    }
    Ok(())
}

/// Until SIGTERM or SIGINT comes.
async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be caught; SIGTERM ends the job without a report");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Which run of which object this is.
struct Identity {
    namespace: String,
    location: String,
    run: RunIdentity,
}

impl Identity {
    fn new(args: &RunArgs, because: &str) -> Result<Self, Failure> {
        let get = |value: &Option<String>, flag| {
            non_empty(value.as_ref()).map(str::to_owned).ok_or_else(|| missing(flag, because))
        };
        Ok(Self {
            namespace: get(&args.namespace, "--namespace")?,
            location: get(&args.location, "--location")?,
            run: RunIdentity {
                job_name: get(&args.job_name, "--job-name")?,
                job_uid: get(&args.job_uid, "--job-uid")?,
                pod: non_empty(args.pod_name.as_ref()).map(str::to_owned),
                started: Timestamp::now(),
            },
        })
    }
}

fn missing(flag: &str, because: &str) -> Failure {
    Failure::Configuration(format!(
        "`{flag}` is missing, which `{because}` needs; the operator sets it. Without `{because}` the job works without a cluster"
    ))
}

fn non_empty(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}
