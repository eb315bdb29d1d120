//! Removing snapshots.

use std::sync::{Mutex, PoisonError};

use crate::{
    Error, Repository, SnapshotId,
    backend::{FileKind, StorageError},
    parallel,
};

pub(crate) fn run(repository: &Repository, snapshots: &[SnapshotId]) -> Vec<Result<(), Error>> {
    let stopped: Mutex<Option<StorageError>> = Mutex::new(None);
    let stop = || stopped.lock().unwrap_or_else(PoisonError::into_inner);
    parallel::each(snapshots, |snapshot| {
        if let Some(cause) = stop().clone() {
            return Err(Error::storage(&repository.url, cause));
        }
        let removed = repository.storage.remove(FileKind::Snapshot, &snapshot.engine_id());
        removed.map_err(|cause| {
            if !cause.kind.concerns_one_file() {
                stop().get_or_insert_with(|| cause.clone());
            }
            Error::storage(&repository.url, cause)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        MemoryStore,
        backend::{
            Storage,
            faulty::{Change, Fault, FaultyStorage},
        },
        init::quick,
        seal::name_of,
    };

    /// A store with this many files that are called snapshots, and their ids.
    fn store_with(snapshots: u32) -> (Arc<dyn Storage>, Vec<SnapshotId>) {
        let store: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        let ids = (0..snapshots).map(|number| {
            let id = name_of(&number.to_le_bytes());
            store.write(FileKind::Snapshot, &id, Bytes::from_static(b"snapshot")).unwrap();
            SnapshotId::from(id)
        });
        let ids = ids.collect();
        (store, ids)
    }

    /// A repository on this storage; its config and key are elsewhere, which removing snapshots does not need.
    fn open(storage: Arc<dyn Storage>) -> Repository {
        quick::repository(Arc::new(MemoryStore::new())).on(storage)
    }

    #[test]
    fn all_that_are_named_go_those_already_gone_are_success_and_the_others_stay() {
        let (store, ids) = store_with(20);
        let repository = open(store.clone());
        assert!(repository.remove_all(&ids[..15]).iter().all(Result::is_ok));
        assert!(repository.remove_all(&ids[10..18]).iter().all(Result::is_ok));
        let left: Vec<SnapshotId> =
            store.list(FileKind::Snapshot).unwrap().into_iter().map(|(id, _)| id.into()).collect();
        assert_eq!(left.len(), 2);
        assert!(ids[18..].iter().all(|id| left.contains(id)));
    }

    #[test]
    fn each_snapshot_has_its_own_outcome_when_the_storage_goes_away() {
        let (store, ids) = store_with(30);
        let mut removed = 0;
        let faulty = FaultyStorage::around(store.clone(), move |change, _| {
            removed += u32::from(change == Change::Remove);
            if removed > 5 { Fault::KilledBefore } else { Fault::None }
        });
        let outcomes = open(faulty).remove_all(&ids);
        let left: Vec<SnapshotId> =
            store.list(FileKind::Snapshot).unwrap().into_iter().map(|(id, _)| id.into()).collect();
        for (id, outcome) in ids.iter().zip(&outcomes) {
            assert_eq!(outcome.is_err(), left.contains(id), "{outcome:?}");
            assert!(outcome.as_ref().err().is_none_or(Error::is_temporary));
        }
        assert_eq!(left.len(), 25);
    }
}
