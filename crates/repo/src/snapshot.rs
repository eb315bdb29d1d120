//! Snapshots, and how they are named.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use rustic_core::{
    Id, OpenStatus, Repository as Engine,
    repofile::{SnapshotFile, SnapshotId as EngineId},
};
use serde::Serialize;

use crate::{
    Error, ErrorClass, Repository, StorageErrorKind, backend::FileKind, error::call_engine, parallel,
};

/// Full id of a snapshot: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// All 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, as restic shows them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    pub(crate) fn engine_id(&self) -> Id {
        self.0.parse().expect("checked when it was made")
    }
}

impl From<Id> for SnapshotId {
    fn from(id: Id) -> Self {
        Self(id.to_hex().as_str().to_owned())
    }
}

impl FromStr for SnapshotId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        let reason = format!("`{text}` is no full snapshot id: expected 64 hex digits");
        Err(Error::InvalidRequest { reason })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the repository knows about one snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Its full id.
    pub id: SnapshotId,
    /// When the backup began.
    pub time: Timestamp,
    /// Host noted by the backup.
    pub host: String,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Paths, sorted; `/data` for ours.
    pub paths: Vec<String>,
    /// Bytes of all its files, if the program that wrote it noted them.
    pub size: Option<u64>,
}

impl Snapshot {
    fn from_file(file: &SnapshotFile) -> Self {
        let list =
            |text: String| text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        Self {
            id: (*file.id).into(),
            time: file.time.timestamp(),
            host: file.hostname.clone(),
            tags: list(file.tags.to_string()),
            paths: list(file.paths.to_string()),
            size: file.summary.as_ref().map(|summary| summary.total_bytes_processed),
        }
    }

    /// Values of the tags of the form `name=value`.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<&str, &str> {
        self.tags.iter().filter_map(|tag| tag.split_once('=')).collect()
    }
}

/// The snapshots of a repository, as far as they can be read.
#[derive(Debug)]
pub struct Listing {
    /// Those that can be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that are there and cannot be read, and why, by their ids.
    pub unreadable: Vec<(SnapshotId, Error)>,
}

impl Listing {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.snapshots.len() + self.unreadable.len()
    }

    /// All of them. If one cannot be read, that is an error which names it.
    pub fn whole(self, url: &str) -> Result<Vec<Snapshot>, Error> {
        let all = self.unreadable.len();
        match self.unreadable.into_iter().next() {
            None => Ok(self.snapshots),
            Some((id, cause)) => Err(Error::UnreadableSnapshot {
                url: url.to_owned(),
                id: id.to_string(),
                others: all - 1,
                cause: cause.to_string(),
            }),
        }
    }
}

pub(crate) fn list(repository: &Repository) -> Result<Listing, Error> {
    let Files { read, unreadable } = files(repository, &repository.engine()?)?;
    let mut snapshots: Vec<_> = read.iter().map(Snapshot::from_file).collect();
    snapshots.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    Ok(Listing { snapshots, unreadable })
}

/// The files of all snapshots.
pub(crate) struct Files {
    /// Those that can be read, in no order.
    pub(crate) read: Vec<SnapshotFile>,
    /// Those that cannot, and why, by their ids.
    pub(crate) unreadable: Vec<(SnapshotId, Error)>,
}

/// Each by itself: a damaged one must not hide the others.
pub(crate) fn files(repository: &Repository, engine: &Engine<OpenStatus>) -> Result<Files, Error> {
    let mut ids = ids(repository)?;
    ids.sort_unstable();
    let outcomes = parallel::each(&ids, |id| read_twice(repository, engine, id));
    let mut files = Files { read: Vec::new(), unreadable: Vec::new() };
    for (id, file) in ids.into_iter().zip(outcomes) {
        match file {
            Ok(file) => files.read.push(file),
            // Deleted by others since it was listed.
            Err(Error::NoSuchSnapshot { .. }) => {}
            Err(error) if concerns_all(&error) => return Err(error),
            Err(error) => files.unreadable.push((id, error)),
        }
    }
    // Keys that may list and not read.
    if files.read.is_empty()
        && let Some(at) = files.unreadable.iter().position(|(_, e)| matches!(e, Error::Storage { .. }))
    {
        return Err(files.unreadable.swap_remove(at).1);
    }
    Ok(files)
}

/// What was damaged on its way is whole the second time.
fn read_twice(
    repository: &Repository,
    engine: &Engine<OpenStatus>,
    id: &SnapshotId,
) -> Result<SnapshotFile, Error> {
    match read(repository, engine, id) {
        Err(error) if matches!(error.class(), ErrorClass::Integrity | ErrorClass::Unexpected) => {
            read(repository, engine, id)
        }
        outcome => outcome,
    }
}

/// Whether this says more about the storage than about one file in it.
fn concerns_all(error: &Error) -> bool {
    match error {
        Error::Storage { cause, .. } => !cause.kind.concerns_one_file(),
        error => error.is_temporary(),
    }
}

pub(crate) fn find(repository: &Repository, name: &str) -> Result<Snapshot, Error> {
    let missing = || Error::NoSuchSnapshot { url: repository.url.clone(), id: name.to_owned() };
    if name == "latest" {
        return list(repository)?.whole(&repository.url)?.pop().ok_or_else(missing);
    }
    let id = resolve(repository, name)?;
    load(repository, &id).map(|file| Snapshot::from_file(&file))
}

/// The id that begins with `prefix`.
fn resolve(repository: &Repository, prefix: &str) -> Result<SnapshotId, Error> {
    let mut matching = ids(repository)?;
    matching.sort_unstable();
    matching.retain(|id| !prefix.is_empty() && id.as_str().starts_with(prefix));
    match matching.as_slice() {
        [] => Err(Error::NoSuchSnapshot { url: repository.url.clone(), id: prefix.to_owned() }),
        [id] => Ok(id.clone()),
        _ => Err(Error::AmbiguousSnapshot { id: prefix.to_owned(), all: matching }),
    }
}

/// The ids of all snapshots. Needs no key: ids are names of files.
fn ids(repository: &Repository) -> Result<Vec<SnapshotId>, Error> {
    let listed = repository.storage.list(FileKind::Snapshot);
    let listed = listed.map_err(|cause| Error::storage(&repository.url, cause))?;
    Ok(listed.into_iter().map(|(id, _)| id.into()).collect())
}

/// The snapshot file itself.
pub(crate) fn load(repository: &Repository, id: &SnapshotId) -> Result<SnapshotFile, Error> {
    read(repository, &repository.engine()?, id)
}

fn read(
    repository: &Repository,
    engine: &Engine<OpenStatus>,
    id: &SnapshotId,
) -> Result<SnapshotFile, Error> {
    let engine_id = EngineId::from(id.engine_id());
    match call_engine(&repository.url, "reading the snapshot", || engine.get_file::<SnapshotFile>(&engine_id))
    {
        Ok(mut file) => {
            file.id = engine_id;
            Ok(file)
        }
        Err(Error::Storage { cause, .. }) if cause.kind == StorageErrorKind::Missing => {
            Err(Error::NoSuchSnapshot { url: repository.url.clone(), id: id.to_string() })
        }
        Err(error) => Err(error),
    }
}
