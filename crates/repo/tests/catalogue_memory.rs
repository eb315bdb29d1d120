//! What 500 snapshots cost in memory: listing, looking into, removing, pruning, checking. Alone in its process, whose peak
//! is what is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the functions that tests share are tests, too")]

use std::{fs, io::Cursor, time::Instant};

use kubedr_repo::{BackupRequest, CheckDepth, InitOptions, Location, Repository, SnapshotId, Source};
use tempfile::TempDir;

/// scrypt takes 128 of them, for a moment.
const LIMIT_MIB: u64 = 200;

const SNAPSHOTS: u32 = 500;

/// Of each database: pages that change all the time beside pages that never do.
const PAGES: usize = 256;

fn database(round: u32) -> Vec<u8> {
    let mut bytes = vec![0; PAGES * 4096];
    for (number, page) in bytes.chunks_mut(4096).enumerate() {
        let changes = number % 64 == (round as usize % 64);
        let mut state = if changes { u64::from(round) << 32 | number as u64 } else { number as u64 };
        for word in page.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
    }
    bytes
}

fn backup(repository: &Repository, round: u32) -> SnapshotId {
    let content = database(round);
    let source = Source {
        path: "/data/etcd-snapshot.db".to_owned(),
        size: content.len() as u64,
        mode: 0o600,
        reader: Box::new(Cursor::new(content)),
    };
    let request = BackupRequest {
        time: jiff::Timestamp::now(),
        host: "master-1".to_owned(),
        tags: vec!["policy=nightly".to_owned()],
        path: "/data".to_owned(),
        sources: vec![source],
    };
    repository.backup(request).unwrap().snapshot_id
}

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
    let (repository, _) = Repository::init(&location, &"password".into(), &InitOptions::default()).unwrap();
    let ids: Vec<SnapshotId> =
        measured("500 backups", || (0..SNAPSHOTS).map(|round| backup(&repository, round)).collect());
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
