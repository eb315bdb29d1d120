//! What the locks of others say.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use rustic_core::Id;

use super::{
    LockInfo, LockOptions,
    file::{STALE_AFTER, parse},
};
use crate::{Error, Repository, StorageErrorKind, backend::FileKind};

/// The locks of others as they were last seen. A lock file never changes, so each is read once.
pub(super) struct Others<'a> {
    repository: &'a Repository,
    options: &'a LockOptions<'a>,
    known: BTreeMap<Id, Known>,
}

struct Known {
    /// Nothing for a file that says nothing.
    info: Option<LockInfo>,
    first_seen: Instant,
}

impl<'a> Others<'a> {
    pub(super) fn new(repository: &'a Repository, options: &'a LockOptions<'a>) -> Self {
        Self { repository, options, known: BTreeMap::new() }
    }

    /// A lock other than `own` that stands in the way. Those left behind are removed.
    pub(super) fn conflict(&mut self, own: &[Id]) -> Result<Option<LockInfo>, Error> {
        let listed = list(self.repository)?;
        self.known.retain(|id, _| listed.contains(id));
        let mut conflict = None;
        for id in listed.iter().filter(|id| !own.contains(id)) {
            let Some(lock) = self.look_at(id)? else { continue };
            if self.is_left_behind(id, &lock) {
                tracing::warn!(%lock, "removing a lock that was left behind");
                let removed = self.repository.storage.remove(FileKind::Lock, id);
                removed.map_err(|cause| Error::storage(&self.repository.url, cause))?;
            } else if lock.excludes(self.options.mode) {
                conflict = Some(lock);
            }
        }
        Ok(conflict)
    }

    fn look_at(&mut self, id: &Id) -> Result<Option<LockInfo>, Error> {
        if let Some(known) = self.known.get(id) {
            return Ok(known.info.clone());
        }
        let Some(content) = read(self.repository, id)? else { return Ok(None) };
        let info = understand(self.repository, id, &content);
        self.known.insert(*id, Known { info: info.clone(), first_seen: Instant::now() });
        Ok(info)
    }

    /// By certain knowledge, by restic's rule, or because we have ourselves seen it for as long as that rule says: a
    /// refresh would have given it another name. The last helps against a holder whose clock was ahead.
    fn is_left_behind(&self, id: &Id, lock: &LockInfo) -> bool {
        let seen_for = self.known.get(id).map(|known| known.first_seen.elapsed());
        lock.is_stale(Timestamp::now())
            || seen_for.is_some_and(|seen_for| seen_for > STALE_AFTER)
            || (self.options.is_gone)(lock)
    }
}

/// Names of all lock files.
pub(super) fn list(repository: &Repository) -> Result<Vec<Id>, Error> {
    let listed = repository.storage.list(FileKind::Lock);
    let listed = listed.map_err(|cause| Error::storage(&repository.url, cause))?;
    Ok(listed.into_iter().map(|(id, _)| id).collect())
}

/// All locks that can be read.
pub(super) fn read_all(repository: &Repository) -> Result<Vec<LockInfo>, Error> {
    let mut locks = Vec::new();
    for id in list(repository)? {
        if let Some(content) = read(repository, &id)? {
            locks.extend(understand(repository, &id, &content));
        }
    }
    Ok(locks)
}

/// A lock's file, unless it was removed since it was listed.
fn read(repository: &Repository, id: &Id) -> Result<Option<bytes::Bytes>, Error> {
    match repository.storage.read(FileKind::Lock, id) {
        Ok(content) => Ok(Some(content)),
        Err(cause) if cause.kind == StorageErrorKind::Missing => Ok(None),
        Err(cause) => Err(Error::storage(&repository.url, cause)),
    }
}

/// As restic does, a file that cannot be decrypted or understood is no lock; but we say so.
fn understand(repository: &Repository, id: &Id, content: &[u8]) -> Option<LockInfo> {
    match parse(&repository.sealer, id, content) {
        Ok(info) => Some(info),
        Err(cause) => {
            tracing::warn!(lock = %id.to_hex().as_str(), %cause, "ignoring a lock file that cannot be read");
            None
        }
    }
}
