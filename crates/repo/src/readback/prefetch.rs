//! Ranges of packs, fetched ahead of the engine that decodes them.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

use bytes::Bytes;
use rustic_core::Id;

use crate::backend::{FileKind, Storage, StorageError, StorageErrorKind, pass_on, relative_path};

/// Bytes between two blobs that are read along rather than costing a request of their own.
const GAP: u32 = 64 << 10;

/// Longest range: a pack's worth in a few pieces, so that they travel in parallel.
const RANGE: u32 = 4 << 20;

/// Requests at once. More would help a distant storage, and cost connections.
const PARALLEL: usize = 8;

/// The encoded form of one blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    pub(super) pack: Id,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Wanted {
    fn end(&self) -> u32 {
        self.offset.saturating_add(self.length)
    }
}

/// A range in memory.
#[derive(Debug)]
struct Loaded {
    range: Wanted,
    content: Bytes,
}

/// A storage that answers for the loaded ranges from memory, and asks the real one for everything else.
#[derive(Debug)]
pub(super) struct Prefetch {
    inner: Arc<dyn Storage>,
    loaded: RwLock<Vec<Loaded>>,
}

impl Prefetch {
    pub(super) fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, loaded: RwLock::default() }
    }

    /// Replaces what is loaded by ranges that hold all of `wanted`.
    pub(super) fn load(&self, wanted: Vec<Wanted>) -> Result<(), StorageError> {
        self.clear();
        let ranges = join(wanted);
        let workers = ranges.len().min(PARALLEL);
        let queue = Mutex::new(ranges.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<Vec<Loaded>, StorageError> {
            let mut loaded = Vec::new();
            while let Some(range) = next() {
                loaded.push(self.fetch(range)?);
            }
            Ok(loaded)
        };
        let mut loaded = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, StorageError>(all)
        })?;
        loaded.sort_by(|a, b| a.range.cmp(&b.range));
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    pub(super) fn clear(&self) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn fetch(&self, range: Wanted) -> Result<Loaded, StorageError> {
        let content = self.inner.read_range(FileKind::Pack, &range.pack, range.offset, range.length)?;
        if content.len() != range.length as usize {
            let detail =
                format!("it ends at byte {}, before {}", range.offset as usize + content.len(), range.end());
            let object = relative_path(FileKind::Pack, &range.pack);
            return Err(StorageError::with_detail("read", object, StorageErrorKind::Damaged, detail));
        }
        Ok(Loaded { range, content })
    }

    fn recall(&self, pack: &Id, offset: u32, length: u32) -> Option<Bytes> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let after = loaded.partition_point(|one| (one.range.pack, one.range.offset) <= (*pack, offset));
        let Loaded { range, content } = loaded.get(after.checked_sub(1)?)?;
        if range.pack != *pack || offset.checked_add(length)? > range.end() {
            return None;
        }
        let start = (offset - range.offset) as usize;
        Some(content.slice(start..start + length as usize))
    }
}

/// As few ranges as hold all of `wanted`, each within one pack.
fn join(mut wanted: Vec<Wanted>) -> Vec<Wanted> {
    wanted.sort_unstable();
    wanted.dedup();
    let mut ranges: Vec<Wanted> = Vec::new();
    for next in wanted {
        match ranges.last_mut() {
            Some(range)
                if range.pack == next.pack
                    && next.offset <= range.end().saturating_add(GAP)
                    && next.end().max(range.end()) - range.offset <= RANGE =>
            {
                range.length = next.end().max(range.end()) - range.offset;
            }
            _ => ranges.push(next),
        }
    }
    ranges
}

impl Storage for Prefetch {
    pass_on!(url, prepare, list, read, write, create_new, remove);

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        if kind == FileKind::Pack
            && let Some(content) = self.recall(id, offset, length)
        {
            return Ok(content);
        }
        self.inner.read_range(kind, id, offset, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pack: &str, offset: u32, length: u32) -> Wanted {
        let id = format!("{pack:0>64}").parse().unwrap_or_default();
        Wanted { pack: id, offset, length }
    }

    #[test]
    fn neighbours_and_repetitions_become_one_range() {
        let ranges = join(vec![wanted("a", 100, 50), wanted("a", 0, 100), wanted("a", 100, 50)]);
        assert_eq!(ranges, [wanted("a", 0, 150)]);
    }

    #[test]
    fn a_wide_gap_a_long_range_and_another_pack_begin_anew() {
        let ranges = join(vec![
            wanted("a", 0, 10),
            wanted("a", 11 + GAP, 10),
            wanted("b", 0, RANGE),
            wanted("b", RANGE, 1),
        ]);
        assert_eq!(ranges.len(), 4);
    }
}
