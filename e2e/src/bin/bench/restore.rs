//! A restore by our job beside one by stock restic.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use kubedr_testing::S3Server;

use crate::backup::LIMIT;
use crate::measure::{Cost, measure};
use crate::programs::{job, restic};
use crate::table::{heading, mib, rows};

/// Of so many runs, in turns, the quickest counts.
const RUNS: usize = 3;

/// Restores the latest snapshot of the bucket below `dir`.
pub fn of_latest(s3: &S3Server, bucket: &str, dir: &Path) -> Result<()> {
    let (our_dir, their_dir) = (dir.join("by-kubedr"), dir.join("by-restic"));
    let (mut our_runs, mut their_runs) = (Vec::new(), Vec::new());
    let mut size = 0;
    for _ in 0..RUNS {
        let mut ours = job(s3, bucket, "restore")?;
        ours.args(["latest", "--target"]).arg(&our_dir);
        our_runs.push(measure(ours)?);
        let mut theirs = restic(s3, bucket);
        theirs.args(["restore", "latest", "--target"]).arg(&their_dir);
        let mut theirs = measure(theirs)?;
        let began = Instant::now();
        flush(&their_dir)?;
        theirs.wall += began.elapsed();
        their_runs.push(theirs);
        size = same_files(&our_dir, &their_dir)?;
        std::fs::remove_dir_all(&our_dir)?;
        std::fs::remove_dir_all(&their_dir)?;
    }
    let (ours, theirs) = (quickest(our_runs)?, quickest(their_runs)?);
    heading(&format!("restore of {:.0} MiB, both from the repository that kubedr wrote", mib(size)));
    rows(&ours, &theirs);
    println!(
        "Both leave the same files, byte for byte. kubedr also checks the hash that etcd put after the database."
    );
    println!(
        "That the files reach the disk is in the time of both: kubedr sees to it itself, for restic the bench does."
    );
    println!("The quickest of {RUNS} runs each.");
    ensure!(ours.peak < LIMIT, "the restore needed {:.0} MiB at its peak, more than {LIMIT}", ours.peak);
    Ok(())
}

/// The quickest run, with the highest peak of all.
fn quickest(runs: Vec<Cost>) -> Result<Cost> {
    let peak = runs.iter().map(|run| run.peak).fold(0.0, f64::max);
    let quickest = runs.into_iter().min_by_key(|run| run.wall);
    quickest.map(|run| Cost { peak, ..run }).ok_or_else(|| anyhow::anyhow!("nothing was run"))
}

/// Waits until the files below this directory are on disk.
fn flush(dir: &Path) -> Result<()> {
    for path in files(dir, dir)?.keys() {
        std::fs::File::open(dir.join(path))?.sync_all()?;
    }
    Ok(())
}

/// The bytes of all files of two directories, which are the same.
fn same_files(one: &Path, other: &Path) -> Result<u64> {
    let (ones, others) = (files(one, one)?, files(other, other)?);
    ensure!(ones == others, "the restored files differ: {ones:?} and {others:?}");
    ensure!(ones.keys().any(|path| path.ends_with("etcd-snapshot.db")), "no etcd snapshot: {ones:?}");
    for path in ones.keys() {
        let bytes =
            |dir: &Path| Ok::<_, std::io::Error>(BufReader::new(std::fs::File::open(dir.join(path))?));
        let (mut ones, mut others) = (bytes(one)?, bytes(other)?);
        let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let count = ones.read(&mut a)?;
            if count == 0 {
                break;
            }
            others.read_exact(&mut b[..count])?;
            ensure!(a[..count] == b[..count], "`{}` differs", path.display());
        }
    }
    Ok(ones.values().sum())
}

/// All files below `dir` with their sizes, named from `root` on.
fn files(root: &Path, dir: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(root, &entry.path())?);
        } else {
            found.insert(entry.path().strip_prefix(root)?.to_owned(), entry.metadata()?.len());
        }
    }
    Ok(found)
}
