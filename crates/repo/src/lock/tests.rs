//! Locks against each other, against those left behind, and against storages that fail.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustic_core::Id;

use super::*;
use crate::{
    MemoryStore,
    backend::{
        FileKind, Storage,
        faulty::{Change, Fault, FaultyStorage},
    },
    init::quick,
};

fn quick() -> Timing {
    Timing {
        settle: Duration::from_millis(20),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        refresh_every: Duration::from_millis(100),
        refresh_again: Duration::from_millis(50),
        release: Duration::from_millis(500),
        ..Timing::default()
    }
}

/// A storage in memory and a repository in it.
fn repository() -> (Arc<dyn Storage>, Repository) {
    let store: Arc<dyn Storage> = Arc::new(MemoryStore::new());
    (store.clone(), quick::repository(store))
}

fn holder(name: &str) -> LockHolder {
    LockHolder { hostname: name.to_owned(), username: "tester".to_owned() }
}

fn options(name: &str, mode: LockMode, wait: Duration) -> LockOptions<'static> {
    LockOptions { holder: holder(name), mode, wait, is_gone: &|_| false, waiting: &|_| () }
}

/// A lock that waits for nobody.
fn try_lock(repository: &Repository, name: &str, mode: LockMode) -> Result<LockGuard, Error> {
    acquire(repository, &options(name, mode, Duration::ZERO), quick())
}

/// A lock file that somebody wrote `age` ago and did not remove.
fn leave_behind(repository: &Repository, name: &str, mode: LockMode, age: SignedDuration) -> Id {
    let time = Timestamp::now() - age;
    let (id, content) = file::compose(&repository.sealer, &holder(name), mode, time).unwrap();
    repository.storage.write(FileKind::Lock, &id, content).unwrap();
    id
}

fn files(store: &Arc<dyn Storage>) -> Vec<Id> {
    store.list(FileKind::Lock).unwrap().into_iter().map(|(id, _)| id).collect()
}

#[test]
fn shared_locks_stand_side_by_side_and_exclusive_ones_alone() {
    let (store, repository) = repository();
    let first = try_lock(&repository, "a", LockMode::Shared).unwrap();
    let second = try_lock(&repository, "b", LockMode::Shared).unwrap();
    assert!(matches!(try_lock(&repository, "c", LockMode::Exclusive), Err(Error::Locked { .. })));
    drop(first);
    assert!(matches!(try_lock(&repository, "c", LockMode::Exclusive), Err(Error::Locked { .. })));
    drop(second);
    let exclusive = try_lock(&repository, "c", LockMode::Exclusive).unwrap();
    for mode in [LockMode::Shared, LockMode::Exclusive] {
        assert!(matches!(try_lock(&repository, "d", mode), Err(Error::Locked { .. })));
    }
    drop(exclusive);
    assert!(files(&store).is_empty(), "refused ones took theirs back, released ones are removed");
}

#[test]
fn who_waited_in_vain_is_told_whose_lock_it_was_and_what_to_do() {
    let (_store, repository) = repository();
    let _held = try_lock(&repository, "pod-7", LockMode::Exclusive).unwrap();
    let told = RefCell::new(Vec::new());
    let wait = Duration::from_millis(300);
    let options = LockOptions {
        waiting: &|lock| told.borrow_mut().push(lock.hostname.clone()),
        ..options("pod-8", LockMode::Shared, wait)
    };
    let begin = Instant::now();
    let error = acquire(&repository, &options, quick()).unwrap_err();
    assert!(begin.elapsed() >= wait);
    assert_eq!(*told.borrow(), ["pod-7"], "once, for less than a minute");
    let text = error.to_string();
    assert!(text.contains("an exclusive lock of `tester` on `pod-7`"), "{text}");
    assert!(text.contains("nobody has to remove it by hand"), "{text}");
    assert!(error.is_temporary());
}

#[test]
fn who_waits_goes_on_when_the_lock_leaves_and_is_told_of_the_wait_again_and_again() {
    let (_store, repository) = repository();
    let held = try_lock(&repository, "a", LockMode::Shared).unwrap();
    let told = Cell::new(0);
    let timing = Timing { tell_every: Duration::from_millis(100), ..quick() };
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(700));
            drop(held);
        });
        let options = LockOptions {
            waiting: &|_| told.set(told.get() + 1),
            ..options("b", LockMode::Exclusive, Duration::from_secs(20))
        };
        acquire(&repository, &options, timing).unwrap().check().unwrap();
    });
    assert!(told.get() >= 2, "{} times", told.get());
}

#[test]
fn a_lock_that_was_left_behind_goes_by_its_age_and_one_from_the_future_does_not() {
    let (store, repository) = repository();
    leave_behind(&repository, "dead", LockMode::Exclusive, SignedDuration::from_mins(31));
    leave_behind(&repository, "dead, too", LockMode::Shared, SignedDuration::from_hours(1000));
    drop(try_lock(&repository, "a", LockMode::Exclusive).unwrap());
    assert!(files(&store).is_empty());
    for age in [SignedDuration::from_mins(29), SignedDuration::from_hours(-24)] {
        let id = leave_behind(&repository, "alive", LockMode::Exclusive, age);
        assert!(matches!(try_lock(&repository, "a", LockMode::Shared), Err(Error::Locked { .. })));
        assert_eq!(files(&store), [id]);
        store.remove(FileKind::Lock, &id).unwrap();
    }
}

#[test]
fn a_lock_whose_holder_is_known_to_be_gone_is_removed_at_once_and_no_other() {
    let (store, repository) = repository();
    let gone = leave_behind(&repository, "gone", LockMode::Shared, SignedDuration::ZERO);
    let alive = leave_behind(&repository, "alive", LockMode::Shared, SignedDuration::ZERO);
    let options = LockOptions {
        is_gone: &|lock| lock.hostname == "gone",
        ..options("a", LockMode::Exclusive, Duration::ZERO)
    };
    assert!(matches!(acquire(&repository, &options, quick()), Err(Error::Locked { .. })));
    assert_eq!(files(&store), [alive], "without {}", gone.to_hex().as_str());
}

#[test]
fn a_file_that_is_no_lock_keeps_nobody_away_and_stays() {
    let (store, repository) = repository();
    let id = Id::random();
    store.write(FileKind::Lock, &id, Bytes::from_static(b"written with another key")).unwrap();
    store.write(FileKind::Lock, &Id::default(), Bytes::new()).unwrap();
    drop(try_lock(&repository, "a", LockMode::Exclusive).unwrap());
    assert_eq!(files(&store).len(), 2);
    assert!(list(&repository).unwrap().is_empty());
}

#[test]
fn all_locks_are_listed_with_what_they_say() {
    let (_store, repository) = repository();
    leave_behind(&repository, "old", LockMode::Exclusive, SignedDuration::from_hours(2));
    let _ours = leave_behind(&repository, "new", LockMode::Shared, SignedDuration::ZERO);
    let locks: Vec<_> =
        repository.locks().unwrap().into_iter().map(|lock| (lock.hostname, lock.exclusive)).collect();
    assert_eq!(locks, [("old".to_owned(), true), ("new".to_owned(), false)]);
}

#[test]
fn contenders_for_exclusive_locks_are_never_two_and_all_get_theirs() {
    let (store, repository) = repository();
    let holders = AtomicU32::new(0);
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let (repository, holders) = (&repository, &holders);
            scope.spawn(move || {
                for _ in 0..3 {
                    let options = options(name, LockMode::Exclusive, Duration::from_mins(1));
                    let guard = acquire(repository, &options, quick()).unwrap();
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "{name} is not alone");
                    thread::sleep(Duration::from_millis(10));
                    holders.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            });
        }
    });
    assert!(files(&store).is_empty());
}

#[test]
fn a_held_lock_is_refreshed_into_a_new_file_and_never_into_two() {
    let (store, repository) = repository();
    let guard = try_lock(&repository, "a", LockMode::Exclusive).unwrap();
    let (first, written) = (files(&store), list(&repository).unwrap()[0].time);
    thread::sleep(Duration::from_millis(450));
    guard.check().unwrap();
    guard.release();
    assert!(files(&store).is_empty());
    assert_eq!(first.len(), 1);
    let guard = try_lock(&repository, "a", LockMode::Exclusive).unwrap();
    thread::sleep(Duration::from_millis(350));
    let now = list(&repository).unwrap();
    assert!(now.len() <= 2 && now.iter().all(|lock| lock.time > written), "{now:?}");
    drop(guard);
}

#[test]
fn a_lock_that_cannot_be_refreshed_is_lost_in_time_and_nothing_changes_under_it() {
    let (store, sound) = repository();
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let faulty = FaultyStorage::around(store.clone(), move |_, kind| {
        if kind == FileKind::Lock && seen.load(Ordering::SeqCst) { Fault::KilledBefore } else { Fault::None }
    });
    let timing = Timing { lost_after: Duration::from_secs(2), ..quick() };
    let options = options("a", LockMode::Exclusive, Duration::ZERO);
    let guard = acquire(&sound.on(faulty), &options, timing).unwrap();
    // The work itself goes to a storage that is sound: only the lock must stop it.
    let held = sound.hold(&guard);
    thread::sleep(Duration::from_secs(3));
    guard.check().unwrap();
    let id = Id::random();
    held.storage.write(FileKind::Pack, &id, Bytes::from_static(b"pack")).unwrap();
    broken.store(true, Ordering::SeqCst);
    thread::sleep(Duration::from_secs(3));
    let error = guard.check().unwrap_err();
    assert!(matches!(&error, Error::LockLost { reason, .. } if reason.contains("killed")), "{error}");
    let refused = held.storage.write(FileKind::Pack, &Id::random(), Bytes::new()).unwrap_err();
    assert_eq!(refused.kind, crate::StorageErrorKind::LockLost);
    assert!(held.storage.create_new(FileKind::Config, &id, Bytes::new()).is_err());
    assert!(held.storage.remove(FileKind::Pack, &id).is_err());
    assert_eq!(store.list(FileKind::Pack).unwrap().len(), 1);
    assert_eq!(held.storage.read(FileKind::Pack, &id).unwrap(), "pack", "reading goes on");
}

#[test]
fn a_lock_that_somebody_else_removed_is_lost_and_not_written_again() {
    let (store, repository) = repository();
    let guard = try_lock(&repository, "a", LockMode::Exclusive).unwrap();
    thread::sleep(Duration::from_millis(30));
    for id in files(&store) {
        store.remove(FileKind::Lock, &id).unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    let error = guard.check().unwrap_err().to_string();
    assert!(error.contains("somebody else has removed it"), "{error}");
    assert!(files(&store).is_empty());
    drop(guard);
}

#[test]
fn a_released_lock_stays_released_and_refuses_what_was_held_by_it() {
    let (store, repository) = repository();
    let guard = try_lock(&repository, "a", LockMode::Shared).unwrap();
    let held = repository.hold(&guard);
    assert!(held.remove_all(&[Id::random().into()])[0].is_ok());
    guard.release();
    guard.release();
    assert!(files(&store).is_empty());
    let error = held.remove_all(&[Id::random().into()]).remove(0).unwrap_err();
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert!(error.is_temporary());
}

#[test]
fn a_release_does_not_wait_for_a_storage_that_hangs() {
    let (store, repository) = repository();
    let slow = FaultyStorage::around(store, |change, _| {
        if change == Change::Remove {
            thread::sleep(Duration::from_secs(20));
        }
        Fault::None
    });
    let timing = Timing { refresh_every: Duration::from_mins(5), ..quick() };
    let options = options("a", LockMode::Shared, Duration::ZERO);
    let guard = acquire(&repository.on(slow), &options, timing).unwrap();
    let begin = Instant::now();
    drop(guard);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_lock_that_could_not_be_written_or_looked_after_is_an_error_and_leaves_no_file_if_it_can() {
    let (store, sound) = repository();
    let mut first = true;
    let faulty = FaultyStorage::around(store.clone(), move |_, kind| {
        if kind == FileKind::Lock && std::mem::take(&mut first) { Fault::KilledAfter } else { Fault::None }
    });
    assert!(matches!(try_lock(&sound.on(faulty), "a", LockMode::Shared), Err(Error::Storage { .. })));
    // Its process was killed: the file is what a dead pod leaves, and goes by what is known of that pod.
    assert_eq!(files(&store).len(), 1);
    let options = LockOptions {
        is_gone: &|lock| lock.hostname == "a",
        ..options("b", LockMode::Exclusive, Duration::ZERO)
    };
    drop(acquire(&sound, &options, quick()).unwrap());
    assert!(files(&store).is_empty());
}
