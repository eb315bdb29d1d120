//! Is everything there that the snapshots need?

use std::sync::Arc;

use rustic_core::{CheckOptions, CheckResults};
use serde::Serialize;

use crate::{
    Error, Repository, Watch,
    backend::{failure_chain, one_line},
    error::call_engine,
    progress::MeteredStorage,
};

/// How much a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Index, trees, and that every pack exists with the right size.
    Structure,
    /// Also every byte of every pack.
    ReadData,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Damage: something that a snapshot needs is missing or changed.
    pub errors: Vec<String>,
    /// Oddities that harm no snapshot, such as packs that no index names after an interrupted backup.
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// Whether every snapshot can be restored, as far as the check has read.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

pub(crate) fn run(
    repository: &Repository,
    depth: CheckDepth,
    watch: Option<&Watch>,
) -> Result<CheckReport, Error> {
    let report = look(repository, CheckOptions::default())?;
    // The engine panics on a pack that is shorter than the index says, which the first look has found.
    if depth == CheckDepth::Structure || !report.is_ok() {
        return Ok(report);
    }
    let options = CheckOptions::default().read_data(true);
    let Some(watch) = watch else { return look(repository, options) };
    let metered = MeteredStorage::new(repository.storage.clone(), watch);
    let metered = metered.map_err(|cause| Error::storage(&repository.url, cause))?;
    look(&repository.on(Arc::new(metered)), options)
}

/// Whether a finding is about a pack that a prune has marked for deletion, which no snapshot needs. restic, which sees no
/// marks, may have deleted it already, and the engine forgets the size of one that no index named.
fn concerns_marked(finding: &str) -> bool {
    ["marked to delete: true", "marked to-delete: true"].iter().any(|mark| finding.contains(mark))
}

fn look(repository: &Repository, options: CheckOptions) -> Result<CheckReport, Error> {
    let engine = repository.engine()?;
    let CheckResults(findings) = call_engine(&repository.url, "check", || engine.check(options))?;
    let mut report = CheckReport::default();
    for (level, finding) in findings {
        let text = one_line(&failure_chain(&finding));
        // The engine does not export the level's type.
        if format!("{level:?}") == "Warn" || concerns_marked(&text) {
            report.warnings.push(text);
        } else {
            report.errors.push(text);
        }
    }
    Ok(report)
}
