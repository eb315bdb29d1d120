//! Initialisation under every fault that can be aimed at it.

use std::{path::Path, sync::Barrier, thread};

use kubedr_testing::Restic;
use rustic_core::repofile::KeyFile;
use tempfile::TempDir;

use super::{
    quick::{PASSWORD, init},
    *,
};
use crate::{
    ErrorClass, Location,
    backend::{
        MemoryStore, connect,
        faulty::{Change, Fault, FaultyStorage},
        pass_on,
    },
};

fn impatient() -> InitOptions {
    InitOptions { grace: Duration::from_millis(300), ..InitOptions::default() }
}

fn local(directory: &Path) -> Arc<dyn Storage> {
    connect(&Location::Local(directory.to_owned())).unwrap()
}

fn try_init(storage: &Arc<dyn Storage>, password: &str) -> Result<InitOutcome, Error> {
    init(storage, &Secret::new(password), &impatient()).map(|(_, outcome)| outcome)
}

/// Stock restic takes whichever key opens first, so a second key with the password shows sooner or later.
fn restic_opens_it(directory: &Path, password: &str, times: usize) {
    let restic = Restic::new(&directory.display().to_string(), password);
    for _ in 0..times {
        let _ = restic.ok(&["list", "snapshots", "--no-lock"]);
    }
}

/// An initialisation that is killed at the `nth` change of the storage.
fn killed_at(storage: &Arc<dyn Storage>, nth: usize, fault: Fault, password: &str) {
    let mut count = 0;
    let faulty = FaultyStorage::around(storage.clone(), move |_, _| {
        count += 1;
        if count == nth { fault } else { Fault::None }
    });
    let error = try_init(&faulty, password).unwrap_err();
    assert!(error.to_string().contains("killed"), "{error}");
}

#[test]
fn guessing_the_password_of_a_new_repository_costs_half_a_second_and_much_memory_each_time() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    let (unlocked, outcome) = super::init(&storage, &PASSWORD.into(), &impatient()).unwrap();
    assert_eq!(outcome, InitOutcome::Created);
    let key = storage.read(FileKind::Key, &list_keys(&storage).unwrap()[0]).unwrap();
    let key: KeyFile = serde_json::from_slice(&key).unwrap();
    assert_eq!((key.n, key.r, key.p), (1 << 17, 8, 1));
    let again = crate::Repository::open_storage(storage, &PASSWORD.into()).unwrap();
    assert_eq!(again.id(), unlocked.engine.config().id.to_hex().as_str());
}

#[test]
fn killed_between_key_and_config_it_is_completed_with_the_key_that_is_there() {
    for (nth, fault, times) in [(1, Fault::KilledAfter, 20), (2, Fault::KilledBefore, 1)] {
        let directory = TempDir::new().unwrap();
        let storage = local(directory.path());
        killed_at(&storage, nth, fault, PASSWORD);
        let key = list_keys(&storage).unwrap();
        assert_eq!(key.len(), 1);
        assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Completed);
        assert_eq!(list_keys(&storage).unwrap(), key, "the key that was there is the one that is used");
        restic_opens_it(directory.path(), PASSWORD, times);
    }
}

#[test]
fn killed_after_the_config_it_is_attached_to() {
    let directory = TempDir::new().unwrap();
    let storage = local(directory.path());
    killed_at(&storage, 2, Fault::KilledAfter, PASSWORD);
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Attached);
    restic_opens_it(directory.path(), PASSWORD, 1);
}

#[test]
fn killed_before_anything_was_written_it_is_created() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    killed_at(&storage, 1, Fault::KilledBefore, PASSWORD);
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Created);
}

#[test]
fn the_key_of_a_killed_initialisation_with_another_password_gives_way() {
    let directory = TempDir::new().unwrap();
    let storage = local(directory.path());
    killed_at(&storage, 1, Fault::KilledAfter, "mistyped");
    let before = list_keys(&storage).unwrap();
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Created);
    let after = list_keys(&storage).unwrap();
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    restic_opens_it(directory.path(), PASSWORD, 1);
}

#[test]
fn a_key_with_another_password_stays_where_data_lies_beside_it() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    killed_at(&storage, 1, Fault::KilledAfter, "somebody else's");
    storage.write(FileKind::Pack, &Id::random(), Bytes::from_static(b"data")).unwrap();
    let error = try_init(&storage, PASSWORD).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    assert_eq!(list_keys(&storage).unwrap().len(), 1);
}

#[test]
fn data_without_key_and_config_is_not_written_over() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    storage.write(FileKind::Snapshot, &Id::random(), Bytes::from_static(b"data")).unwrap();
    let error = try_init(&storage, PASSWORD).unwrap_err().to_string();
    assert!(error.contains("`snapshots`") && error.contains("empty location"), "{error}");
}

#[test]
fn two_killed_initialisations_leave_one_repository_with_one_key() {
    let directory = TempDir::new().unwrap();
    let storage = local(directory.path());
    for _ in 0..2 {
        // Each in a place of its own, so that neither finds the other's key; then both keys in one place.
        let other: Arc<dyn Storage> = Arc::new(MemoryStore::new());
        killed_at(&other, 1, Fault::KilledAfter, PASSWORD);
        let key = list_keys(&other).unwrap()[0];
        storage.write(FileKind::Key, &key, other.read(FileKind::Key, &key).unwrap()).unwrap();
    }
    let smallest = list_keys(&storage).unwrap()[0];
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Completed);
    assert_eq!(list_keys(&storage).unwrap(), [smallest]);
    restic_opens_it(directory.path(), PASSWORD, 1);
}

#[test]
fn a_second_key_with_the_password_is_removed_when_it_is_attached_to() {
    let directory = TempDir::new().unwrap();
    let storage = local(directory.path());
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Created);
    let good = list_keys(&storage).unwrap();
    let other: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    killed_at(&other, 1, Fault::KilledAfter, PASSWORD);
    let stray = list_keys(&other).unwrap()[0];
    storage.write(FileKind::Key, &stray, other.read(FileKind::Key, &stray).unwrap()).unwrap();
    assert!(
        crate::Repository::open_storage(storage.clone(), &PASSWORD.into()).is_ok(),
        "the stray is passed over"
    );
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Attached);
    assert_eq!(list_keys(&storage).unwrap(), good);
    restic_opens_it(directory.path(), PASSWORD, 1);
}

#[test]
fn the_key_is_put_back_if_somebody_takes_its_owner_for_dead_just_then() {
    let store = MemoryStore::new();
    let storage: Arc<dyn Storage> = Arc::new(store.clone());
    let faulty = FaultyStorage::around(storage.clone(), move |change, _| {
        if change == Change::CreateNew {
            for (key, _) in store.list(FileKind::Key).unwrap() {
                store.remove(FileKind::Key, &key).unwrap();
            }
        }
        Fault::None
    });
    assert_eq!(try_init(&faulty, PASSWORD).unwrap(), InitOutcome::Created);
    assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Attached);
}

#[test]
fn an_attempt_that_loses_to_another_password_takes_its_key_back() {
    let store = MemoryStore::new();
    let storage: Arc<dyn Storage> = Arc::new(store.clone());
    let other: Arc<dyn Storage> = Arc::new(store);
    let mut lost = false;
    let faulty = FaultyStorage::around(storage.clone(), move |change, kind| {
        if change == Change::Write && kind == FileKind::Key && !lost {
            lost = true;
            assert_eq!(try_init(&other, "the winner's").unwrap(), InitOutcome::Created);
        }
        Fault::None
    });
    let error = try_init(&faulty, PASSWORD).unwrap_err();
    assert!(matches!(error, Error::WrongPassword { .. }), "{error}");
    assert_eq!(list_keys(&storage).unwrap().len(), 1);
    assert_eq!(try_init(&storage, "the winner's").unwrap(), InitOutcome::Attached);
}

#[test]
fn an_empty_password_is_refused() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    assert!(matches!(try_init(&storage, ""), Err(Error::InvalidRequest { .. })));
}

/// `count` initialisations at once: one makes the repository, and all open the same.
fn race(storage: &Arc<dyn Storage>, count: usize) {
    let together = Barrier::new(count);
    let attempts: Vec<(String, InitOutcome)> = thread::scope(|scope| {
        let run = || {
            together.wait();
            let (unlocked, outcome) = init(storage, &PASSWORD.into(), &InitOptions::default()).unwrap();
            (unlocked.engine.config().id.to_hex().as_str().to_owned(), outcome)
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners = attempts.iter().filter(|(_, outcome)| *outcome != InitOutcome::Attached).count();
    assert_eq!(winners, 1, "{attempts:?}");
    assert!(attempts.iter().all(|(id, _)| *id == attempts[0].0), "{attempts:?}");
    assert_eq!(list_keys(storage).unwrap().len(), 1, "{attempts:?}");
}

#[test]
fn of_several_at_once_one_creates_and_the_others_attach_in_memory() {
    for _ in 0..10 {
        race(&(Arc::new(MemoryStore::new()) as Arc<dyn Storage>), 3);
    }
}

#[test]
fn of_several_at_once_one_creates_and_the_others_attach_in_a_directory() {
    for _ in 0..5 {
        let directory = TempDir::new().unwrap();
        race(&local(directory.path()), 3);
        restic_opens_it(directory.path(), PASSWORD, 1);
    }
}

/// A storage that knows no conditional write: the last one stays.
#[test]
fn of_several_at_once_one_repository_remains_where_writes_have_no_conditions() {
    for _ in 0..10 {
        let (store, together) = (MemoryStore::new(), Barrier::new(3));
        let attempts: Vec<_> = thread::scope(|scope| {
            let run = || {
                let storage: Arc<dyn Storage> = Arc::new(Unconditional { inner: store.clone() });
                together.wait();
                init(&storage, &PASSWORD.into(), &InitOptions::default()).map(drop)
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(attempts.iter().all(Result::is_ok), "{attempts:?}");
        let storage: Arc<dyn Storage> = Arc::new(store);
        assert_eq!(list_keys(&storage).unwrap().len(), 1);
        assert_eq!(try_init(&storage, PASSWORD).unwrap(), InitOutcome::Attached);
    }
}

#[derive(Debug)]
struct Unconditional {
    inner: MemoryStore,
}

impl Storage for Unconditional {
    pass_on!(url, prepare, list, read, read_range, write, remove);

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, crate::StorageError> {
        if self.has_config()? {
            return Ok(Creation::Exists);
        }
        thread::yield_now();
        self.write(kind, id, content).map(|()| Creation::Created)
    }
}
