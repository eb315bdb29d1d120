//! A repository that exists only in this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustic_core::Id;

use super::{Creation, FileKind, Storage, StorageError, StorageErrorKind, relative_path};

/// Files in memory, shared by all clones. For tests, and to have the engine compose files that are stored elsewhere.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    files: Arc<Mutex<BTreeMap<(&'static str, Id), Bytes>>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of files of all kinds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files().len()
    }

    /// Whether nothing was ever stored, or all of it was removed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Id), Bytes>> {
        // The map is whole between any two statements of ours: a panic elsewhere does not spoil it.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The config file has one name whatever id the engine gives it.
fn name(kind: FileKind, id: &Id) -> (&'static str, Id) {
    match kind {
        FileKind::Config => (kind.dirname(), Id::default()),
        _ => (kind.dirname(), *id),
    }
}

impl Storage for MemoryStore {
    fn url(&self) -> String {
        "memory:".to_owned()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError> {
        let files = self.files();
        let of_kind = files.iter().filter(|((dir, _), _)| *dir == kind.dirname());
        Ok(of_kind
            .map(|((_, id), content)| (*id, u32::try_from(content.len()).unwrap_or(u32::MAX)))
            .collect())
    }

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        self.files().get(&name(kind, id)).cloned().ok_or_else(|| {
            StorageError::with_detail(
                "read",
                relative_path(kind, id),
                StorageErrorKind::Missing,
                "no such file",
            )
        })
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        let whole = self.read(kind, id)?;
        let start = (offset as usize).min(whole.len());
        let end = (start + length as usize).min(whole.len());
        Ok(whole.slice(start..end))
    }

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        self.files().insert(name(kind, id), content);
        Ok(())
    }

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError> {
        let mut files = self.files();
        if files.contains_key(&name(kind, id)) {
            return Ok(Creation::Exists);
        }
        files.insert(name(kind, id), content);
        Ok(Creation::Created)
    }

    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        self.files().remove(&name(kind, id));
        Ok(())
    }
}
