//! The streams of a backup, and the record of how each of them ended.

use std::{
    ffi::OsStr,
    io::{self, ErrorKind, Read},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rustic_core::{
    ReadSource, ReadSourceEntry, RusticResult,
    repofile::{Metadata, Node, NodeType},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Error;

/// One file of a snapshot, read from a stream.
pub struct Source {
    /// Absolute path in the snapshot: `/data/etcd-snapshot.db`.
    pub path: String,
    /// Exact number of bytes the reader will bring; more or fewer fail the backup.
    pub size: u64,
    /// Permission bits, for a restore.
    pub mode: u32,
    /// Where the bytes come from. Its error, if it fails, becomes [`Error::Source`] unchanged. A reader that knows a
    /// checksum of its data reports a mismatch as an error instead of the end.
    pub reader: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

/// What a file of a snapshot must be, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDigest {
    /// Absolute path in the snapshot.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

/// Refuses sources that would not make the snapshot they describe.
pub(crate) fn validate(root: &str, sources: &[Source]) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::InvalidRequest { reason });
    if sources.is_empty() {
        return refuse("a backup needs at least one source".to_owned());
    }
    let mut seen = Vec::new();
    for Source { path, .. } in sources {
        let plain = Path::new(path).components().skip(1).all(|part| matches!(part, Component::Normal(_)));
        if !Path::new(path).starts_with(root) || path == root || !plain || path.ends_with('/') {
            return refuse(format!("source path `{path}` is not a file below `{root}`"));
        }
        if seen.contains(&path) {
            return refuse(format!("two sources have the path `{path}`"));
        }
        seen.push(path);
    }
    Ok(())
}

/// How the streams of one backup ended. The engine logs a failed stream and goes on without it; the snapshot is
/// committed only if this says that none failed.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    open: usize,
    ended: Vec<FileDigest>,
    failed: Option<(String, io::Error)>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, path: &str, cause: io::Error) {
        // The first failure is the cause; what follows is often its consequence.
        self.state().failed.get_or_insert((path.to_owned(), cause));
    }

    fn end(&self, digest: FileDigest) {
        let mut state = self.state();
        state.open -= 1;
        state.ended.push(digest);
    }

    /// Why a snapshot of these streams must not be written, if so.
    pub(crate) fn refusal(&self) -> Option<String> {
        let state = self.state();
        match &state.failed {
            Some((path, cause)) => Some(format!("`{path}`: {cause}")),
            None if state.open > 0 => Some(format!("{} source(s) were not read to their end", state.open)),
            None => None,
        }
    }

    /// The first failure of a stream.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.state().failed.take().map(|(path, cause)| Error::Source { path, cause })
    }

    /// What every stream brought, once all have ended well.
    pub(crate) fn digests(&self) -> Vec<FileDigest> {
        self.state().ended.clone()
    }
}

/// A reader that counts, hashes, and tells the gate how it ended.
struct Tracked {
    inner: Box<dyn Read + Send>,
    gate: Arc<Gate>,
    path: String,
    size: u64,
    seen: u64,
    hash: Sha256,
    finished: bool,
}

impl Tracked {
    fn finish(&mut self) -> io::Result<usize> {
        if self.finished {
            return Ok(0);
        }
        self.finished = true;
        if self.seen < self.size {
            let text = format!("it ended after {} of {} announced bytes", self.seen, self.size);
            return self.give_up(io::Error::new(ErrorKind::UnexpectedEof, text));
        }
        let sha256 = hex::encode(std::mem::take(&mut self.hash).finalize());
        self.gate.end(FileDigest { path: self.path.clone(), size: self.seen, sha256 });
        Ok(0)
    }

    /// Hands the error itself to the gate, for the caller; the engine, which only logs it, gets a copy of the text.
    fn give_up(&mut self, cause: io::Error) -> io::Result<usize> {
        self.finished = true;
        let copy = io::Error::new(cause.kind(), cause.to_string());
        self.gate.fail(&self.path, cause);
        Err(copy)
    }
}

impl Read for Tracked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.inner.read(buffer) {
            Ok(0) => self.finish(),
            Ok(count) => {
                self.seen += count as u64;
                if self.seen > self.size {
                    let text = format!("it brought more than the {} announced bytes", self.size);
                    return self.give_up(io::Error::new(ErrorKind::InvalidData, text));
                }
                self.hash.update(&buffer[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => self.give_up(error),
        }
    }
}

/// All streams of a backup, as the engine reads them.
pub(crate) struct Streams {
    entries: Mutex<Vec<Source>>,
    total: u64,
    gate: Arc<Gate>,
    mtime: Timestamp,
}

impl Streams {
    /// `mtime` must differ from that of the previous snapshot's files: the engine takes a file of equal size and time as
    /// unchanged, without reading it. (The gate would refuse that snapshot, for its streams never ended.)
    pub(crate) fn new(mut sources: Vec<Source>, mtime: Timestamp) -> (Self, Arc<Gate>) {
        // The engine builds its trees from entries in path order.
        sources.sort_by(|a, b| Path::new(&a.path).cmp(Path::new(&b.path)));
        let gate = Arc::new(Gate::default());
        gate.state().open = sources.len();
        let total = sources.iter().map(|source| source.size).sum();
        (Self { entries: Mutex::new(sources), total, gate: gate.clone(), mtime }, gate)
    }

    fn entry(&self, source: Source) -> ReadSourceEntry<Box<dyn Read + Send>> {
        let Source { path, size, mode, reader } = source;
        let meta = Metadata { mode: Some(mode), mtime: Some(self.mtime), size, ..Metadata::default() };
        let name = Path::new(&path).file_name().unwrap_or(OsStr::new("file"));
        let node = Node::new_node(name, NodeType::File, meta);
        let location = PathBuf::from(&path);
        let tracked = Tracked {
            inner: reader,
            gate: self.gate.clone(),
            path,
            size,
            seen: 0,
            hash: Sha256::new(),
            finished: false,
        };
        ReadSourceEntry { path: location, node, open: Some(Box::new(tracked)) }
    }
}

impl ReadSource for Streams {
    type Open = Box<dyn Read + Send>;
    type Iter = std::vec::IntoIter<RusticResult<ReadSourceEntry<Self::Open>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(Some(self.total))
    }

    fn entries(&self) -> Self::Iter {
        let sources = std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        let entries: Vec<_> = sources.into_iter().map(|source| Ok(self.entry(source))).collect();
        entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, size: u64, content: &'static [u8]) -> Source {
        Source { path: path.to_owned(), size, mode: 0o600, reader: Box::new(content) }
    }

    /// Reads all streams to their end, as the engine does, and gives the gate's refusal.
    fn outcome(sources: Vec<Source>) -> Option<String> {
        let (streams, gate) = Streams::new(sources, Timestamp::now());
        for entry in streams.entries() {
            let _ = io::copy(&mut entry.unwrap().open.unwrap(), &mut io::sink());
        }
        gate.refusal()
    }

    #[test]
    fn streams_of_the_announced_size_open_the_gate() {
        assert_eq!(outcome(vec![source("/data/a", 3, b"abc"), source("/data/b", 0, b"")]), None);
    }

    #[test]
    fn a_short_stream_closes_the_gate() {
        assert!(outcome(vec![source("/data/a", 4, b"abc")]).unwrap().contains("3 of 4 announced bytes"));
    }

    #[test]
    fn a_long_stream_closes_the_gate() {
        assert!(outcome(vec![source("/data/a", 2, b"abc")]).unwrap().contains("more than the 2 announced"));
    }

    #[test]
    fn a_stream_nobody_read_closes_the_gate() {
        let (_streams, gate) = Streams::new(vec![source("/data/a", 1, b"a")], Timestamp::now());
        assert!(gate.refusal().unwrap().contains("not read to their end"));
    }

    #[test]
    fn paths_outside_the_root_or_given_twice_are_refused() {
        for paths in
            [vec!["/etc/x"], vec!["/data"], vec!["/data/../x"], vec!["/data/a", "/data/a"], vec!["data/a"]]
        {
            let sources: Vec<_> = paths.iter().map(|path| source(path, 0, b"")).collect();
            assert!(validate("/data", &sources).is_err(), "{paths:?}");
        }
        assert!(validate("/data", &[source("/data/a", 0, b"")]).is_ok());
    }
}
