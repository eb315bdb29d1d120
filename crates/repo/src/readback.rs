//! Reading the files of a tree: in file order, with few requests, in bounded memory.
//!
//! The engine reads blob by blob, 16 KiB each, which on a remote storage is one request each. Here a segment of a file is
//! planned first: its blobs are looked up in the index, neighbours in a pack are joined to ranges, the ranges are fetched
//! in parallel into memory, and only then does the engine decode them, from there.

mod prefetch;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustic_core::{DataId, IndexedFullStatus, Repository as Engine, RusticError, TreeId, repofile::Node};
use sha2::{Digest, Sha256};

use self::prefetch::{Prefetch, Wanted};
use crate::{Error, FileDigest, Repository, StorageErrorKind, backend::Storage, error::call_engine};

/// Plain bytes of one segment, unless a single blob is larger. Bounds the memory of a read, together with the fact that a
/// blob is hardly larger in a pack than in plain.
const SEGMENT: u64 = 16 << 20;

/// Reads trees and files of one repository.
pub(crate) struct TreeReader<'a> {
    repository: &'a Repository,
    engine: Engine<IndexedFullStatus>,
    prefetch: Arc<Prefetch>,
}

impl<'a> TreeReader<'a> {
    /// Reads the index.
    pub(crate) fn new(repository: &'a Repository) -> Result<Self, Error> {
        let prefetch = Arc::new(Prefetch::new(repository.storage.clone()));
        let storage: Arc<dyn Storage> = prefetch.clone();
        let engine = repository.engine_on(&storage)?;
        let engine = call_engine(&repository.url, "reading the index", || engine.to_indexed())?;
        Ok(Self { repository, engine, prefetch })
    }

    /// The repository in restic's notation.
    pub(crate) fn url(&self) -> &str {
        &self.repository.url
    }

    /// All nodes below a tree with their absolute paths, parents before children.
    pub(crate) fn walk(&self, root: TreeId) -> Result<Vec<(PathBuf, Node)>, Error> {
        let mut nodes = Vec::new();
        let mut pending = vec![(PathBuf::from("/"), root)];
        while let Some((directory, tree)) = pending.pop() {
            let tree = self.read(&directory, || self.engine.get_tree(&tree))?;
            for node in tree.nodes {
                let path = directory.join(self.plain_name(&directory, &node)?);
                if let Some(subtree) = node.subtree.filter(|_| node.is_dir()) {
                    pending.push((path.clone(), subtree));
                }
                nodes.push((path, node));
            }
        }
        nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(nodes)
    }

    /// A node's name, which must be one: a repository is not to lead a restore out of its target.
    fn plain_name(&self, directory: &Path, node: &Node) -> Result<PathBuf, Error> {
        let name = PathBuf::from(node.name().into_owned());
        let mut parts = name.components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(part)), None) if part == name.as_os_str() => Ok(name),
            _ => Err(Error::damaged(
                &self.repository.url,
                format!("`{}` has an entry with the name `{}`", directory.display(), name.display()),
            )),
        }
    }

    /// Writes a file's content. Errors of `output` are told apart from those of the repository.
    pub(crate) fn copy(&self, path: &Path, node: &Node, output: &mut dyn Write) -> Result<u64, ReadError> {
        let mut output = Counting { inner: output, count: 0, failure: None };
        for segment in self.segments(path, node.content.as_deref().unwrap_or_default())? {
            let wanted = segment.iter().map(|(_, wanted)| wanted.clone()).collect();
            self.prefetch.load(wanted).map_err(|cause| self.unreadable_storage(path, cause))?;
            let mut part = node.clone();
            part.content = Some(segment.into_iter().map(|(id, _)| id).collect());
            if let Err(error) = self.read(path, || self.engine.dump(&part, &mut output)) {
                return Err(match output.failure.take() {
                    Some(cause) => ReadError::Output(cause),
                    None => ReadError::Repository(error),
                });
            }
        }
        self.prefetch.clear();
        Ok(output.count)
    }

    /// The file's blobs, in segments, each with the place of its encoded form.
    fn segments(&self, path: &Path, content: &[DataId]) -> Result<Vec<Vec<(DataId, Wanted)>>, Error> {
        let mut segments: Vec<Vec<(DataId, Wanted)>> = Vec::new();
        let mut size = 0;
        for id in content {
            let entry = self.read(path, || self.engine.get_index_entry(id))?;
            let length = u64::from(entry.data_length());
            if segments.is_empty() || size + length > SEGMENT {
                segments.push(Vec::new());
                size = 0;
            }
            size += length;
            let location = entry.location;
            let wanted = Wanted { pack: *entry.pack, offset: location.offset, length: location.length };
            if let Some(segment) = segments.last_mut() {
                segment.push((*id, wanted));
            }
        }
        Ok(segments)
    }

    /// Calls the engine on behalf of `path`, which its errors then name.
    fn read<T>(&self, path: &Path, call: impl FnOnce() -> Result<T, Box<RusticError>>) -> Result<T, Error> {
        let url = &self.repository.url;
        call_engine(url, "reading back", call).map_err(|error| match error {
            Error::Storage { cause, .. } => self.unreadable_storage(path, cause),
            Error::Damaged { detail, .. } | Error::Engine { detail, .. } => {
                Error::damaged(url, format!("`{}` cannot be read: {detail}", path.display()))
            }
            error => error,
        })
    }

    /// A pack that is gone is damage; a storage that does not answer is not.
    fn unreadable_storage(&self, path: &Path, cause: crate::StorageError) -> Error {
        let url = &self.repository.url;
        match cause.kind {
            StorageErrorKind::Missing | StorageErrorKind::Damaged => {
                Error::damaged(url, format!("`{}` cannot be read: {cause}", path.display()))
            }
            _ => Error::storage(url, cause),
        }
    }
}

/// Why a file could not be copied.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The repository did not give its content.
    Repository(Error),
    /// The content could not be written.
    Output(io::Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Repository(error)
    }
}

/// Counts, and keeps the error that the engine would turn into text.
struct Counting<'a> {
    inner: &'a mut dyn Write,
    count: u64,
    failure: Option<io::Error>,
}

impl Write for Counting<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.inner.write(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                Err(copy)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads all files below `tree` and compares them with `expected`: the same paths, sizes and hashes.
pub(crate) fn verify_tree(
    repository: &Repository,
    tree: TreeId,
    expected: &[FileDigest],
) -> Result<(), Error> {
    let reader = TreeReader::new(repository)?;
    let mut missing: BTreeMap<&str, &FileDigest> =
        expected.iter().map(|file| (file.path.as_str(), file)).collect();
    for (path, node) in reader.walk(tree)?.iter().filter(|(_, node)| node.is_file()) {
        let name = path.to_string_lossy();
        let Some(wanted) = missing.remove(name.as_ref()) else {
            return Err(Error::damaged(
                &repository.url,
                format!("the snapshot has an unexpected file `{name}`"),
            ));
        };
        let found = digest(&reader, path, node)?;
        if found != *wanted {
            let detail = format!(
                "`{name}` reads back as {} bytes with SHA-256 {}, expected {} bytes with {}",
                found.size, found.sha256, wanted.size, wanted.sha256
            );
            return Err(Error::damaged(&repository.url, detail));
        }
    }
    match missing.keys().next() {
        Some(path) => Err(Error::damaged(&repository.url, format!("the snapshot lacks `{path}`"))),
        None => Ok(()),
    }
}

fn digest(reader: &TreeReader<'_>, path: &Path, node: &Node) -> Result<FileDigest, Error> {
    struct Hashing(Sha256);
    impl Write for Hashing {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0.update(buffer);
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Sha256::new());
    let size = reader.copy(path, node, &mut hashing).map_err(|error| match error {
        ReadError::Repository(error) => error,
        ReadError::Output(cause) => Error::Engine { action: "hashing", detail: cause.to_string() },
    })?;
    let sha256 = hex::encode(hashing.0.finalize());
    Ok(FileDigest { path: path.to_string_lossy().into_owned(), size, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackupRequest, MemoryStore, Source, init::quick, snapshot};

    struct FullDisk(u64);

    impl Write for FullDisk {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(buffer.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_of_the_output_not_a_panic() {
        let repository = quick::repository(Arc::new(MemoryStore::new()));
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let backup = repository.backup(BackupRequest {
            time: jiff::Timestamp::now(),
            host: "host".to_owned(),
            tags: Vec::new(),
            path: "/data".to_owned(),
            sources: vec![Source {
                path: "/data/file".to_owned(),
                size: content.len() as u64,
                mode: 0o600,
                reader: Box::new(io::Cursor::new(content)),
            }],
        });
        let tree = snapshot::load(&repository, &backup.unwrap().snapshot_id).unwrap().tree;
        let reader = TreeReader::new(&repository).unwrap();
        let nodes = reader.walk(tree).unwrap();
        let (path, node) = nodes.iter().find(|(_, node)| node.is_file()).unwrap();
        let error = reader.copy(path, node, &mut FullDisk(100_000)).unwrap_err();
        assert!(matches!(error, ReadError::Output(cause) if cause.kind() == io::ErrorKind::StorageFull));
    }
}
