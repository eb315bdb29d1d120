//! A repository that the password has opened.

use std::{fmt, sync::Arc};

use rustic_core::{Id, OpenStatus, Repository as Engine, repofile::MasterKey};

use crate::{
    Backup, BackupRequest, CheckDepth, CheckReport, Contents, Error, FileDigest, InitOptions, InitOutcome,
    Listing, Location, LockGuard, LockInfo, LockOptions, PrunePlan, Restored, Secret, Snapshot, SnapshotId,
    Watch,
    backend::{FileKind, Storage, connect},
    backup, check, contents, forget, init,
    lock::{self, Guarded, Timing},
    prune, readback, restore,
    seal::Sealer,
    snapshot,
    unlock::{Thoroughness, Unlocked, Unlocking, engine_with_key, list_keys, unlock},
};

/// An opened repository.
///
/// Opening derives a key with scrypt, which takes half a second and 128 MiB; everything after uses the key it gave. Every
/// operation reads the index anew, so what others have written meanwhile is seen, and nothing large stays in memory.
///
/// All methods block, also on the network: call them outside of asynchronous code, for instance in `spawn_blocking`.
pub struct Repository {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) url: String,
    pub(crate) sealer: Sealer,
    master: MasterKey,
    id: String,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The master key must not get into any log.
        f.debug_struct("Repository").field("url", &self.url).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Repository {
    /// Makes sure that there is a repository at `location` that `password` opens, and opens it.
    ///
    /// May be killed at any point and repeated; any number may run at once, with one result for all: one of them
    /// creates the repository, the others attach to it. Never are there two keys with one password.
    pub fn init(
        location: &Location,
        password: &Secret,
        options: &InitOptions,
    ) -> Result<(Self, InitOutcome), Error> {
        let storage = connect(location).map_err(|cause| Error::storage(&location.url(), cause))?;
        let (unlocked, outcome) = init::init(&storage, password, options)?;
        Ok((Self::from_unlocked(storage, unlocked), outcome))
    }

    /// Opens the repository at `location`. Writes nothing.
    pub fn open(location: &Location, password: &Secret) -> Result<Self, Error> {
        let storage = connect(location).map_err(|cause| Error::storage(&location.url(), cause))?;
        Self::open_storage(storage, password)
    }

    pub(crate) fn open_storage(storage: Arc<dyn Storage>, password: &Secret) -> Result<Self, Error> {
        let url = storage.url();
        if !storage.has_config().map_err(|cause| Error::storage(&url, cause))? {
            return Err(if list_keys(&storage)?.is_empty() {
                Error::NotARepository { url }
            } else {
                Error::Unfinished { url }
            });
        }
        match unlock(&storage, password, Thoroughness::FirstMatch)? {
            Unlocking::Open { unlocked, .. } => Ok(Self::from_unlocked(storage, *unlocked)),
            Unlocking::WrongPassword => Err(Error::WrongPassword { url }),
            Unlocking::OnlyStrays => {
                Err(Error::damaged(&url, "the password opens keys, but none of them fits the config"))
            }
        }
    }

    pub(crate) fn from_unlocked(storage: Arc<dyn Storage>, unlocked: Unlocked) -> Self {
        let Unlocked { master, engine } = unlocked;
        let id = engine.config().id.to_hex().as_str().to_owned();
        let sealer = Sealer::new(&master, engine.config().version);
        Self { url: storage.url(), storage, sealer, master, id }
    }

    /// The repository's own id: 64 hex digits, the same wherever its files are copied to.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The location in restic's notation, without secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stores the sources as one snapshot.
    ///
    /// The snapshot file is the commit point. It is written last, after every stream has reached exactly its announced
    /// size and every byte was read back from the storage, through an index read anew, and compared. On any error there
    /// is no snapshot; a failure of a source is [`Error::Source`] and carries the reader's own error. Nothing touches a
    /// disk of this machine.
    pub fn backup(&self, request: BackupRequest) -> Result<Backup, Error> {
        backup::run(self, request)
    }

    /// Reads every byte of the snapshot's files back from the storage and compares. The files must be exactly these.
    pub fn verify(&self, snapshot: &SnapshotId, expected: &[FileDigest]) -> Result<(), Error> {
        let tree = snapshot::load(self, snapshot)?.tree;
        readback::verify_tree(self, tree, expected)
    }

    /// All snapshots, oldest first. One that cannot be read is an error which names it.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        snapshot::list(self)?.whole(&self.url)
    }

    /// The snapshots that can be read, and beside them those that cannot. What keeps all from being read, such as a storage that
    /// does not answer, is an error.
    pub fn listing(&self) -> Result<Listing, Error> {
        snapshot::list(self)
    }

    /// The snapshot called `name`: its id, a beginning of its id that no other has, or `latest`.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        snapshot::find(self, name)
    }

    /// Writes the snapshot called `name` (as for [`Repository::snapshot`]) below `target`.
    ///
    /// A file gets its name only when it is complete; one that was there is replaced. What cannot be restored is an error
    /// that says so, before anything is written.
    pub fn restore(&self, name: &str, target: &std::path::Path) -> Result<Restored, Error> {
        restore::run(self, name, target, None)
    }

    /// As [`Repository::restore`]; `watch` is told how many bytes are written.
    pub fn restore_watched(
        &self,
        name: &str,
        target: &std::path::Path,
        watch: &Watch,
    ) -> Result<Restored, Error> {
        restore::run(self, name, target, Some(watch))
    }

    /// Removes a snapshot. Takes a full id only, and is content if it is gone already. The data it used stays until the
    /// repository is pruned.
    pub fn remove(&self, snapshot: &SnapshotId) -> Result<(), Error> {
        let id: Id = snapshot.engine_id();
        self.storage.remove(FileKind::Snapshot, &id).map_err(|cause| Error::storage(&self.url, cause))
    }

    /// Removes snapshots, several at once, and says of each what became of it. Takes full ids only; one that is gone
    /// already is success. When the storage fails for a reason that holds for all, the rest is not tried.
    #[must_use]
    pub fn remove_all(&self, snapshots: &[SnapshotId]) -> Vec<Result<(), Error>> {
        forget::run(self, snapshots)
    }

    /// Bytes that the repository takes up in its storage, as far as they grow with it: config and locks are not counted.
    pub fn size(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot, FileKind::Key] {
            let files = self.storage.list(kind).map_err(|cause| Error::storage(&self.url, cause))?;
            bytes += files.iter().map(|(_, size)| u64::from(*size)).sum::<u64>();
        }
        Ok(bytes)
    }

    /// What is in these snapshots, in their order. Reads the index once, and of each snapshot only the directories.
    pub fn contents(&self, snapshots: &[SnapshotId]) -> Result<Vec<Result<Contents, Error>>, Error> {
        contents::run(self, snapshots)
    }

    /// Takes a lock that other programs, stock restic among them, respect; waits for theirs. See [`LockOptions`].
    ///
    /// Nothing here takes one by itself: whoever backs up, restores or checks takes a shared one before, and an exclusive
    /// one whoever removes snapshots or prunes.
    pub fn lock(&self, options: &LockOptions<'_>) -> Result<LockGuard, Error> {
        lock::acquire(self, options, Timing::default())
    }

    /// The locks in the repository, oldest first.
    pub fn locks(&self) -> Result<Vec<LockInfo>, Error> {
        lock::list(self)
    }

    /// This repository for work under a lock: once the lock is lost or released, every change is refused with
    /// [`Error::LockLost`], the commit of a backup included.
    #[must_use]
    pub fn hold(&self, guard: &LockGuard) -> Self {
        self.on(Arc::new(Guarded::new(self.storage.clone(), guard.state())))
    }

    /// The same repository on a wrapper of its storage, or once more.
    pub(crate) fn on(&self, storage: Arc<dyn Storage>) -> Self {
        let Self { storage: _, url, sealer, master, id } = self;
        Self { storage, url: url.clone(), sealer: sealer.clone(), master: master.clone(), id: id.clone() }
    }

    /// Looks for data that no snapshot uses. Changes nothing; [`PrunePlan::execute`] does, and needs an exclusive lock
    /// that was taken before this.
    pub fn plan_prune(&self) -> Result<PrunePlan, Error> {
        prune::plan(self, prune::KEEP_MARKED)
    }

    /// Looks whether everything that the snapshots need is there and, if asked to, whether it reads back unchanged.
    pub fn check(&self, depth: CheckDepth) -> Result<CheckReport, Error> {
        check::run(self, depth, None)
    }

    /// As [`Repository::check`]; with [`CheckDepth::ReadData`], `watch` is told how many bytes are read.
    pub fn check_watched(&self, depth: CheckDepth, watch: &Watch) -> Result<CheckReport, Error> {
        check::run(self, depth, Some(watch))
    }

    /// The engine on this repository's storage.
    pub(crate) fn engine(&self) -> Result<Engine<OpenStatus>, Error> {
        self.engine_on(&self.storage)
    }

    /// The engine on a wrapper of this repository's storage.
    pub(crate) fn engine_on(&self, storage: &Arc<dyn Storage>) -> Result<Engine<OpenStatus>, Error> {
        engine_with_key(storage, &self.master)?.ok_or_else(|| {
            Error::damaged(&self.url, "the config was replaced since the repository was opened")
        })
    }
}
