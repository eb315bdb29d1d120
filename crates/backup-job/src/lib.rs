//! The job: initialises a repository, backs up etcd and certificates into it, restores from it.
//!
//! One binary with three subcommands, configured by flags and environment ([`args`]). Given the name of a policy or a location
//! it reports to the API server; without one it knows of no cluster, and the image serves in a CI pipeline.
//!
//! What it guarantees:
//! - exit code 0 means: the data is stored, was read back from the storage and compared, and the report is in place;
//! - every failure has an exit code by its cause, one line that says what to do, on stderr and in the termination log, and in
//!   a cluster a status and an event;
//! - secrets come from the environment or from files, never from arguments, and are in no output;
//! - SIGTERM ends it within seconds; its status and event are the operator's, which knows why it came.
//!
//! How it goes: `args` (what was said) → `settings` (what it means, or what is wrong with it) → [`drive`] (beginning, work,
//! end, SIGTERM) around `init` or `backup`, which do the work → `report` (who is told).

mod args;
mod backup;
mod certificates;
mod drive;
mod failure;
mod init;
mod logging;
mod report;
mod restore;
mod run;
mod settings;

pub use backup::{BackupDone, BackupSettings, CertificatesDir, EtcdSettings, back_up};
pub use certificates::{Archive, CertificatesError};
pub use drive::{Patience, Reporter, Word, drive};
pub use failure::Failure;
pub use init::{IfAbsent, InitDone, initialise};
pub use restore::{Existing, RestoreDone, RestoreSettings, restore};
pub use run::main;
pub use settings::{SecretSource, Storage};
