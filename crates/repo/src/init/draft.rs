//! Key and config files composed in memory.

use std::sync::Arc;

use bytes::Bytes;
use bytesize::ByteSize;
use rustic_core::{
    ConfigOptions, Credentials, Id, KeyOptions,
    repofile::{Chunker, MasterKey},
};

use super::InitOptions;
use crate::{
    Error, Secret,
    backend::{FileKind, MemoryStore, Storage},
    unlock::closed_engine,
};

/// bbolt, etcd's file format, changes whole pages and never moves them: chunks of fixed, page-aligned size stay equal
/// between two snapshots where content-defined ones do not.
const CHUNK_SIZE: u64 = 16 << 10;

/// A few packs are in memory at once while they are uploaded, and the job's memory is limited.
const PACK_SIZE: u64 = 16 << 20;
const PACK_SIZE_LIMIT: u64 = 24 << 20;

/// The first files of a repository, in memory.
pub(super) struct Draft {
    /// The key file, if a new key was asked for.
    pub(super) key: Option<(Id, Bytes)>,
    /// The config file, encrypted with `master`.
    pub(super) config: Bytes,
    pub(super) master: MasterKey,
}

impl Draft {
    /// A new random master key in a key file that the password opens.
    pub(super) fn with_new_key(url: &str, password: &Secret, options: &InitOptions) -> Result<Self, Error> {
        Self::compose(url, &Credentials::password(password.reveal()), options)
    }

    /// A config for a key that is stored already.
    pub(super) fn with_key(url: &str, master: &MasterKey, options: &InitOptions) -> Result<Self, Error> {
        Self::compose(url, &Credentials::Masterkey(master.clone()), options)
    }

    /// The engine initialises a repository in memory; what it wrote is the draft.
    fn compose(url: &str, credentials: &Credentials, options: &InitOptions) -> Result<Self, Error> {
        let store = MemoryStore::new();
        let storage: Arc<dyn Storage> = Arc::new(store.clone());
        let key_options = KeyOptions::default().hostname(options.host.clone()).with_created(true);
        let engine = closed_engine(storage)
            .and_then(|engine| engine.init(credentials, &key_options, &config_options()))
            .map_err(|error| Error::from_engine(url, "composing a repository", &error))?;
        let read = |kind, id: &Id| store.read(kind, id).map_err(|cause| Error::storage(url, cause));
        let keys = store.list(FileKind::Key).map_err(|cause| Error::storage(url, cause))?;
        let key =
            keys.first().map(|(id, _)| read(FileKind::Key, id).map(|content| (*id, content))).transpose()?;
        Ok(Self { key, config: read(FileKind::Config, &Id::default())?, master: engine.key() })
    }
}

fn config_options() -> ConfigOptions {
    ConfigOptions::default()
        .set_version(2)
        .set_chunker(Chunker::FixedSize)
        .set_chunk_size(ByteSize(CHUNK_SIZE))
        .set_datapack_size(ByteSize(PACK_SIZE))
        .set_datapack_size_limit(ByteSize(PACK_SIZE_LIMIT))
}
