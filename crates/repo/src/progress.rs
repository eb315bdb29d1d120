//! How far a long operation has come.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rustic_core::Id;

use crate::backend::{FileKind, Storage, StorageError, pass_on};

/// Bytes of a long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Those that are behind it.
    pub done: u64,
    /// All.
    pub total: u64,
}

/// Who is told how far an operation has come: often, and from any thread.
pub type Watch = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts what is done and tells of it.
pub(crate) struct Meter {
    watch: Watch,
    done: AtomicU64,
    total: u64,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Meter {
    pub(crate) fn new(watch: &Watch, total: u64) -> Self {
        let meter = Self { watch: watch.clone(), done: AtomicU64::new(0), total };
        meter.advance(0);
        meter
    }

    pub(crate) fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.watch)(Progress { done: done.min(self.total), total: self.total });
    }
}

/// A writer whose bytes are counted.
pub(crate) struct MeteredWriter<'a, W> {
    pub(crate) inner: W,
    pub(crate) meter: Option<&'a Meter>,
}

impl<W: Write> Write for MeteredWriter<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        if let Some(meter) = self.meter {
            meter.advance(count as u64);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A storage whose bytes of packs are counted as they are read.
#[derive(Debug)]
pub(crate) struct MeteredStorage {
    inner: Arc<dyn Storage>,
    meter: Meter,
}

impl MeteredStorage {
    /// The total are the bytes of all packs.
    pub(crate) fn new(inner: Arc<dyn Storage>, watch: &Watch) -> Result<Self, StorageError> {
        let total = inner.list(FileKind::Pack)?.into_iter().map(|(_, size)| u64::from(size)).sum();
        Ok(Self { inner, meter: Meter::new(watch, total) })
    }

    fn count(&self, kind: FileKind, content: Bytes) -> Bytes {
        if kind == FileKind::Pack {
            self.meter.advance(content.len() as u64);
        }
        content
    }
}

impl Storage for MeteredStorage {
    pass_on!(url, prepare, list, write, create_new, remove);

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        self.inner.read(kind, id).map(|content| self.count(kind, content))
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        self.inner.read_range(kind, id, offset, length).map(|content| self.count(kind, content))
    }
}
