//! What it takes to delete most of 500 backups: our forget job, with everything that it tells the API server, beside
//! `restic forget --prune`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use jiff::SignedDuration;
use kubedr_testing::{FakeApi, ManyBackups, S3Server, age_marks, assert_success, run};
use serde_json::{Value, json};

use crate::measure::{Cost, measure};
use crate::programs::{PASSWORD, job, restic};
use crate::table::{heading, row, rows};

/// What the job may need at most, in MiB.
const LIMIT: f64 = 200.0;
/// As many blobs as the backups of an etcd of 290 MB have that changes by 1 % from one to the next. Index, trees and lists are as
/// long as theirs; the blobs themselves are a sixteenth, so that copies are quick.
const BACKUPS: ManyBackups = ManyBackups { count: 500, blobs: 17_700, new_blobs: 250, blob_size: 1 << 10 };
const DELETED: usize = 400;
const KINDS: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns";

pub fn of_500() -> Result<()> {
    let (s3, dir) = (S3Server::start(), tempfile::tempdir()?);
    assert_success(&run(&mut job(&s3, "made", "init")?));
    let made = s3.restic("made", PASSWORD);
    let snapshots = BACKUPS.write(&made, &s3.bucket_dir("made"));
    let (old, kept) = snapshots.split_at(DELETED);
    let repository_id = made.json(&["cat", "config"])["id"].as_str().unwrap_or_default().to_owned();
    for copy in ["kubedr", "restic"] {
        copy_all(&s3.bucket_dir("made"), &s3.bucket_dir(copy))?;
    }

    let api = api_server(&snapshots, old, &repository_id);
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig())?;
    let ours = measure(forget_job(&s3, old, &repository_id, &kubeconfig)?)?;
    let asked = count_calls(&api);
    let mut theirs = restic(&s3, "restic");
    theirs.args(["forget", "--prune"]).args(old);
    let theirs = measure(theirs)?;

    heading(&format!("{DELETED} of {} backups deleted, and space reclaimed", BACKUPS.count));
    rows(&ours, &theirs);
    request_rows(&s3.requests("kubedr"), &s3.requests("restic"));
    println!("API requests of the job: {asked}");
    println!(
        "kubedr checks the repository afterwards. It deletes what it marks here with the prune of the next day:"
    );
    age_marks(&s3.restic("kubedr", PASSWORD), &s3.bucket_dir("kubedr"), SignedDuration::from_hours(24));
    let before = s3.requests("kubedr");
    let next_day = measure(job(&s3, "kubedr", "prune")?)?;
    println!("{}", in_a_line(&next_day, &since(&before, s3.requests("kubedr"))));
    for bucket in ["kubedr", "restic"] {
        let left = s3.restic(bucket, PASSWORD);
        let ids: BTreeSet<String> =
            left.json(&["snapshots"]).as_array().into_iter().flatten().map(id_of).collect();
        ensure!(ids == kept.iter().cloned().collect(), "{bucket} kept other snapshots: {}", ids.len());
        drop(left.ok(&["check"]));
    }
    let peak = ours.peak.max(next_day.peak);
    ensure!(peak < LIMIT, "the job needed {peak:.0} MiB at its peak, more than {LIMIT}");
    Ok(())
}

/// What was asked since then.
fn since(then: &BTreeMap<String, usize>, now: BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let since = now.into_iter().map(|(what, count)| {
        let before = then.get(&what).copied().unwrap_or(0);
        (what, count - before)
    });
    since.filter(|(_, count)| *count > 0).collect()
}

fn in_a_line(cost: &Cost, requests: &BTreeMap<String, usize>) -> String {
    let Cost { wall, processor, peak, written: _ } = cost;
    let wall = wall.as_secs_f64();
    format!("{wall:.1} s, {processor:.1} s of the processor, {peak:.0} MiB, S3 requests {}", counts(requests))
}

fn counts(requests: &BTreeMap<String, usize>) -> String {
    let each: Vec<_> = requests.iter().map(|(what, count)| format!("{count} {what}")).collect();
    format!("{} ({})", requests.values().sum::<usize>(), each.join(", "))
}

fn id_of(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap_or_default().to_owned()
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(["-r", "--"]).arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp failed, {copied}");
    Ok(())
}

/// A location and the records of all snapshots; the old ones are being deleted.
fn api_server(snapshots: &[String], old: &[String], repository_id: &str) -> FakeApi {
    let api = FakeApi::default();
    let location = json!({
        "metadata": {"name": "s3", "namespace": "ns", "uid": "l1", "generation": 1},
        "spec": {"url": "http://h", "bucketName": "bucket", "credentials": "c"},
    });
    api.put(&format!("{KINDS}/backuplocations/s3"), location);
    for (number, snapshot) in snapshots.iter().enumerate() {
        let name = format!("mbr-{}", &snapshot[..8]);
        let deleted = (number < old.len()).then_some("2026-11-22T12:00:00Z");
        let record = json!({
            "metadata": {"name": name, "namespace": "ns", "deletionTimestamp": deleted, "finalizers": ["f"]},
            "spec": {"backuploc": "s3", "policy": "daily", "snapshotId": &snapshot[..8]},
            "status": {"snapshotId": snapshot, "repositoryId": repository_id},
        });
        api.put(&format!("{KINDS}/metadatabackuprecords/{name}"), record);
    }
    api
}

/// The job as its pod runs it.
fn forget_job(s3: &S3Server, old: &[String], repository_id: &str, kubeconfig: &Path) -> Result<Command> {
    let mut job = job(s3, "kubedr", "forget")?;
    job.env("KUBECONFIG", kubeconfig)
        .env("KUBEDR_LOCATION", "s3")
        .env("KUBEDR_CLUSTER_UID", "c1")
        .env("POD_NAMESPACE", "ns")
        .env("POD_NAME", "forget-1-x")
        .env("POD_UID", "p1")
        .env("KUBEDR_JOB_NAME", "forget-1")
        .env("KUBEDR_JOB_UID", "j1")
        .env("KUBEDR_REPOSITORY_ID", repository_id)
        .env("KUBEDR_SNAPSHOTS", old.join(","))
        .env("KUBEDR_PRUNE", "true");
    Ok(job)
}

fn count_calls(api: &FakeApi) -> String {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for request in api.take_requests() {
        let method = request.split(' ').next().unwrap_or_default();
        *counted.entry(method.to_owned()).or_default() += 1;
    }
    counts(&counted)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn request_rows(ours: &BTreeMap<String, usize>, theirs: &BTreeMap<String, usize>) {
    let sum = |requests: &BTreeMap<String, usize>| requests.values().sum::<usize>() as f64;
    row("S3 requests", sum(ours), sum(theirs));
    let operations: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    for operation in operations {
        let of = |requests: &BTreeMap<String, usize>| requests.get(operation).copied().unwrap_or(0) as f64;
        row(&format!("  {operation}"), of(ours), of(theirs));
    }
}
