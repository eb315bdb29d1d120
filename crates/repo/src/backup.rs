//! From streams to a committed snapshot.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use rustic_core::{BackupOptions, Id, SnapshotOptions, repofile::SnapshotFile};
use serde::Serialize;

use crate::{
    Error, FileDigest, Repository, SnapshotId, Source, StorageErrorKind,
    backend::{FileKind, Storage, StorageError, pass_on, relative_path},
    error::call_engine,
    readback,
    source::{Gate, Streams, validate},
};

/// One backup.
#[derive(Debug)]
pub struct BackupRequest {
    /// The snapshot's time.
    pub time: Timestamp,
    /// The snapshot's host. Together with `path` it finds the previous snapshot, against which files count as changed.
    pub host: String,
    /// The snapshot's tags; none may contain a comma.
    pub tags: Vec<String>,
    /// The snapshot's only path: `/data`. All sources lie below it.
    pub path: String,
    /// The files.
    pub sources: Vec<Source>,
}

/// What a backup has stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backup {
    /// The snapshot's full id.
    pub snapshot_id: SnapshotId,
    /// Files the previous snapshot did not have.
    pub files_new: u64,
    /// Files the previous snapshot had. Streams are never taken as unchanged: `files_new + files_changed` is their number.
    pub files_changed: u64,
    /// Bytes added to the repository after deduplication, before compression.
    pub data_added: u64,
    /// The same after compression and encryption: what the storage has grown by, but for the index.
    pub data_added_packed: u64,
    /// Bytes of all files.
    pub total_bytes_processed: u64,
    /// From the beginning of the backup to its commit, reading back included.
    pub duration: Duration,
    /// What every file was while it was read, and what it was found to be in the storage.
    pub files: Vec<FileDigest>,
}

pub(crate) fn run(repository: &Repository, request: BackupRequest) -> Result<Backup, Error> {
    let begin = Instant::now();
    let BackupRequest { time, host, tags, path, sources } = request;
    validate(&path, &sources)?;
    let options = snapshot_options(time, host, &tags)?;
    // The clock, not `time`: two backups never have the same.
    let (streams, gate) = Streams::new(sources, Timestamp::now());
    let staging =
        Arc::new(Staging { inner: repository.storage.clone(), gate: gate.clone(), held: Mutex::default() });
    let archived = archive(repository, staging.clone(), &streams, &options, &path);
    let snapshot = match archived {
        Err(error) => return Err(gate.take_failure().unwrap_or(error)),
        Ok(snapshot) => snapshot,
    };
    let files = gate.digests();
    readback::verify_tree(repository, snapshot.tree, &files)?;
    let snapshot_id = staging.commit(&repository.url)?;
    let summary = snapshot.summary.unwrap_or_default();
    Ok(Backup {
        snapshot_id,
        files_new: summary.files_new,
        files_changed: summary.files_changed,
        data_added: summary.data_added,
        data_added_packed: summary.data_added_packed,
        total_bytes_processed: summary.total_bytes_processed,
        duration: begin.elapsed(),
        files,
    })
}

fn snapshot_options(time: Timestamp, host: String, tags: &[String]) -> Result<SnapshotOptions, Error> {
    let invalid = |reason: String| Error::InvalidRequest { reason };
    let mut options = SnapshotOptions::default().time(time.to_zoned(TimeZone::UTC)).host(host);
    // The engine would note this process's command line.
    options.command = Some("kubedr".to_owned());
    for tag in tags {
        if tag.is_empty() || tag.contains(',') {
            return Err(invalid(format!("`{tag}` cannot be a tag: it is empty or has a comma")));
        }
        options = options.add_tags(tag).map_err(|error| invalid(error.display_log()))?;
    }
    Ok(options)
}

/// Stores the data and leaves the snapshot file with `staging`.
fn archive(
    repository: &Repository,
    staging: Arc<Staging>,
    streams: &Streams,
    options: &SnapshotOptions,
    path: &str,
) -> Result<SnapshotFile, Error> {
    let storage: Arc<dyn Storage> = staging;
    let engine = repository.engine_on(&storage)?;
    call_engine(&repository.url, "backup", || {
        let engine = engine.to_indexed_ids()?;
        let mut snapshot = options.to_snapshot()?;
        snapshot.program_version = format!("kubedr {}", env!("CARGO_PKG_VERSION"));
        engine.archive(&BackupOptions::default(), streams, snapshot, &[PathBuf::from(path)])
    })
}

/// A storage that holds the snapshot file back, so that it is not there before everything it stands for is proven.
#[derive(Debug)]
struct Staging {
    inner: Arc<dyn Storage>,
    gate: Arc<Gate>,
    held: Mutex<Option<(Id, Bytes)>>,
}

impl Staging {
    /// Writes the snapshot file, and makes sure that it is there and right, or is not there.
    fn commit(&self, url: &str) -> Result<SnapshotId, Error> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (id, content) = held.ok_or_else(|| Error::Engine {
            action: "backup",
            detail: "the engine finished without a snapshot".to_owned(),
        })?;
        let kind = FileKind::Snapshot;
        let stored = self.inner.write(kind, &id, content.clone()).and_then(|()| self.inner.read(kind, &id));
        let error = match stored {
            Ok(stored) if stored == content => return Ok(id.into()),
            Ok(_) => {
                Error::damaged(url, format!("`{}` does not read back as written", relative_path(kind, &id)))
            }
            Err(cause) => Error::storage(url, cause),
        };
        // A write that failed may still have happened, and a caller who was told of a failure must not find it later.
        if let Err(cause) = self.inner.remove(kind, &id) {
            tracing::warn!(snapshot = %id.to_hex().as_str(), %cause, "cannot make sure that the failed snapshot is gone");
        }
        Err(error)
    }
}

impl Storage for Staging {
    pass_on!(url, prepare, list, read, read_range, create_new, remove);

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        if kind != FileKind::Snapshot {
            return self.inner.write(kind, id, content);
        }
        if let Some(why) = self.gate.refusal() {
            let object = relative_path(kind, id);
            return Err(StorageError::with_detail("commit", object, StorageErrorKind::Refused, why));
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((*id, content));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ErrorClass, MemoryStore,
        backend::faulty::{Change, Fault, FaultyStorage},
        init::quick,
    };

    /// A backup on a storage that does `fault` to the first change of a file of this kind; and how many snapshots the
    /// storage has then.
    fn backup_with(kind: FileKind, fault: Fault) -> (Result<Backup, Error>, usize) {
        let store: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let repository = quick::repository(store.clone());
        let mut first = true;
        let faulty = FaultyStorage::around(store.clone(), move |change, changed| {
            let now = changed == kind && change == Change::Write && std::mem::take(&mut first);
            if now { fault } else { Fault::None }
        });
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let backup = repository.on(faulty).backup(BackupRequest {
            time: Timestamp::now(),
            host: "host".to_owned(),
            tags: Vec::new(),
            path: "/data".to_owned(),
            sources: vec![Source {
                path: "/data/file".to_owned(),
                size: content.len() as u64,
                mode: 0o600,
                reader: Box::new(std::io::Cursor::new(content)),
            }],
        });
        (backup, store.list(FileKind::Snapshot).unwrap().len())
    }

    #[test]
    fn without_faults_there_is_a_snapshot() {
        let (backup, snapshots) = backup_with(FileKind::Config, Fault::None);
        assert!(backup.is_ok());
        assert_eq!(snapshots, 1);
    }

    #[test]
    fn what_is_not_stored_as_it_was_written_is_found_before_the_commit() {
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            let (backup, snapshots) = backup_with(kind, Fault::Corrupted);
            let error = backup.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Integrity, "{kind:?}: {error}");
            assert_eq!(snapshots, 0, "{kind:?}");
        }
    }

    #[test]
    fn a_storage_that_goes_away_before_the_commit_leaves_no_snapshot() {
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            let (backup, snapshots) = backup_with(kind, Fault::KilledBefore);
            assert_eq!(backup.unwrap_err().class(), ErrorClass::Temporary, "{kind:?}");
            assert_eq!(snapshots, 0, "{kind:?}");
        }
    }
}
