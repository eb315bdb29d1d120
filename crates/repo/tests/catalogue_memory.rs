//! What 500 snapshots cost in memory: listing, looking into, removing, pruning, checking. Alone in its process, whose peak
//! is what is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the functions that tests share are tests, too")]

use std::{fs, time::Instant};

use kubedr_repo::{CheckDepth, InitOptions, Location, Repository, SnapshotId};
use kubedr_testing::{ManyBackups, Restic};
use tempfile::TempDir;

/// scrypt takes 128 of them, for a moment.
const LIMIT_MIB: u64 = 200;

const PASSWORD: &str = "password";

/// Pages that change from one to the next beside pages that never do.
const BACKUPS: ManyBackups = ManyBackups { count: 500, blobs: 256, new_blobs: 4, blob_size: 4096 };

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// Does it, and prints what it took.
fn measured<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    println!("{what}: {:.1?}, peak {} MiB", begin.elapsed(), peak_mib());
    done
}

#[test]
fn five_hundred_snapshots_stay_within_the_memory_of_a_small_job() {
    let directory = TempDir::new().unwrap();
    let location = Location::Local(directory.path().to_owned());
    drop(Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap());
    let stock = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let ids = measured("500 backups", || BACKUPS.write(&stock, directory.path()));
    let ids: Vec<SnapshotId> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
    let listed = measured("list", || repository.snapshots().unwrap());
    assert_eq!(listed.len(), ids.len());
    let contents = measured("contents", || repository.contents(&ids).unwrap());
    assert!(contents.iter().all(|one| one.as_ref().is_ok_and(|one| one.etcd)));
    let (old, kept) = ids.split_at(ids.len() - 20);
    let removed = measured("remove", || repository.remove_all(old));
    assert!(removed.iter().all(Result::is_ok));
    let report = measured("prune", || repository.plan_prune().unwrap().execute().unwrap());
    assert!(report.marked.packs + report.repacked.packs > 400, "{report:?}");
    let check = measured("check", || repository.check(CheckDepth::ReadData).unwrap());
    assert!(check.is_ok(), "{:?}", check.errors);
    assert_eq!(repository.snapshots().unwrap().len(), kept.len());
    let peak = peak_mib();
    assert!(peak < LIMIT_MIB, "peak {peak} MiB, limit {LIMIT_MIB} MiB");
}
