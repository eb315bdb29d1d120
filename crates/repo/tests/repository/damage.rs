//! A snapshot whose file is damaged: all the others are as they were, for us and for stock restic.

use std::{fs, path::PathBuf};

use kubedr_repo::{CheckDepth, Error, ErrorClass, Listing, Repository, SnapshotId};
use kubedr_testing::Restic;
use tempfile::TempDir;

use crate::fixture::{PASSWORD, local, request, source};

/// Three backups, of which the second is damaged, the place of its file, and what was in it.
struct Damaged {
    directory: TempDir,
    repository: Repository,
    ids: Vec<SnapshotId>,
    file: PathBuf,
    whole: Vec<u8>,
}

fn damaged() -> Damaged {
    let (directory, repository) = local();
    let backup = |number: u8| {
        let content = vec![number; 100_000];
        repository.backup(request(vec![source("/data/etcd-snapshot.db", &content)])).unwrap().snapshot_id
    };
    let ids: Vec<_> = (1..=3).map(backup).collect();
    let file = directory.path().join("snapshots").join(ids[1].as_str());
    let whole = fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[20] ^= 1;
    write(&file, &changed);
    Damaged { directory, repository, ids, file, whole }
}

fn write(file: &PathBuf, content: &[u8]) {
    // Files of a repository are read-only.
    let _ = fs::remove_file(file);
    fs::write(file, content).unwrap();
}

fn names(listing: &Listing) -> (Vec<&SnapshotId>, Vec<&SnapshotId>) {
    (
        listing.snapshots.iter().map(|snapshot| &snapshot.id).collect(),
        listing.unreadable.iter().map(|(id, _)| id).collect(),
    )
}

#[test]
fn one_damaged_snapshot_hides_no_other() {
    let Damaged { directory: _directory, repository, ids, file, whole } = damaged();
    for content in [&whole[..whole.len() - 1], b"", b"{}"] {
        write(&file, content);
        let listing = repository.listing().unwrap();
        assert_eq!(names(&listing), (vec![&ids[0], &ids[2]], vec![&ids[1]]));
        assert_ne!(listing.unreadable[0].1.class(), ErrorClass::Temporary);
        assert_eq!(listing.count(), 3);
    }
    for id in [&ids[0], &ids[2]] {
        let target = TempDir::new().unwrap();
        assert_eq!(repository.restore(id.short(), target.path()).unwrap().bytes, 100_000);
    }
    let contents = repository.contents(&ids).unwrap();
    assert_eq!(contents.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    write(&file, &whole);
    assert_eq!(names(&repository.listing().unwrap()).0.len(), 3);
}

#[test]
fn which_snapshot_is_the_latest_cannot_be_told_beside_a_damaged_one_and_the_error_says_which_and_what_to_do()
{
    let Damaged { directory: _directory, repository, ids, .. } = damaged();
    for error in [repository.snapshot("latest").unwrap_err(), repository.snapshots().unwrap_err()] {
        assert!(matches!(error, Error::UnreadableSnapshot { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(ids[1].as_str()) && text.contains("by their ids meanwhile"), "{text}");
    }
}

#[test]
fn beside_a_damaged_snapshot_backups_and_deletions_go_on_and_nothing_is_reclaimed_until_it_is_mended() {
    let Damaged { directory, repository, ids, file, whole } = damaged();
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let fourth = repository.backup(request(vec![source("/data/etcd-snapshot.db", b"fourth")])).unwrap();
    assert!(repository.remove_all(&ids[..1]).iter().all(Result::is_ok));
    // What the damaged one needs is not known: nothing may go, for us as for restic.
    assert!(!restic.run(&["prune"]).status.success());
    assert_eq!(repository.plan_prune().unwrap_err().class(), ErrorClass::Integrity);
    let found = repository.check(CheckDepth::Structure).unwrap().errors;
    assert!(found.len() == 1 && found[0].contains(ids[1].as_str()), "{found:?}");
    let target = TempDir::new().unwrap();
    let _ = restic.ok(&["restore", ids[2].as_str(), "--target", &target.path().display().to_string()]);

    write(&file, &whole);
    let left = names(&repository.listing().unwrap()).0.len();
    assert_eq!(left, 3);
    assert!(repository.verify(&fourth.snapshot_id, &fourth.files).is_ok());
    repository.plan_prune().unwrap().execute().unwrap();
    let _ = restic.ok(&["check", "--read-data"]);
}
