//! The admin's command line.
//!
//! With nothing but a bucket, its keys and the repository's password it lists, shows, checks and restores backups and makes
//! repositories; with a cluster it tells in one screen how the backups stand, and takes one at once.
//!
//! What it guarantees:
//! - a flag wins over the environment; the variables are those of restic and of AWS;
//! - secrets are in no output, and in no argument unless somebody puts them there;
//! - standard output has the answer and nothing else: text, or with `--output json` one JSON document, failures included;
//!   progress and warnings go to standard error, progress only to a terminal;
//! - every failure has an exit code by its cause, the job's where they mean the same, and one line that says what to do.
//!
//! How it goes: [`args`] (what was said) → `storage` or `cluster` (where that leads) → a module for each subcommand, which
//! gives an `answer` → `run` (prints it, and the exit code).

mod answer;
mod args;
mod backup_now;
mod backups;
mod check;
mod cluster;
mod failure;
mod init;
mod list;
mod man;
mod progress;
mod restore;
mod run;
mod show;
mod status;
mod storage;
mod table;
mod terminal;

pub use args::command;
pub use run::main;
