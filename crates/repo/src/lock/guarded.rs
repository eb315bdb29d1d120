//! A storage that changes nothing without the lock.

use std::sync::Arc;

use bytes::Bytes;
use rustic_core::Id;

use super::guard::LockState;
use crate::backend::{Creation, FileKind, Storage, StorageError, StorageErrorKind, pass_on, relative_path};

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
    pass_on!(url, prepare, list, read, read_range);

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
