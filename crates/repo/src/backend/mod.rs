//! Where repository files are stored: S3, a directory, memory.
//!
//! [`Storage`] is the contract all three keep; `adapter` puts it under the engine. Wrappers (the gate of a backup, the
//! read-ahead of a restore, the faults of the tests) are storages around a storage.

mod adapter;
mod failure;
#[cfg(test)]
pub(crate) mod faulty;
mod kind;
mod local;
mod memory;
mod pass_on;
mod s3;

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;
use rustic_core::Id;

pub(crate) use adapter::engine_backends;
pub use failure::{StorageError, StorageErrorKind};
pub(crate) use failure::{chain as failure_chain, one_line};
pub(crate) use kind::FileKind;
pub use memory::MemoryStore;
pub(crate) use pass_on::pass_on;
pub(crate) use s3::check_certificates;

use crate::Location;

/// What [`Storage::create_new`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    /// The file did not exist; it does now, with our content.
    Created,
    /// Somebody else's file stands there, untouched.
    Exists,
}

/// A flat store of immutable files, each named by kind and id. The config file has the null id.
///
/// A file is visible only when it is complete, and a write that returned an error may or may not have happened.
pub(crate) trait Storage: Debug + Send + Sync + 'static {
    /// The location in restic's notation.
    fn url(&self) -> String;

    /// Makes sure that files can be written: creates the bucket or the directories if they are absent.
    fn prepare(&self) -> Result<(), StorageError>;

    /// All files of a kind with their sizes. Complete or an error; names that are no ids are left out.
    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError>;

    /// A whole file.
    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError>;

    /// `length` bytes from `offset`; fewer only where the file ends.
    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError>;

    /// Writes a file, replacing one of the same name.
    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError>;

    /// Writes a file unless it exists; of any number of callers at once, one gets [`Creation::Created`].
    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError>;

    /// Removes a file; that it is already gone is no error.
    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError>;

    /// Whether the repository's config file is there.
    fn has_config(&self) -> Result<bool, StorageError> {
        Ok(!self.list(FileKind::Config)?.is_empty())
    }
}

/// The storage of a location. Touches nothing yet.
pub(crate) fn connect(location: &Location) -> Result<Arc<dyn Storage>, StorageError> {
    Ok(match location {
        Location::S3(s3) => Arc::new(s3::S3Storage::new(s3)?),
        Location::Local(path) => Arc::new(local::LocalStorage::new(path)),
        Location::Memory(store) => Arc::new(store.clone()),
    })
}

/// Path of a file relative to the repository's root, as restic lays it out.
pub(crate) fn relative_path(kind: FileKind, id: &Id) -> String {
    let hex = id.to_hex();
    let hex = hex.as_str();
    match kind {
        FileKind::Config => "config".to_owned(),
        FileKind::Pack => format!("data/{}/{hex}", &hex[..2]),
        FileKind::Index | FileKind::Key | FileKind::Snapshot | FileKind::Lock => {
            format!("{}/{hex}", kind.dirname())
        }
    }
}
