//! A storage that fails at a chosen moment, for tests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustic_core::Id;

use super::{Creation, FileKind, Storage, StorageError, StorageErrorKind, pass_on};

/// Called before every change of the storage with what is about to happen.
type Hook = Box<dyn FnMut(Change, FileKind) -> Fault + Send>;

/// A change of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Write,
    CreateNew,
    Remove,
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It happens.
    None,
    /// It does not happen, and neither does anything after it: the process was killed just before.
    KilledBefore,
    /// It happens, and nothing after it: the process was killed before it knew.
    KilledAfter,
    /// It happens with one bit changed, and reports success.
    Corrupted,
}

/// A storage around another one.
pub(crate) struct FaultyStorage {
    inner: Arc<dyn Storage>,
    hook: Mutex<Hook>,
    dead: Mutex<bool>,
}

impl std::fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStorage").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStorage {
    pub(crate) fn around(
        inner: Arc<dyn Storage>,
        hook: impl FnMut(Change, FileKind) -> Fault + Send + 'static,
    ) -> Arc<dyn Storage> {
        Arc::new(Self { inner, hook: Mutex::new(Box::new(hook)), dead: Mutex::new(false) })
    }

    fn alive(&self) -> Result<(), StorageError> {
        if *self.dead.lock().unwrap() {
            return Err(StorageError::with_detail("use", "storage", StorageErrorKind::Unreachable, "killed"));
        }
        Ok(())
    }

    fn change<T>(
        &self,
        change: Change,
        kind: FileKind,
        content: &Bytes,
        act: impl FnOnce(Bytes) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.alive()?;
        let fault = (self.hook.lock().unwrap())(change, kind);
        match fault {
            Fault::None => act(content.clone()),
            Fault::Corrupted => {
                let mut content = content.to_vec();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                act(content.into())
            }
            Fault::KilledBefore | Fault::KilledAfter => {
                let outcome = (fault == Fault::KilledAfter).then(|| act(content.clone()));
                *self.dead.lock().unwrap() = true;
                drop(outcome);
                self.alive()?;
                unreachable!("it is dead")
            }
        }
    }
}

impl Storage for FaultyStorage {
    pass_on!(url);

    fn prepare(&self) -> Result<(), StorageError> {
        self.alive()?;
        self.inner.prepare()
    }

    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError> {
        self.alive()?;
        self.inner.list(kind)
    }

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        self.alive()?;
        self.inner.read(kind, id)
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        self.alive()?;
        self.inner.read_range(kind, id, offset, length)
    }

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        self.change(Change::Write, kind, &content, |content| self.inner.write(kind, id, content))
    }

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError> {
        self.change(Change::CreateNew, kind, &content, |content| self.inner.create_new(kind, id, content))
    }

    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        self.change(Change::Remove, kind, &Bytes::new(), |_| self.inner.remove(kind, id))
    }
}
