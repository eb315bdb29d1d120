//! Prunes in both phases, killed anywhere, and judged by stock restic.

use std::{fs, process::Command, sync::Arc};

use bytes::Bytes;
use kubedr_testing::Restic;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::*;
use crate::{
    BackupRequest, CheckDepth, Location, LockHolder, LockMode, LockOptions, SnapshotId, Source,
    backend::{
        Storage, connect,
        faulty::{Fault, FaultyStorage},
    },
    init::quick::{self, PASSWORD},
    seal::name_of,
};

/// A repository in a directory, and stock restic on it.
struct Fixture {
    directory: TempDir,
    repository: Repository,
}

impl Fixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let storage = connect(&Location::Local(directory.path().to_owned())).unwrap();
        let repository = quick::repository(storage);
        Self { directory, repository }
    }

    /// The same files in another directory, with its own repository on a storage of `wrap`.
    fn copy(&self, wrap: impl FnOnce(Arc<dyn Storage>) -> Arc<dyn Storage>) -> (Self, Repository) {
        let directory = TempDir::new().unwrap();
        let from = format!("{}/.", self.directory.path().display());
        assert!(Command::new("cp").args(["-r", &from]).arg(directory.path()).status().unwrap().success());
        let storage = connect(&Location::Local(directory.path().to_owned())).unwrap();
        let repository = self.repository.on(storage.clone());
        let wrapped = self.repository.on(wrap(storage));
        (Self { directory, repository }, wrapped)
    }

    fn restic(&self) -> Restic {
        Restic::new(&self.directory.path().display().to_string(), PASSWORD)
    }

    fn backup(&self, content: &[u8]) -> SnapshotId {
        let source = Source {
            path: "/data/etcd-snapshot.db".to_owned(),
            size: content.len() as u64,
            mode: 0o600,
            reader: Box::new(std::io::Cursor::new(content.to_vec())),
        };
        let request = BackupRequest {
            time: Timestamp::now(),
            host: "host".to_owned(),
            tags: Vec::new(),
            path: "/data".to_owned(),
            sources: vec![source],
        };
        self.repository.backup(request).unwrap().snapshot_id
    }

    fn packs(&self) -> usize {
        self.repository.storage.list(FileKind::Pack).unwrap().len()
    }

    /// Packs that are marked.
    fn marked(&self) -> Vec<Id> {
        let engine = self.repository.engine().unwrap();
        let files = engine.stream_files::<IndexFile>().unwrap();
        files.flat_map(|file| file.unwrap().1.packs_to_delete).map(|pack| *pack.id).collect()
    }

    /// Marks, or with nothing to keep, deletes what is marked.
    fn prune(&self, keep_marked: Duration) -> PruneReport {
        plan(&self.repository, keep_marked).unwrap().execute().unwrap()
    }

    /// restic finds nothing wrong, nor do we, and these snapshots come back as they were.
    fn assert_whole(&self, snapshots: &[(&SnapshotId, &[u8])]) {
        let _ = self.restic().ok(&["check", "--read-data"]);
        let report = self.repository.check(CheckDepth::ReadData).unwrap();
        assert!(report.is_ok(), "{:?}", report.errors);
        assert_eq!(self.repository.snapshots().unwrap().len(), snapshots.len());
        for (id, content) in snapshots {
            let target = TempDir::new().unwrap();
            self.repository.restore(id.as_str(), target.path()).unwrap();
            assert!(fs::read(target.path().join("data/etcd-snapshot.db")).unwrap() == *content, "{id}");
        }
    }
}

/// Random content of this many chunks, and so about as many bytes in the packs.
fn content(chunks: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; chunks * 16 * 1024];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[test]
fn what_is_marked_is_deleted_by_a_later_run_and_the_reports_say_so() {
    let fixture = Fixture::new();
    let (old, new) = (content(50, 1), content(50, 2));
    let first = fixture.backup(&old);
    let second = fixture.backup(&new);
    assert!(fixture.prune(KEEP_MARKED).changes_nothing());
    assert!(fixture.repository.remove_all(&[first])[0].is_ok());

    let marking = fixture.prune(KEEP_MARKED);
    assert!(marking.marked.packs >= 1 && marking.marked.bytes >= old.len() as u64, "{marking:?}");
    assert_eq!(marking.deleted, Amount::default());
    assert_eq!(marking.still_marked.packs, marking.marked.packs + marking.repacked.packs);
    fixture.assert_whole(&[(&second, &new)]);

    let before = fixture.packs();
    let waiting = fixture.prune(KEEP_MARKED);
    assert_eq!(waiting.deleted, Amount::default(), "23 hours are not over");
    assert_eq!(waiting.still_marked.packs, marking.still_marked.packs, "{waiting:?}");

    let deleting = fixture.prune(Duration::ZERO);
    assert_eq!(deleting.deleted.packs, marking.still_marked.packs, "{deleting:?}");
    assert!(deleting.deleted.bytes >= old.len() as u64);
    assert_eq!(deleting.still_marked, Amount::default());
    assert!(fixture.packs() < before);
    assert!(fixture.prune(Duration::ZERO).changes_nothing());
    fixture.assert_whole(&[(&second, &new)]);
}

#[test]
fn a_backup_of_data_that_is_marked_does_not_rely_on_it() {
    let fixture = Fixture::new();
    let data = content(100, 3);
    let gone = fixture.backup(&data);
    fixture.repository.remove(&gone).unwrap();
    let marking = fixture.prune(KEEP_MARKED);
    assert!(marking.marked.bytes >= data.len() as u64);

    let id = fixture.backup(&data);
    fixture.assert_whole(&[(&id, &data)]);
    let deleting = fixture.prune(Duration::ZERO);
    assert_eq!(deleting.recovered, Amount::default(), "the backup has stored its data anew");
    assert_eq!(deleting.deleted.packs, marking.marked.packs);
    fixture.assert_whole(&[(&id, &data)]);
}

#[test]
fn marked_data_that_a_snapshot_needs_after_all_is_recovered() {
    let fixture = Fixture::new();
    let data = content(100, 4);
    let id = fixture.backup(&data);
    // As a program without locks could bring about, whose backup began before the prune.
    let file = fixture.repository.storage.read(FileKind::Snapshot, &id.engine_id()).unwrap();
    fixture.repository.remove(&id).unwrap();
    let marking = fixture.prune(KEEP_MARKED);
    fixture.repository.storage.write(FileKind::Snapshot, &id.engine_id(), file).unwrap();
    let recovering = fixture.prune(Duration::ZERO);
    assert_eq!(recovering.recovered.packs, marking.marked.packs);
    assert_eq!(recovering.deleted, Amount::default());
    fixture.assert_whole(&[(&id, &data)]);
}

/// Three states of repacking, marking and deleting at once: packs marked before, unused ones, and ones used in part.
fn ready_for_everything() -> (Fixture, Vec<(SnapshotId, Vec<u8>)>) {
    let fixture = Fixture::new();
    let forgotten = fixture.backup(&content(100, 5));
    fixture.repository.remove(&forgotten).unwrap();
    fixture.prune(KEEP_MARKED);
    let base = content(200, 6);
    let unused = fixture.backup(&base);
    let mut kept = Vec::new();
    for round in 7..9 {
        let mut changed = content(100, round);
        changed.extend_from_slice(&base[..base.len() / 8]);
        kept.push((fixture.backup(&changed), changed));
    }
    fixture.repository.remove(&unused).unwrap();
    (fixture, kept)
}

#[test]
fn a_prune_that_is_killed_anywhere_leaves_a_whole_repository_that_the_next_one_finishes() {
    let (fixture, kept) = ready_for_everything();
    let kept: Vec<(&SnapshotId, &[u8])> = kept.iter().map(|(id, data)| (id, data.as_slice())).collect();
    let mut finished = false;
    let mut changes = 0;
    while !finished {
        let mut left = changes;
        let (copy, faulty) = fixture.copy(|storage| {
            FaultyStorage::around(storage, move |_, _| {
                if left == 0 {
                    return Fault::KilledBefore;
                }
                left -= 1;
                Fault::None
            })
        });
        let outcome = plan(&faulty, Duration::ZERO).unwrap().execute();
        finished = outcome.is_ok();
        copy.assert_whole(&kept);
        // Marks what was left over, deletes it, and then there is nothing more to do.
        copy.prune(Duration::ZERO);
        copy.prune(Duration::ZERO);
        let last = copy.prune(Duration::ZERO);
        assert!(last.changes_nothing() && last.still_marked.packs == 0, "after {changes} changes: {last:?}");
        let check = copy.repository.check(CheckDepth::ReadData).unwrap();
        assert_eq!(check, crate::CheckReport::default(), "after {changes} changes");
        changes += 1;
    }
    assert!(changes > 5, "only {changes} changes: the run had nothing to do");
}

#[test]
fn packs_that_no_index_names_are_marked_and_deleted_also_when_the_index_stays() {
    let fixture = Fixture::new();
    let data = content(10, 9);
    let id = fixture.backup(&data);
    // What a killed backup leaves.
    let orphan = Bytes::from(content(1, 10));
    let orphan_id = name_of(&orphan);
    fixture.repository.storage.write(FileKind::Pack, &orphan_id, orphan).unwrap();
    let marking = fixture.prune(KEEP_MARKED);
    assert_eq!(marking.marked, Amount { packs: 1, bytes: 16 * 1024 });
    fixture.assert_whole(&[(&id, &data)]);
    assert_eq!(fixture.prune(KEEP_MARKED).still_marked.packs, 1);
    fixture.assert_whole(&[(&id, &data)]);
    assert_eq!(fixture.prune(Duration::ZERO).deleted.packs, 1);
    let packs = fixture.repository.storage.list(FileKind::Pack).unwrap();
    assert!(packs.iter().all(|(pack, _)| *pack != orphan_id));
    fixture.assert_whole(&[(&id, &data)]);
}

#[test]
fn restic_may_prune_between_our_two_phases() {
    let fixture = Fixture::new();
    let (old, new) = (content(50, 11), content(50, 12));
    let first = fixture.backup(&old);
    let second = fixture.backup(&new);
    fixture.repository.remove(&first).unwrap();
    fixture.prune(KEEP_MARKED);
    let _ = fixture.restic().ok(&["prune"]);
    fixture.assert_whole(&[(&second, &new)]);
    fixture.prune(Duration::ZERO);
    fixture.assert_whole(&[(&second, &new)]);
}

#[test]
fn packs_that_are_marked_and_already_gone_are_no_damage() {
    let fixture = Fixture::new();
    let (old, new) = (content(50, 13), content(50, 14));
    let first = fixture.backup(&old);
    let second = fixture.backup(&new);
    fixture.repository.remove(&first).unwrap();
    fixture.prune(KEEP_MARKED);
    // As a newer restic does, which leaves index files alone that it need not change.
    let marked = fixture.marked();
    assert!(!marked.is_empty());
    for pack in &marked {
        fixture.repository.storage.remove(FileKind::Pack, pack).unwrap();
    }
    let report = fixture.repository.check(CheckDepth::ReadData).unwrap();
    assert!(report.is_ok() && !report.warnings.is_empty(), "{report:?}");
    fixture.prune(Duration::ZERO);
    assert!(fixture.repository.check(CheckDepth::Structure).unwrap().warnings.is_empty());
    fixture.assert_whole(&[(&second, &new)]);
}

#[test]
fn a_prune_whose_lock_is_lost_changes_nothing() {
    let (fixture, kept) = ready_for_everything();
    let guard = fixture
        .repository
        .lock(&LockOptions {
            holder: LockHolder { hostname: "pod".to_owned(), username: "tester".to_owned() },
            mode: LockMode::Exclusive,
            wait: Duration::ZERO,
            is_gone: &|_| false,
            waiting: &|_| (),
        })
        .unwrap();
    let plan = plan(&fixture.repository.hold(&guard), Duration::ZERO).unwrap();
    assert!(!plan.report().changes_nothing());
    guard.release();
    let before = fixture.packs();
    let error = plan.execute().unwrap_err();
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert_eq!(fixture.packs(), before);
    fixture.assert_whole(&kept.iter().map(|(id, data)| (id, data.as_slice())).collect::<Vec<_>>());
}
