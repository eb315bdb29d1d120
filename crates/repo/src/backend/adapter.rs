//! A [`Storage`] as the engine wants it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RepositoryBackends, RusticError, RusticResult,
    WriteBackend,
};

use super::{FileKind, Storage, StorageError, relative_path};

/// The engine's view of `storage`.
pub(crate) fn engine_backends(storage: Arc<dyn Storage>) -> RepositoryBackends {
    RepositoryBackends::new(Arc::new(Adapter(storage)), None)
}

impl From<FileType> for FileKind {
    fn from(tpe: FileType) -> Self {
        match tpe {
            FileType::Config => Self::Config,
            FileType::Index => Self::Index,
            FileType::Key => Self::Key,
            FileType::Snapshot => Self::Snapshot,
            FileType::Pack => Self::Pack,
        }
    }
}

#[derive(Debug)]
struct Adapter(Arc<dyn Storage>);

/// The typed error travels as the source of the engine's own, where `Error::from_engine` finds it again.
fn raise(error: StorageError) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, error.to_string(), error)
}

impl ReadBackend for Adapter {
    fn location(&self) -> String {
        self.0.url()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.0.list(tpe.into()).map_err(raise)
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        self.0.read(tpe.into(), id).map_err(raise)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.0.read_range(tpe.into(), id, offset, length).map_err(raise)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        relative_path(tpe.into(), id)
    }
}

impl WriteBackend for Adapter {
    fn write_bytes(&self, tpe: FileType, id: &Id, _cacheable: bool, content: BytesList) -> RusticResult<()> {
        self.0.write(tpe.into(), id, contiguous(content)).map_err(raise)
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        self.0.remove(tpe.into(), id).map_err(raise)
    }
}

/// The parts in one piece: a pack comes as one part per blob, and each is let go of as soon as it is copied.
fn contiguous(content: BytesList) -> Bytes {
    let size = content.size();
    let mut parts = content.into_vec();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut whole = BytesMut::with_capacity(size);
    for part in parts {
        whole.extend_from_slice(&part);
    }
    whole.freeze()
}
