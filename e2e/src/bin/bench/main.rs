//! The figures of the project, measured side by side in one run: our job and stock restic on the same data, and the operator's
//! memory.
//!
//! Absolute times are this machine's; what carries over is the ratio. The processor's time suffers least from what else the
//! machine does.
//!
//! `bench backup retention operator` measures what is named; without a name, all.
#![allow(clippy::print_stdout, reason = "the figures are its output")]

mod backup;
mod measure;
mod operator;
mod programs;
mod restore;
mod retention;
mod table;

use anyhow::{Result, ensure};

/// A name, and what measures and prints.
type Part = (&'static str, fn() -> Result<()>);

const PARTS: [Part; 3] =
    [("backup", backup::and_restore), ("retention", retention::of_500), ("operator", operator::idle)];

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let names = PARTS.map(|(name, _)| name);
    ensure!(wanted.iter().all(|name| names.contains(&name.as_str())), "there is only {}", names.join(", "));
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            measure()?;
        }
    }
    Ok(())
}
