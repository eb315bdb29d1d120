//! The operator's program: command line, log, signals.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use kubedr_operator::{Args, Command, release, serve, start_log};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

// One thread: the operator waits for the API server, and each thread would cost memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = start_log(args.log_format, &args.log_level) {
        // Without a log there is one place left to say so.
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "--log-level `{}` is wrong: {error}", args.log_level);
        return ExitCode::from(2);
    }
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the operator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    let work = async {
        match args.command {
            None => Ok(serve(args, shutdown.clone()).await?),
            Some(Command::Release) => Ok(release(&args.namespace, shutdown.clone()).await?),
        }
    };
    tokio::select! {
        ended = work => ended,
        () = asked => Ok(()),
    }
}
