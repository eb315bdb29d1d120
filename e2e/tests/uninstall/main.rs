//! Runs last, since it takes the CRDs away: uninstalls the chart in the order that is worst, installs it again, and removes all of it;
//! upgrades from the first chart; takes KubeDR 0.x over. Nothing may hang, and no record and no snapshot may go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod takeover;
mod upgrade;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{
    Case, Cluster, OwnS3, Release, Run, SHARED_NAMESPACE, case_with_operator, resource, seconds, until,
};
use kubedr_testing::{Restic, assert_success, run, tool};
use serde_json::{Value, json};

const RECORDS: &str = "metadatabackuprecords";
const FINALIZER: &str = "mbr.finalizers.kubedr.catalogicsoftware.com";
/// As many as a policy keeps by default, and more.
const MANY: u32 = 200;
/// Who write them.
const WRITERS: u32 = 8;

/// Holds off the other tests: each has all of the cluster.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn crds() -> Result<Vec<String>> {
    let crds = Cluster::get().kubectl(&["get", "crd", "--output=name"])?;
    Ok(crds.lines().filter(|crd| crd.ends_with(".kubedr.catalogicsoftware.com")).map(str::to_owned).collect())
}

/// Applies a location that never answers and so many records in it, with their finalizer, as backups leave them.
fn leave_behind(namespace: &str, records: u32) -> Result<()> {
    let api = Cluster::get().api();
    let version = "kubedr.catalogicsoftware.com/v1alpha1";
    let location = json!({
        "apiVersion": version, "kind": "BackupLocation", "metadata": { "name": "last" },
        "spec": { "url": "http://127.0.0.1:1", "bucketName": "last", "credentials": "last" },
    });
    api.apply(&format!("{}/last", resource(namespace, "backuplocations")), &location)?;
    let leave = |number: u32| {
        let id = format!("{number:08x}");
        let record = json!({
            "apiVersion": version, "kind": "MetadataBackupRecord",
            "metadata": { "name": format!("mbr-{id}"), "finalizers": [FINALIZER] },
            "spec": { "backuploc": "last", "policy": "last", "snapshotId": id },
        });
        api.apply(&format!("{}/mbr-{id}", resource(namespace, RECORDS)), &record).map(drop)
    };
    std::thread::scope(|scope| {
        let share = |first: u32| (first..records).step_by(WRITERS as usize).try_for_each(leave);
        let writers: Vec<_> = (0..WRITERS).map(|first| scope.spawn(move || share(first))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
    })
}

/// Uninstalls the release of a namespace, which must be done within two minutes.
fn uninstall(namespace: &str, more: &[&str]) -> Result<()> {
    let began = Instant::now();
    let args = ["uninstall", "kubedr", "--namespace", namespace, "--wait", "--timeout=120s"];
    let gone = Cluster::get().helm(&[&args, more].concat())?;
    ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    ensure!(began.elapsed() < seconds(120), "it took {:?}", began.elapsed());
    Ok(())
}

/// Deletes a namespace, which must be gone in time.
fn delete_namespace(namespace: &str, limit: Duration) -> Result<()> {
    let (api, path) = (Cluster::get().api(), format!("/api/v1/namespaces/{namespace}"));
    api.delete(&path)?;
    until("the namespace is gone", limit, || {
        let found = api.find(&path)?;
        ensure!(found.is_none(), "its status: {}", found.unwrap_or_default()["status"]);
        Ok(())
    })
}

/// Ids of all snapshots, sorted.
fn snapshots(restic: &Restic) -> Vec<String> {
    let all = restic.json(&["snapshots"]);
    let id = |snapshot: &Value| snapshot["id"].as_str().unwrap_or_default().to_owned();
    let mut ids: Vec<_> = all.as_array().into_iter().flatten().map(id).collect();
    ids.sort();
    ids
}

/// How many records there are, and how many have the finalizer.
fn records(namespace: &str) -> Result<(usize, usize)> {
    let all = Cluster::get().api().list(&resource(namespace, RECORDS), "")?;
    let guarded =
        all.iter().filter(|record| record["metadata"]["finalizers"].to_string().contains(FINALIZER)).count();
    Ok((all.len(), guarded))
}

/// Two backups, one of which an admin has just deleted while the storage is away; the release goes, then the namespace.
fn go_while_the_storage_is_away(t: &Case) -> Result<()> {
    let mut s3 = OwnS3::up()?;
    t.apply_location(s3.location())?;
    t.apply_policy(json!({}))?;
    t.await_initialised()?;
    t.await_scheduled()?;
    let (_, first) = Run::succeed(t, "a")?;
    Run::succeed(t, "b")?;
    let before = snapshots(&s3.restic(t));
    ensure!(before.len() == 2, "{before:?}");
    s3.stop();
    leave_behind(t.namespace(), MANY)?;
    t.api().delete(&t.path(RECORDS, first["mbrName"].as_str().context("a record")?))?;

    uninstall(t.namespace(), &[])?;
    let left = records(t.namespace())?;
    ensure!(left == (MANY as usize + 1, 0), "records, and with a finalizer: {left:?}");
    t.get("metadatabackuppolicies", t.name())?;
    t.get("backuplocations", t.name())?;
    ensure!(t.release().operator_pods()?.is_empty(), "{:?}", t.release().operator_pods()?);
    for plural in ["jobs", "serviceaccounts"] {
        let hook = t.api().find(&t.path(plural, "kubedr-uninstall"))?;
        ensure!(hook.is_none(), "the hook leaves its {plural}: {hook:?}");
    }

    delete_namespace(t.namespace(), seconds(180))?;
    s3.start()?;
    let after = snapshots(&s3.restic(t));
    ensure!(after == before, "snapshots before: {before:?}, after: {after:?}");
    Ok(())
}

/// A backup, and records whose kind is deleted and then, when it is there again, their namespace, while an operator runs and the storage
/// is away.
fn go_with_namespace_or_crd(t: &Case) -> Result<()> {
    let mut s3 = OwnS3::up()?;
    t.apply_location(s3.location())?;
    t.apply_policy(json!({}))?;
    t.await_initialised()?;
    t.await_scheduled()?;
    Run::succeed(t, "a")?;
    let before = snapshots(&s3.restic(t));
    s3.stop();
    leave_behind(t.namespace(), MANY)?;
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metadatabackuprecords.kubedr.catalogicsoftware.com";
    t.api().delete(crd)?;
    until("the CRD is gone", seconds(180), || {
        let found = t.api().find(crd)?;
        ensure!(found.is_none(), "its status: {}", found.unwrap_or_default()["status"]);
        Ok(())
    })?;

    Release::shared().upgrade(&[])?;
    until("records are served again", seconds(30), || records(t.namespace()))?;
    leave_behind(t.namespace(), MANY)?;
    delete_namespace(t.namespace(), seconds(180))?;
    follow(&command_of("install.md", "clusterrolebinding")?.replace("kubedr-system", t.namespace()))?;
    let role = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/kubedr-operator-{}", t.namespace());
    ensure!(t.api().find(&role)?.is_none(), "the ClusterRole is still there");
    s3.start()?;
    let after = snapshots(&s3.restic(t));
    ensure!(before.len() == 1 && after == before, "snapshots before: {before:?}, after: {after:?}");
    Ok(())
}

/// The blocks of a page of the documentation that only this test can run.
fn blocks_of(page: &str) -> Result<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let page = std::fs::read_to_string(page)?;
    let blocks = page.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(str::to_owned).collect())
}

/// The one of them that has this part.
fn command_of(page: &str, part: &str) -> Result<String> {
    blocks_of(page)?.into_iter().find(|command| command.contains(part)).context("no such commands")
}

fn follow(commands: &str) -> Result<()> {
    let tools = tool("kubectl").parent().context("a directory of tools")?.display().to_string();
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -euo pipefail\n{commands}")]);
    shell.env("KUBECONFIG", Cluster::get().kubeconfig());
    assert_success(&run(shell.env("PATH", format!("{tools}:{}", std::env::var("PATH")?))));
    Ok(())
}

/// Uninstalls, installs again, uninstalls without the hook, and removes the namespace.
fn go_come_and_go() -> Result<()> {
    let cluster = Cluster::get();
    let _installed = Release::shared();
    leave_behind(SHARED_NAMESPACE, 20)?;
    uninstall(SHARED_NAMESPACE, &[])?;
    ensure!(crds()?.len() == 4, "the CRDs stay, and all objects with them: {:?}", crds()?);
    cluster.kubectl(&["--namespace", SHARED_NAMESPACE, "get", "backuplocation", "last"])?;
    let (left, guarded) = records(SHARED_NAMESPACE)?;
    ensure!(left >= 20 && guarded == 0, "{left} records, {guarded} of them with a finalizer");

    // what is left belongs to the same release: no --take-ownership is needed
    Release::shared().upgrade(&[])?;
    leave_behind(SHARED_NAMESPACE, 20)?;
    follow(&command_of("install.md", "--no-hooks")?)?;
    let (left, guarded) = records(SHARED_NAMESPACE)?;
    ensure!(left >= 20 && guarded == 0, "{left} records, {guarded} of them with a finalizer");

    // the namespace before the objects and the CRDs, and no operator to help
    delete_namespace(SHARED_NAMESPACE, seconds(90))
}

/// Removes what is left of all releases.
fn go_for_good() -> Result<()> {
    let cluster = Cluster::get();
    for crd in crds()? {
        cluster.kubectl(&["delete", &crd, "--timeout=60s"])?;
    }
    until("the CRDs are gone", seconds(30), || {
        ensure!(crds()?.is_empty(), "{:?}", crds()?);
        Ok(())
    })
}

// One test, for at last the CRDs go, which both halves need until then.
#[test]
fn the_chart_goes_and_comes_in_any_order_and_nothing_hangs() {
    let _alone = alone();
    let _installed = Release::shared();
    case_with_operator("farewell", &[], go_with_namespace_or_crd);
    thread::scope(|scope| {
        scope.spawn(|| case_with_operator("goodbye", &[], go_while_the_storage_is_away));
        go_come_and_go().expect("the chart can be removed");
    });
    go_for_good().expect("the CRDs can be removed");
}
