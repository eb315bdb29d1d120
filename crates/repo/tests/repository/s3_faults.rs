//! An S3 server that goes away in the middle of a backup.

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use kubedr_repo::{CheckDepth, Error, ErrorClass, Repository, Source};
use kubedr_testing::S3Server;

use crate::fixture::{Interrupted, PASSWORD, bucket, database, in_bucket, request, source};

const PAGES: usize = 20_000;

/// A database of several packs that calls `at` when a part of it was read.
fn interrupted(at: impl FnOnce() + Send + 'static) -> Source {
    let content = database(PAGES, 1);
    Source {
        size: content.len() as u64,
        reader: Box::new(Interrupted {
            inner: Cursor::new(content),
            after: 40_000_000,
            at: Some(move || {
                at();
                Ok(())
            }),
        }),
        ..source("/data/etcd-snapshot.db", b"")
    }
}

#[test]
fn a_server_that_comes_back_in_time_costs_nothing_but_time() {
    let server = Arc::new(Mutex::new(S3Server::start()));
    let repository = in_bucket(&server.lock().unwrap(), "backups");
    let shared = server.clone();
    let backup = repository.backup(request(vec![interrupted(move || {
        shared.lock().unwrap().kill();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            shared.lock().unwrap().restart();
        });
    })]));
    let backup = backup.unwrap();
    assert_eq!(backup.total_bytes_processed, (PAGES * 4096) as u64);
    let server = server.lock().unwrap();
    let _ = server.restic("backups", PASSWORD).ok(&["check", "--read-data"]);
}

#[test]
fn a_server_that_stays_away_fails_the_backup_and_leaves_no_snapshot() {
    let server = Arc::new(Mutex::new(S3Server::start()));
    let repository = in_bucket(&server.lock().unwrap(), "backups");
    let shared = server.clone();
    let error =
        repository.backup(request(vec![interrupted(move || shared.lock().unwrap().kill())])).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Temporary, "{error}");
    assert!(matches!(error, Error::Storage { .. }), "{error}");
    let mut server = server.lock().unwrap();
    server.restart();
    let repository = Repository::open(&bucket(&server, "backups"), &PASSWORD.into()).unwrap();
    assert!(repository.snapshots().unwrap().is_empty());
    assert!(repository.check(CheckDepth::ReadData).unwrap().is_ok());
    let _ = server.restic("backups", PASSWORD).ok(&["check", "--read-data"]);
    repository.backup(request(vec![interrupted(|| ())])).unwrap();
}

#[test]
fn a_server_that_freezes_for_a_while_costs_nothing_but_time() {
    let server = Arc::new(Mutex::new(S3Server::start()));
    let repository = in_bucket(&server.lock().unwrap(), "backups");
    let shared = server.clone();
    let backup = repository.backup(request(vec![interrupted(move || {
        shared.lock().unwrap().pause();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(3));
            shared.lock().unwrap().resume();
        });
    })]));
    backup.unwrap();
}
