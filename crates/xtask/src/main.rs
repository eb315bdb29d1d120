//! What is derived from the code, and what must hold of the workspace as a whole.
//!
//! `cargo xtask gen` writes the CRDs into the chart and the reference pages into `docs/reference`; `gen --check` fails when
//! one of these files is not what the code says. `cargo xtask deps` asserts who may link whom, that there is one TLS
//! stack, and that every dependency has a licence we may ship. `cargo xtask screenshot` draws what a command shows on a terminal.

mod api_reference;
mod cli_reference;
mod crd;
mod deps;
mod generated;
mod licence;
mod screenshot;
mod values_reference;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the files that are derived from the code: CRDs and reference pages.
    Gen {
        /// Write nothing; fail if a file is not what the code says.
        #[arg(long)]
        check: bool,
    },
    /// Check the dependencies: import rules, one TLS stack, licences.
    Deps,
    /// Draw what a command shows on a terminal.
    Screenshot {
        /// The picture (SVG).
        file: PathBuf,
        /// The command.
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = run(&Args::parse().command);
    // No backtrace: the message is the command to run, or what to change in a manifest.
    if let Err(error) = &outcome {
        let _ = writeln!(std::io::stderr(), "{error:#}");
    }
    ExitCode::from(u8::from(outcome.is_err()))
}

fn run(command: &Command) -> anyhow::Result<()> {
    let root = workspace_root();
    match command {
        Command::Gen { check: true } => generated::check(&root),
        Command::Gen { check: false } => generated::write(&root),
        Command::Deps => deps::check(&root),
        Command::Screenshot { file, command } => screenshot::draw(file, command),
    }
}

/// The checkout that this program was built from.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
