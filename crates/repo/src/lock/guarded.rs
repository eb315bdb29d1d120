//! A storage that changes nothing without the lock.

use std::sync::Arc;

use bytes::Bytes;
use rustic_core::Id;

use super::guard::LockState;
use crate::backend::{Creation, FileKind, Storage, StorageError, StorageErrorKind, relative_path};

/// A storage that refuses every change once the lock is lost. Reading goes on.
#[derive(Debug)]
pub(crate) struct Guarded {
    inner: Arc<dyn Storage>,
    lock: Arc<LockState>,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn Storage>, lock: Arc<LockState>) -> Self {
        Self { inner, lock }
    }

    fn check(&self, action: &'static str, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        self.lock.held().map_err(|reason| {
            StorageError::with_detail(action, relative_path(kind, id), StorageErrorKind::LockLost, reason)
        })
    }
}

impl Storage for Guarded {
    fn url(&self) -> String {
        self.inner.url()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        self.inner.prepare()
    }

    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError> {
        self.inner.list(kind)
    }

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        self.inner.read(kind, id)
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        self.inner.read_range(kind, id, offset, length)
    }

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        self.check("write", kind, id)?;
        self.inner.write(kind, id, content)
    }

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError> {
        self.check("write", kind, id)?;
        self.inner.create_new(kind, id, content)
    }

    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        self.check("remove", kind, id)?;
        self.inner.remove(kind, id)
    }
}
