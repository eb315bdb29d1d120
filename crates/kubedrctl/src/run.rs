//! From the command line to the exit code.

use std::io::stderr;

use kubedr_repo::CheckDepth;
use kubedr_restore::Existing;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};
use tracing_subscriber::EnvFilter;

use crate::{
    answer::Answer,
    args::{self, BackupCommand, Cli, Command, Environment, List, StorageArgs},
    backup_now,
    check::{self, Locking},
    failure::Failure,
    init, list, man, restore, show, status,
    storage::Storage,
};

/// Does what the command line and the environment say, and gives the process's exit code.
#[must_use]
pub fn main() -> i32 {
    let (Cli { command, output, verbose }, name) = args::parse();
    log(verbose);
    run(command).unwrap_or_else(Answer::failed).print(output, name)
}

fn run(command: Command) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unexpected(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            // What is done is done, even if a signal came at the same moment.
            biased;
            answer = answer(command) => answer,
            failure = ended() => Err(failure),
        }
    });
    // Work that was interrupted still blocks a thread; the process does not wait for it.
    runtime.shutdown_background();
    outcome
}

async fn answer(command: Command) -> Result<Answer, Failure> {
    match command {
        Command::List(List::Backups(args)) => {
            let storage = storage(&args.storage)?;
            blocking(move || list::backups(&storage, &args.tags)).await
        }
        Command::Show(args) => {
            let storage = storage(&args.storage)?;
            blocking(move || show::backup(&storage, &args.id)).await
        }
        Command::Restore(args) => {
            let storage = storage(&args.storage)?;
            let existing = if args.overwrite { Existing::Replace } else { Existing::Refuse };
            let wanted = restore::Wanted { name: args.id, tags: args.tags, target: args.targetdir, existing };
            restore::restore(storage, wanted).await
        }
        Command::Check(args) => {
            let depth = if args.read_data { CheckDepth::ReadData } else { CheckDepth::Structure };
            let locking = if args.lock.no_lock { Locking::Off } else { Locking::Wait(args.lock.lock_wait) };
            check::check(storage(&args.storage)?, depth, locking).await
        }
        Command::Init(args) => {
            let storage = storage(&args.storage)?;
            blocking(move || init::init(&storage)).await
        }
        Command::Status(args) => status::status(&args.cluster).await,
        Command::Backup(BackupCommand::Now(args)) => backup_now::backup_now(&args).await,
        Command::Completion(args) => man::completion(args.shell),
        Command::Man(args) => man::man(&args.dir),
    }
}

fn storage(args: &StorageArgs) -> Result<Storage, Failure> {
    Storage::new(args, &Environment::read())
}

/// Does what blocks where that is allowed.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::Unexpected(format!("the work ended abnormally: {error}"))),
    }
}

/// Until Ctrl-C or SIGTERM comes.
async fn ended() -> Failure {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => Failure::Terminated,
        _ = int.recv() => Failure::Interrupted,
    }
}

/// Warnings go to standard error; the engine's own are errors to us, or nothing.
fn log(verbose: bool) {
    let directives =
        if verbose { "info,rustic_core=warn" } else { "error,kubedrctl=warn,kubedr_restore=warn" };
    let filter = EnvFilter::try_new(directives).unwrap_or_default();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .init();
}
