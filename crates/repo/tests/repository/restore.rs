//! Restores: by every kind of name, of our snapshots and of restic's.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{Arc, Mutex},
};

use kubedr_repo::{CheckDepth, Error, Location, Progress, Repository, Watch};
use kubedr_testing::Restic;
use tempfile::TempDir;

use crate::fixture::{PASSWORD, database, local, request, sources};

#[test]
fn a_snapshot_is_found_by_latest_by_a_prefix_and_by_its_full_id() {
    let (_directory, repository) = local();
    let content = database(3000, 4);
    repository.backup(request(sources(b"old", b"tar"))).unwrap();
    let id = repository.backup(request(sources(&content, b"tar"))).unwrap().snapshot_id;
    for name in ["latest", id.short(), id.as_str()] {
        let target = TempDir::new().unwrap();
        let restored = repository.restore(name, target.path()).unwrap();
        assert_eq!((restored.files, restored.bytes), (2, content.len() as u64 + 3));
        assert!(fs::read(target.path().join("data/etcd-snapshot.db")).unwrap() == content);
        let mode = fs::metadata(target.path().join("data/etcd-snapshot.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(target.path().join("data")).unwrap().count(), 2, "temporary files are gone");
    }
}

#[test]
fn a_name_that_fits_none_or_several_is_refused() {
    let (_directory, repository) = local();
    let target = TempDir::new().unwrap();
    let restore = |name| repository.restore(name, target.path()).unwrap_err();
    assert!(matches!(restore("latest"), Error::NoSuchSnapshot { .. }));
    for _ in 0..17 {
        repository.backup(request(sources(b"db", b"tar"))).unwrap();
    }
    // Of 17 ids at least two begin with the same digit.
    let ids: Vec<_> = repository.snapshots().unwrap().into_iter().map(|snapshot| snapshot.id).collect();
    let shared =
        ids.iter().find(|id| ids.iter().filter(|other| other.as_str()[..1] == id.as_str()[..1]).count() > 1);
    let first_digit = &shared.unwrap().as_str()[..1];
    let Error::AmbiguousSnapshot { all, .. } = restore(first_digit) else { panic!() };
    assert!(all.len() > 1 && all.iter().all(|id| id.as_str().starts_with(first_digit)));
    let message = restore(first_digit).to_string();
    assert!(message.contains(all[0].short()) && message.contains(all[1].short()), "{message}");
    assert!(matches!(restore("zz"), Error::NoSuchSnapshot { .. }));
    assert!(matches!(restore(""), Error::NoSuchSnapshot { .. }));
}

#[test]
fn what_restic_backed_up_comes_back_with_links_modes_and_times() {
    let origin = TempDir::new().unwrap();
    let pki = origin.path().join("certificates");
    fs::create_dir_all(pki.join("etcd")).unwrap();
    fs::write(pki.join("etcd/ca.crt"), "certificate").unwrap();
    fs::write(pki.join("sa.key"), vec![1; 3_000_000]).unwrap();
    fs::set_permissions(pki.join("sa.key"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(pki.join("etcd"), fs::Permissions::from_mode(0o500)).unwrap();
    symlink("etcd/ca.crt", pki.join("current")).unwrap();
    let directory = TempDir::new().unwrap();
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let _ = restic.ok(&["init"]);
    let _ = restic.ok(&["backup", &pki.display().to_string()]);

    let location = Location::Local(directory.path().to_owned());
    let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
    let target = TempDir::new().unwrap();
    repository.restore("latest", target.path()).unwrap();
    let back = target.path().join(pki.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(back.join("etcd/ca.crt")).unwrap(), "certificate");
    assert_eq!(fs::read(back.join("sa.key")).unwrap(), vec![1; 3_000_000]);
    assert_eq!(fs::read_link(back.join("current")).unwrap().to_str(), Some("etcd/ca.crt"));
    for (path, mode) in [("sa.key", 0o640), ("etcd", 0o500)] {
        let (then, now) = (fs::metadata(pki.join(path)).unwrap(), fs::metadata(back.join(path)).unwrap());
        assert_eq!(now.permissions().mode() & 0o777, mode, "{path}");
        assert_eq!(now.modified().unwrap(), then.modified().unwrap(), "{path}");
    }
    // Twice into the same place is the same place.
    repository.restore("latest", target.path()).unwrap();
}

#[test]
fn a_target_that_cannot_be_written_is_an_error_that_names_it() {
    let (_directory, repository) = local();
    repository.backup(request(sources(b"db", b"tar"))).unwrap();
    let target = TempDir::new().unwrap();
    fs::write(target.path().join("data"), "in the way").unwrap();
    let error = repository.restore("latest", target.path()).unwrap_err();
    assert!(matches!(error, Error::Target { .. }), "{error}");
    assert!(error.to_string().contains(&target.path().join("data").display().to_string()), "{error}");
}

#[test]
fn whoever_watches_is_told_of_every_byte_that_is_written_or_read() {
    let (_directory, repository) = local();
    let content = database(500, 4);
    repository.backup(request(sources(&content, b"tar"))).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let watch: Watch = Arc::new({
        let told = told.clone();
        move |progress| told.lock().unwrap().push(progress)
    });
    let target = TempDir::new().unwrap();
    let restored = repository.restore_watched("latest", target.path(), &watch).unwrap();
    let restoring = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(restoring.first(), Some(&Progress { done: 0, total: restored.bytes }));
    assert_eq!(restoring.last(), Some(&Progress { done: restored.bytes, total: restored.bytes }));
    assert!(restoring.is_sorted_by_key(|progress| progress.done));

    assert!(repository.check_watched(CheckDepth::ReadData, &watch).unwrap().is_ok());
    let checking = told.lock().unwrap();
    let most = checking.iter().max_by_key(|progress| progress.done).unwrap();
    assert!(most.total > 0 && most.done == most.total, "{most:?}");
}
