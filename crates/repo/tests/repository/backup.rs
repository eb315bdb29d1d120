//! Backups: what they store, what they count, and how they fail.

use std::{fs, io, path::Path};

use kubedr_repo::{CheckDepth, Error, ErrorClass, FileDigest, Location, Repository, Snapshot};
use kubedr_testing::{Restic, S3Server};
use tempfile::TempDir;

use crate::fixture::{Interrupted, PASSWORD, database, in_bucket, local, request, source, sources};

/// Every byte as stock restic restores it.
fn restic_restores(restic: &Restic, id: &str, files: &[(&str, &[u8])]) {
    let target = TempDir::new().unwrap();
    let _ = restic.ok(&["check", "--read-data"]);
    let _ = restic.ok(&["restore", id, "--target", &target.path().display().to_string()]);
    for (path, content) in files {
        let restored = fs::read(target.path().join(path)).unwrap();
        assert!(restored == *content, "{path} differs");
    }
}

fn assert_first_and_second_backup(repository: &Repository, restic: &Restic) {
    let first = database(1000, 1);
    let mut second = first.clone();
    second[400_000] ^= 1;
    let tar = b"the same tar, twice".as_slice();

    let backup = repository.backup(request(sources(&first, tar))).unwrap();
    assert_eq!((backup.files_new, backup.files_changed), (2, 0));
    assert_eq!(backup.total_bytes_processed, (first.len() + tar.len()) as u64);
    assert!(backup.data_added > 0 && backup.data_added_packed > 0);
    restic_restores(
        restic,
        backup.snapshot_id.as_str(),
        &[("data/etcd-snapshot.db", &first), ("data/certificates.tar", tar)],
    );

    let backup = repository.backup(request(sources(&second, tar))).unwrap();
    assert_eq!(
        (backup.files_new, backup.files_changed),
        (0, 2),
        "also the file that has not changed was read"
    );
    assert!(backup.data_added < 100_000, "one chunk and the trees, not {}", backup.data_added);
    restic_restores(
        restic,
        backup.snapshot_id.as_str(),
        &[("data/etcd-snapshot.db", &second), ("data/certificates.tar", tar)],
    );

    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[1].id, backup.snapshot_id);
    assert_what_restic_sees(&snapshots[1], restic);
    assert!(repository.check(CheckDepth::ReadData).unwrap().is_ok());
}

fn assert_what_restic_sees(snapshot: &Snapshot, restic: &Restic) {
    let seen = restic.json(&["snapshots", snapshot.id.as_str()]);
    let seen = &seen[0];
    assert_eq!(seen["id"], snapshot.id.as_str());
    assert_eq!(seen["short_id"], snapshot.id.short());
    assert_eq!(seen["paths"], serde_json::json!(["/data"]));
    assert_eq!(seen["tags"], serde_json::json!(["cluster=c0ffee", "policy=nightly"]));
    assert_eq!(seen["hostname"], "master-1");
    assert_eq!(snapshot.paths, ["/data"]);
    assert_eq!(snapshot.host, "master-1");
    assert_eq!(snapshot.labels().get("policy"), Some(&"nightly"));
}

#[test]
fn two_backups_in_a_directory_are_what_restic_reads() {
    let (directory, repository) = local();
    assert_first_and_second_backup(
        &repository,
        &Restic::new(&directory.path().display().to_string(), PASSWORD),
    );
}

#[test]
fn two_backups_in_a_bucket_are_what_restic_reads() {
    let server = S3Server::start();
    let repository = in_bucket(&server, "backups");
    assert_first_and_second_backup(&repository, &server.restic("backups", PASSWORD));
}

#[test]
fn an_exact_multiple_of_the_chunk_size_and_an_empty_file_are_stored() {
    let (_directory, repository) = local();
    let content = vec![7; 4 * 16 * 1024];
    let backup = repository.backup(request(sources(&content, b""))).unwrap();
    assert_eq!(backup.files.iter().map(|file| file.size).collect::<Vec<_>>(), [0, 65536]);
}

#[test]
fn restic_and_we_take_turns_in_one_repository() {
    let (directory, repository) = local();
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    repository.backup(request(sources(&database(100, 1), b"tar"))).unwrap();
    let _ = restic.ok(&["backup", "/etc/hostname"]);
    repository.backup(request(sources(&database(100, 2), b"tar"))).unwrap();
    assert_eq!(repository.snapshots().unwrap().len(), 3);
    let _ = restic.ok(&["check", "--read-data"]);
    assert!(repository.check(CheckDepth::ReadData).unwrap().is_ok());
}

#[test]
fn a_repository_that_restic_made_takes_our_backups() {
    let directory = TempDir::new().unwrap();
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let _ = restic.ok(&["init"]);
    let location = Location::Local(directory.path().to_owned());
    let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
    let content = database(500, 3);
    let backup = repository.backup(request(sources(&content, b"tar"))).unwrap();
    restic_restores(&restic, backup.snapshot_id.as_str(), &[("data/etcd-snapshot.db", &content)]);
}

/// Runs a backup whose database fails as `spoil` says, and looks at what is left.
fn failed_backup(spoil: impl FnOnce(Vec<u8>) -> kubedr_repo::Source) -> Error {
    let (directory, repository) = local();
    repository.backup(request(sources(&database(50, 9), b"tar"))).unwrap();
    let error = repository
        .backup(request(vec![source("/data/certificates.tar", b"tar"), spoil(database(2000, 1))]))
        .unwrap_err();
    assert_eq!(repository.snapshots().unwrap().len(), 1, "the failed backup left a snapshot");
    assert!(repository.check(CheckDepth::ReadData).unwrap().is_ok());
    let _ = Restic::new(&directory.path().display().to_string(), PASSWORD).ok(&["check", "--read-data"]);
    repository.backup(request(sources(&database(2000, 1), b"tar"))).unwrap();
    error
}

#[test]
fn a_source_that_fails_leaves_no_snapshot_and_its_own_words() {
    let error = failed_backup(|content| kubedr_repo::Source {
        reader: Box::new(Interrupted {
            inner: io::Cursor::new(content.clone()),
            after: 1_000_000,
            at: Some(|| Err(io::Error::other("etcdserver: mvcc: database space exceeded"))),
        }),
        ..source("/data/etcd-snapshot.db", &content)
    });
    assert_eq!(error.class(), ErrorClass::Source);
    assert_eq!(
        error.to_string(),
        "reading the source of `/data/etcd-snapshot.db` failed: etcdserver: mvcc: database space exceeded"
    );
}

#[test]
fn a_source_that_fails_at_its_very_end_leaves_no_snapshot() {
    let error = failed_backup(|content| kubedr_repo::Source {
        reader: Box::new(Interrupted {
            inner: io::Cursor::new(content.clone()),
            after: content.len() as u64,
            at: Some(|| Err(io::Error::other("hash mismatch"))),
        }),
        ..source("/data/etcd-snapshot.db", &content)
    });
    assert!(matches!(&error, Error::Source { cause, .. } if cause.to_string() == "hash mismatch"), "{error}");
}

#[test]
fn a_source_that_is_short_or_long_leaves_no_snapshot() {
    for (size, reason) in [(2000 * 4096 + 1, "ended after"), (2000 * 4096 - 1, "more than")] {
        let error = failed_backup(|content| kubedr_repo::Source {
            size,
            ..source("/data/etcd-snapshot.db", &content)
        });
        assert_eq!(error.class(), ErrorClass::Source);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (_directory, repository) = local();
    let mut comma = request(sources(b"db", b"tar"));
    comma.tags.push("a,b".to_owned());
    for bad in [request(Vec::new()), request(vec![source("/etc/passwd", b"")]), comma] {
        let error = repository.backup(bad).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Configuration, "{error}");
    }
}

fn largest_pack(directory: &Path) -> std::path::PathBuf {
    let packs = fs::read_dir(directory.join("data"))
        .unwrap()
        .flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    packs.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Spoils the pack that holds the database; verify and check must find it, and verify must name the file.
fn assert_damage_is_found(spoil: impl FnOnce(&Path)) {
    let (directory, repository) = local();
    let backup = repository.backup(request(sources(&database(1000, 1), b"tar"))).unwrap();
    repository.verify(&backup.snapshot_id, &backup.files).unwrap();
    spoil(&largest_pack(directory.path()));
    let error = repository.verify(&backup.snapshot_id, &backup.files).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    assert!(error.to_string().contains("damaged: `/data/"), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(!repository.check(CheckDepth::ReadData).unwrap().is_ok());
    let target = TempDir::new().unwrap();
    assert!(repository.restore("latest", target.path()).is_err());
    assert!(!target.path().join("data/etcd-snapshot.db").exists(), "half a file under its own name");
}

#[test]
fn a_changed_byte_in_a_pack_is_found_and_the_file_named() {
    assert_damage_is_found(|pack| {
        let mut content = fs::read(pack).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(pack, content).unwrap();
    });
}

#[test]
fn a_missing_pack_is_found_and_the_file_named() {
    assert_damage_is_found(|pack| fs::remove_file(pack).unwrap());
}

#[test]
fn a_truncated_pack_is_found_and_the_file_named() {
    assert_damage_is_found(|pack| {
        let length = pack.metadata().unwrap().len();
        fs::File::options().write(true).open(pack).unwrap().set_len(length / 2).unwrap();
    });
}

#[test]
fn verify_refuses_another_content_another_size_and_other_files() {
    let (_directory, repository) = local();
    let backup = repository.backup(request(sources(b"database", b"tar"))).unwrap();
    let other = |change: fn(&mut Vec<FileDigest>)| {
        let mut files = backup.files.clone();
        change(&mut files);
        repository.verify(&backup.snapshot_id, &files).unwrap_err().to_string()
    };
    assert!(other(|files| files[0].sha256 = "00".repeat(32)).contains("reads back as"));
    assert!(other(|files| files[0].size += 1).contains("reads back as"));
    assert!(other(|files| drop(files.pop())).contains("unexpected file"));
    assert!(other(|files| files[0].path = "/data/other".to_owned()).contains("unexpected file"));
}

#[test]
fn a_removed_snapshot_is_gone_and_removing_it_again_is_no_error() {
    let (_directory, repository) = local();
    let backup = repository.backup(request(sources(b"database", b"tar"))).unwrap();
    repository.remove(&backup.snapshot_id).unwrap();
    repository.remove(&backup.snapshot_id).unwrap();
    assert!(repository.snapshots().unwrap().is_empty());
    let error = repository.verify(&backup.snapshot_id, &backup.files).unwrap_err();
    assert!(matches!(error, Error::NoSuchSnapshot { .. }), "{error}");
    assert!("abcd1234".parse::<kubedr_repo::SnapshotId>().is_err(), "a prefix removes nothing");
}
