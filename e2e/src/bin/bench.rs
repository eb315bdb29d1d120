//! The figures of the project, measured side by side in one run: our job and stock restic on the same etcd, and the operator's memory.
//!
//! Absolute times are this machine's; what carries over is the ratio.
#![allow(clippy::print_stdout, reason = "the figures are its output")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Cluster, Release, seconds, until};
use kubedr_testing::{EtcdCluster, S3Server, assert_success, command, run, tool};

const MIB: f64 = 1024.0 * 1024.0;
/// What the job may need at most, in MiB.
const JOB_LIMIT: f64 = 160.0;
/// What the idle operator may need at most, in MiB.
const OPERATOR_LIMIT: f64 = 25.0;
/// With values of this size, an etcd of some 290 MB.
const KEYS: usize = 71_000;
const VALUE_BYTES: usize = 2_500;
const PASSWORD: &str = "bench";

/// What one program needed.
#[derive(Debug)]
struct Cost {
    wall: Duration,
    /// Highest resident size, MiB.
    peak: f64,
    /// What the bucket grew by, MiB.
    stored: f64,
    /// Regular files outside `/proc` that it had open for writing.
    written: BTreeSet<PathBuf>,
}

fn main() -> Result<()> {
    let job = backups()?;
    let operator = idle_operator()?;
    println!("\noperator, idle: {operator:.1} MiB resident (below {OPERATOR_LIMIT} MiB wanted)");
    ensure!(job < JOB_LIMIT, "the job needed {job:.0} MiB at its peak, more than {JOB_LIMIT}");
    ensure!(
        operator < OPERATOR_LIMIT,
        "the idle operator needs {operator:.1} MiB, more than {OPERATOR_LIMIT}"
    );
    Ok(())
}

/// Backs up an etcd with both programs, before and after a change of 1 %; gives back the highest peak of our job.
fn backups() -> Result<f64> {
    let (etcd, s3, dir) = (EtcdCluster::start(), S3Server::start(), tempfile::tempdir()?);
    etcd.fill("/bench/", KEYS, VALUE_BYTES);
    let job = Job { etcd: &etcd, s3: &s3, tmp: dir.path().join("tmp") };
    std::fs::create_dir(&job.tmp)?;
    assert_success(&run(&mut job.command("init")));
    drop(s3.restic("restic", PASSWORD).ok(&["init"]));
    let saved = dir.path().join("snapshot.db");

    let mut peak = 0_f64;
    for what in ["first backup", "after updates of 1 % of the keys"] {
        let ours = measure(job.command("backup"), &s3.bucket_dir("kubedr"))?;
        let began = Instant::now();
        let size = save(&etcd, &saved)?;
        let saving = began.elapsed();
        let mut theirs = measure(stock_restic(&s3, &saved)?, &s3.bucket_dir("restic"))?;
        theirs.wall += saving;
        println!("\n{what}, etcd of {:.0} MiB", mib(size));
        println!("{:<16} {:>10} {:>10} {:>8}", "", "kubedr", "restic", "ratio");
        row("peak, MiB", ours.peak, theirs.peak);
        row("time, s", ours.wall.as_secs_f64(), theirs.wall.as_secs_f64());
        row("stored, MiB", ours.stored, theirs.stored);
        ensure!(ours.written.is_empty(), "the job wrote files: {:?}", ours.written);
        ensure!(std::fs::read_dir(&job.tmp)?.next().is_none(), "the job left temporary files");
        peak = peak.max(ours.peak);
        etcd.churn("/bench/", KEYS, 100, VALUE_BYTES);
    }
    println!(
        "\nkubedr reads etcd itself and needs no temporary file; it reads back and compares what it stored."
    );
    println!("restic reads a file that etcdctl saves before, which is in its time; it reads nothing back.");
    Ok(peak)
}

struct Job<'a> {
    etcd: &'a EtcdCluster,
    s3: &'a S3Server,
    tmp: PathBuf,
}

impl Job<'_> {
    fn command(&self, subcommand: &str) -> Command {
        let client = self.etcd.client();
        let mut job =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/kubedr-backup-job"));
        job.arg(subcommand)
            .env_clear()
            .env("TMPDIR", &self.tmp)
            .env("KUBEDR_LOG_LEVEL", "warn")
            .env("RESTIC_REPOSITORY", self.s3.repository("kubedr"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", self.s3.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key())
            .env("ETCDCTL_ENDPOINTS", self.etcd.endpoints())
            .env("ETCDCTL_CACERT", &client.ca)
            .env("ETCDCTL_CERT", &client.cert)
            .env("ETCDCTL_KEY", &client.key);
        job
    }
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
    let mut restic = Command::new(tool("restic"));
    let repository = s3.repository("restic");
    restic.args([
        "--repo",
        &repository,
        "--no-cache",
        "backup",
        "--stdin",
        "--stdin-filename",
        "etcd-snapshot.db",
    ]);
    restic.envs(s3.restic("restic", PASSWORD).environment().iter().map(|(k, v)| (k, v)));
    restic.stdin(std::fs::File::open(file)?);
    Ok(restic)
}

/// Runs a program to its successful end.
fn measure(mut program: Command, bucket: &Path) -> Result<Cost> {
    let (before, began) = (size_of(bucket)?, Instant::now());
    let mut child = program.stdout(Stdio::null()).spawn()?;
    let (mut peak, mut written) = (0_f64, BTreeSet::new());
    let status = loop {
        peak = peak.max(high_water(&child).unwrap_or(0.0));
        written.extend(open_for_writing(&child));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{program:?} failed, {status}");
    Ok(Cost { wall: began.elapsed(), peak, stored: mib(size_of(bucket)?.saturating_sub(before)), written })
}

/// The kernel's own record of the highest resident size, which no peak between two looks escapes.
fn high_water(child: &Child) -> Option<f64> {
    memory(&std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?, "VmHWM:")
}

/// A line of `/proc/<pid>/status`, in MiB.
fn memory(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

fn open_for_writing(child: &Child) -> Vec<PathBuf> {
    let of = |what: &str| PathBuf::from(format!("/proc/{}/{what}", child.id()));
    let Ok(descriptors) = std::fs::read_dir(of("fd")) else { return Vec::new() };
    let path = |fd: std::fs::DirEntry| {
        // where its output goes is the caller's affair
        if ["0", "1", "2"].iter().any(|standard| fd.file_name() == *standard) {
            return None;
        }
        let info = std::fs::read_to_string(of("fdinfo").join(fd.file_name())).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let writable = u32::from_str_radix(flags.trim(), 8).ok()? & 0o3 != 0;
        let file = std::fs::read_link(fd.path()).ok()?;
        let regular = std::fs::metadata(fd.path()).ok()?.is_file();
        (writable && regular).then_some(file)
    };
    descriptors.filter_map(Result::ok).filter_map(path).collect()
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

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

fn row(what: &str, ours: f64, theirs: f64) {
    println!("{what:<16} {ours:>10.1} {theirs:>10.1} {:>8.2}", ours / theirs);
}

/// Resident size of the operator, in MiB, once it no longer grows.
fn idle_operator() -> Result<f64> {
    let cluster = Cluster::get();
    let _operator = Release::shared();
    let resident = || -> Result<f64> {
        let status = cluster.node(&["sh", "-c", "cat /proc/$(pgrep -xo kubedr-operator)/status"])?;
        memory(&status, "VmRSS:").context("no operator runs")
    };
    let (mut last, mut same) = (resident()?, 0);
    until("the operator's memory stays the same", seconds(60), || {
        let now = resident()?;
        same = if (now - last).abs() < 0.1 { same + 1 } else { 0 };
        last = last.max(now);
        ensure!(same >= 40, "{now:.1} MiB");
        Ok(now)
    })
}
