//! A backup of an etcd of some 290 MB, and its restore.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kubedr_testing::{EtcdCluster, S3Server, assert_success, command, run};

use crate::measure::measure;
use crate::programs::{PASSWORD, job, restic};
use crate::restore;
use crate::table::{heading, mib, row, rows};

/// What the job may need at most, in MiB.
pub const LIMIT: f64 = 160.0;
/// With values of this size, an etcd of some 290 MB.
const KEYS: usize = 71_000;
const VALUE_BYTES: usize = 2_500;
/// The bucket of our job.
const OURS: &str = "kubedr";
/// The bucket of stock restic.
const THEIRS: &str = "restic";

/// Backs up an etcd with both programs, before and after a change of 1 %, then restores our last backup with both.
pub fn and_restore() -> Result<()> {
    let (etcd, s3, dir) = (EtcdCluster::start(), S3Server::start(), tempfile::tempdir()?);
    etcd.fill("/bench/", KEYS, VALUE_BYTES);
    let tmp = dir.path().join("tmp");
    std::fs::create_dir(&tmp)?;
    assert_success(&run(&mut job(&s3, OURS, "init")?));
    drop(s3.restic(THEIRS, PASSWORD).ok(&["init"]));
    for what in ["first backup", "backup after updates of 1 % of the keys"] {
        one_backup(what, &etcd, &s3, &tmp, &dir.path().join("snapshot.db"))?;
        etcd.churn("/bench/", KEYS, 100, VALUE_BYTES);
    }
    println!(
        "\nkubedr reads etcd itself and needs no temporary file; it reads back and compares what it stored."
    );
    println!("restic reads a file that etcdctl saves before, which is in its time; it reads nothing back.");
    restore::of_latest(&s3, OURS, dir.path())
}

fn one_backup(what: &str, etcd: &EtcdCluster, s3: &S3Server, tmp: &Path, saved: &Path) -> Result<()> {
    let stored = |bucket: &str| size_of(&s3.bucket_dir(bucket));
    let (ours_before, theirs_before) = (stored(OURS)?, stored(THEIRS)?);
    let ours = measure(backup_job(etcd, s3, tmp)?)?;
    let began = Instant::now();
    let size = save(etcd, saved)?;
    let saving = began.elapsed();
    let mut theirs = measure(stock_restic(s3, saved)?)?;
    theirs.wall += saving;
    heading(&format!("{what}, etcd of {:.0} MiB", mib(size)));
    rows(&ours, &theirs);
    row("stored, MiB", mib(stored(OURS)? - ours_before), mib(stored(THEIRS)? - theirs_before));
    ensure!(ours.written.is_empty(), "the job wrote files: {:?}", ours.written);
    ensure!(std::fs::read_dir(tmp)?.next().is_none(), "the job left temporary files");
    ensure!(ours.peak < LIMIT, "the job needed {:.0} MiB at its peak, more than {LIMIT}", ours.peak);
    Ok(())
}

fn backup_job(etcd: &EtcdCluster, s3: &S3Server, tmp: &Path) -> Result<Command> {
    let (mut job, client) = (job(s3, OURS, "backup")?, etcd.client());
    job.env("TMPDIR", tmp)
        .env("ETCDCTL_ENDPOINTS", etcd.endpoints())
        .env("ETCDCTL_CACERT", &client.ca)
        .env("ETCDCTL_CERT", &client.cert)
        .env("ETCDCTL_KEY", &client.key);
    Ok(job)
}

/// `etcdctl snapshot save`; gives back the size of the file.
fn save(etcd: &EtcdCluster, file: &Path) -> Result<u64> {
    let client = etcd.client();
    let mut etcdctl = command("etcdctl");
    etcdctl
        .args(["--endpoints", &etcd.endpoints(), "--cacert"])
        .arg(&client.ca)
        .arg("--cert")
        .arg(&client.cert);
    etcdctl.arg("--key").arg(&client.key).args(["snapshot", "save"]).arg(file);
    assert_success(&run(&mut etcdctl));
    Ok(std::fs::metadata(file)?.len())
}

fn stock_restic(s3: &S3Server, file: &Path) -> Result<Command> {
    let mut restic = restic(s3, THEIRS);
    restic.args(["backup", "--stdin", "--stdin-filename", "etcd-snapshot.db"]);
    restic.stdin(std::fs::File::open(file)?);
    Ok(restic)
}

fn size_of(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { size_of(&entry.path())? } else { meta.len() };
    }
    Ok(sum)
}
