//! Giving space back.
//!
//! In two phases, a day apart. The first marks packs that no snapshot uses, and repacks those that are used in part, within
//! limits; the second, of a later run, deletes what was marked long enough before. In between the marked data is not in
//! the index: no backup relies on it, whatever it finds to be stored already. Should a snapshot need it all the same, from
//! a program that keeps no locks, the next run takes it back instead of deleting it.
//!
//! At every moment new files are complete before those go that they replace, so a run may be killed anywhere: at worst
//! packs remain that no index names, and the next run marks them.

use std::{collections::BTreeSet, fmt, time::Duration};

use bytes::Bytes;
use jiff::{Span, Timestamp};
use rustic_core::{
    Id, OpenStatus, PruneOptions, PrunePlan as EnginePlan, Repository as Engine,
    repofile::{IndexFile, IndexPack},
};
use serde::Serialize;

use crate::{
    Error, Repository,
    backend::FileKind,
    error::{call_engine, read_engine},
};

/// How long what was marked is kept: shorter than a day, so that a daily run deletes what the last one has marked.
pub(crate) const KEEP_MARKED: Duration = Duration::from_hours(23);

/// A number of packs and what they hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Files.
    pub packs: u64,
    /// Their bytes, but for some overhead.
    pub bytes: u64,
}

/// What a prune does, or has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Used in part; the used data is written to new packs, and these are marked.
    pub repacked: Amount,
    /// Not used at all and now marked, packs that no index names included.
    pub marked: Amount,
    /// Marked long enough before, and now deleted.
    pub deleted: Amount,
    /// Marked before, and used again.
    pub recovered: Amount,
    /// All that is marked after this run, and that a later one will delete.
    pub still_marked: Amount,
}

impl PruneReport {
    /// Whether the repository stays as it is.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        let Self { repacked, marked, deleted, recovered, still_marked: _ } = self;
        [repacked, marked, deleted, recovered].iter().all(|amount| amount.packs == 0)
    }
}

/// What is to be done, not begun yet.
pub struct PrunePlan {
    report: PruneReport,
    options: PruneOptions,
    plan: EnginePlan,
    engine: Engine<OpenStatus>,
    repository: Repository,
}

pub(crate) fn plan(repository: &Repository, keep_marked: Duration) -> Result<PrunePlan, Error> {
    let mut options = PruneOptions::default();
    options.keep_delete = Span::try_from(keep_marked).unwrap_or(options.keep_delete);
    let engine = repository.engine()?;
    let plan = read_engine(&repository.url, "planning a prune", || engine.prune_plan(&options))?;
    let repository = repository.on(repository.storage.clone());
    Ok(PrunePlan { report: report(&plan), options, plan, engine, repository })
}

fn report(plan: &EnginePlan) -> PruneReport {
    let stats = &plan.stats;
    let (size, count, marked_size) = (stats.size_sum(), stats.packs_to_delete, stats.size_to_delete);
    let repacked = Amount { packs: stats.packs.repack, bytes: size.repack };
    let marked =
        Amount { packs: stats.packs.unused + stats.packs_unref, bytes: size.remove + stats.size_unref };
    PruneReport {
        repacked,
        marked,
        deleted: Amount { packs: count.remove, bytes: marked_size.remove },
        recovered: Amount { packs: count.recover, bytes: marked_size.recover },
        still_marked: Amount {
            packs: count.keep + marked.packs + repacked.packs,
            bytes: marked_size.keep + marked.bytes + repacked.bytes,
        },
    }
}

impl fmt::Debug for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrunePlan").field("report", &self.report).finish_non_exhaustive()
    }
}

impl PrunePlan {
    /// What it is going to do.
    #[must_use]
    pub fn report(&self) -> PruneReport {
        self.report
    }

    /// Does it. The lock that was held when the plan was made must still be: nothing may have changed since.
    pub fn execute(self) -> Result<PruneReport, Error> {
        let Self { report, options, plan, engine, repository } = self;
        // The engine forgets to mark packs that no index names where it leaves all index files as they are.
        let forgets = plan.stats.packs_unref > 0 && plan.stats.index_files_rebuild == 0;
        if forgets {
            mark_unindexed(&repository, &engine)?;
        } else {
            call_engine(&repository.url, "prune", || engine.prune(&options, plan))?;
        }
        Ok(report)
    }
}

/// Writes an index file that marks the packs which no other names.
fn mark_unindexed(repository: &Repository, engine: &Engine<OpenStatus>) -> Result<(), Error> {
    let failed = |cause| Error::storage(&repository.url, cause);
    let mut packs = repository.storage.list(FileKind::Pack).map_err(failed)?;
    read_engine(&repository.url, "reading the index", || {
        for file in engine.stream_files::<IndexFile>()? {
            let IndexFile { packs: used, packs_to_delete: marked, supersedes: _ } = file?.1;
            let named: BTreeSet<_> = used.iter().chain(&marked).map(|pack| *pack.id).collect();
            packs.retain(|(id, _)| !named.contains(id));
        }
        Ok(())
    })?;
    let time = Some(Timestamp::now());
    let mark = |(id, size): (Id, u32)| IndexPack { id: id.into(), blobs: Vec::new(), time, size: Some(size) };
    let file = IndexFile { packs_to_delete: packs.into_iter().map(mark).collect(), ..IndexFile::default() };
    let (id, content) = seal(repository, &file)?;
    repository.storage.write(FileKind::Index, &id, content).map_err(failed)
}

fn seal(repository: &Repository, file: &IndexFile) -> Result<(Id, Bytes), Error> {
    let failed = |detail: String| Error::Engine { action: "prune", detail };
    let content = serde_json::to_vec(file).map_err(|error| failed(error.to_string()))?;
    repository.sealer.seal(&content).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;
