//! Restores by resource: what a record stands for comes back on a claim, or the reason is told.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Access, Case, Run, Volume, case, contains_all, passes, seconds, until};
use serde_json::{Value, json};

use crate::tree::{restored_etcd, same_tree};

/// A backup of etcd and the certificates; gives back its record's name.
fn back_up(t: &Case) -> Result<String> {
    t.set_up(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
    let (_, status) = Run::succeed(t, "a")?;
    Ok(status["mbrName"].as_str().context("a record")?.to_owned())
}

/// Whether the volume holds the cluster's etcd and the node's certificates.
pub fn holds_the_cluster(t: &Case, volume: &Volume) -> Result<()> {
    let path = volume.path(t)?;
    ensure!(restored_etcd(&path)?.count("/registry/namespaces/") >= 4, "Kubernetes' own keys");
    same_tree(&path.join("data/certificates"), &t.cluster().pki())?;
    let top: Vec<_> = std::fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(top == ["data"], "beside the data there is {top:?}");
    let mut data: Vec<_> =
        std::fs::read_dir(path.join("data"))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    data.sort();
    ensure!(data == ["certificates", "etcd-snapshot.db"], "in data there is {data:?}");
    Ok(())
}

#[test]
fn a_record_comes_back_on_a_claim_and_replaces_what_is_there_only_if_asked() {
    case("back", |t| {
        let record = back_up(t)?;
        let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
        let first = t.start_restore("first", &record, volume.claim(), json!({}))?;
        let pod = until("the restore's pod", seconds(15), || t.restore_pod(&first))?;
        let security = &pod["spec"]["containers"][0]["securityContext"];
        let capabilities = json!({ "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"], "drop": ["ALL"] });
        ensure!(security["capabilities"] == capabilities, "{security}");
        ensure!(pod["spec"]["hostNetwork"] != true, "it needs the pod network only");
        let restore = t.expect_restored(&first)?;
        let full = t.get("metadatabackuprecords", &record)?["status"]["snapshotId"].take();
        ensure!(restore["status"]["snapshotId"] == full, "{restore}");
        ensure!(restore["status"].get("restoreMessage").is_none(), "no warning: {restore}");
        holds_the_cluster(t, &volume)?;

        let before = volume.inventory(t)?;
        let second = t.start_restore("second", &record, volume.claim(), json!({}))?;
        t.expect_restore_failed(&second, &["/data` exists", "spec.overwrite: true"])?;
        ensure!(volume.inventory(t)? == before, "the volume was touched");

        std::fs::write(volume.path(t)?.join("data/of-before"), "old")?;
        let spec = json!({ "spec": { "overwrite": true } });
        let third = t.start_restore("third", &record, volume.claim(), spec)?;
        t.expect_restored(&third)?;
        holds_the_cluster(t, &volume)
    });
}

#[test]
fn what_kubedr_backed_up_comes_back_from_either_repository_version() {
    for version in [1, 2] {
        case(&format!("legacy{version}"), |t| {
            let snapshot = t.back_up_as_kubedr(version)?;
            t.apply_right_keys()?;
            t.apply_location(json!({}))?;
            t.await_initialised()?;
            let record = t.apply_record_of_kubedr(&snapshot)?;
            let volume = Volume::new(t, "v", Access::ReadWriteMany)?;
            let restore = t.start_restore("r", &record, volume.claim(), json!({}))?;
            t.expect_restored(&restore)?;
            holds_the_cluster(t, &volume)
        });
    }
}

#[test]
fn what_a_restore_names_and_is_not_there_is_told_at_once() {
    case("nothing", |t| {
        let record = back_up(t)?;
        let (volume, other) =
            (Volume::new(t, "v", Access::ReadWriteOnce)?, Volume::new(t, "w", Access::ReadWriteOnce)?);
        let pod = other.occupy(t)?;
        let pending = t.apply_pending_claim("p", Access::ReadWriteOnce)?;
        let orphan =
            json!({ "spec": { "backuploc": "nowhere", "policy": t.name(), "snapshotId": "0a0b0c0d" } });
        let orphan = t.apply_record("mbr-0a0b0c0d", orphan)?;
        let refused = |suffix: &str, record: &str, claim: &str, parts: &[&str]| -> Result<()> {
            let name = t.start_restore(suffix, record, claim, json!({}))?;
            t.expect_restore_failed(&name, parts)?;
            ensure!(t.restore_pods(&name)?.is_empty(), "nothing was started");
            Ok(())
        };
        refused("a", "mbr-00000000", volume.claim(), &["no MetadataBackupRecord `mbr-00000000`"])?;
        refused("b", &orphan, volume.claim(), &["BackupLocation `nowhere`", "does not exist"])?;
        refused("c", &record, "no-such-claim", &["no PersistentVolumeClaim `no-such-claim`"])?;
        refused("d", &record, other.claim(), &["in use by pod", &pod])?;
        let name = t.start_restore("e", &record, &pending, json!({}))?;
        t.expect_restore_failed(&name, &["unbound"])?;
        t.api().delete(&t.path("metadatabackuprecords", &orphan))
    });
}

#[test]
fn a_snapshot_that_is_gone_and_a_volume_that_is_too_small_are_told_with_what_to_do() {
    case("small", |t| {
        let record = back_up(t)?;
        let small = Volume::small(t, "s", Access::ReadWriteOnce, 1)?;
        let name = t.start_restore("s", &record, small.claim(), json!({}))?;
        t.expect_restore_failed(&name, &["too small"])?;
        ensure!(small.inventory(t)?.is_empty(), "it left {}", small.inventory(t)?);
        let pods = t.restore_pods(&name)?;
        ensure!(pods.len() == 1, "nothing is tried again: {} pods", pods.len());

        let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
        let full = t.get("metadatabackuprecords", &record)?["status"]["snapshotId"].take();
        passes(&t.restic(), &["forget", full.as_str().context("an id")?]);
        let name = t.start_restore("g", &record, volume.claim(), json!({}))?;
        t.expect_restore_failed(&name, &["no snapshot", full.as_str().unwrap_or_default()])?;
        ensure!(volume.inventory(t)?.is_empty(), "it left {}", volume.inventory(t)?);
        Ok(())
    });
}

#[test]
fn a_volume_that_takes_no_owners_is_a_warning_that_names_the_files() {
    case("owners", |t| {
        let dir = format!("/etc/{}", t.name());
        let made = "set -e; mkdir -p \"$0\"; echo key > \"$0/theirs.key\"; chown 4321:4322 \"$0/theirs.key\"";
        t.cluster().node(&["bash", "-c", made, &dir])?;
        t.set_up(json!({ "spec": { "certsDir": dir } }))?;
        let (_, status) = Run::succeed(t, "a")?;
        let record = status["mbrName"].as_str().context("a record")?.to_owned();
        let volume = Volume::refusing_chown(t, "v", Access::ReadWriteOnce)?;
        let name = t.start_restore("r", &record, volume.claim(), json!({}))?;
        let restore = t.expect_restored(&name)?;
        let message = restore["status"]["restoreMessage"].as_str().context("a warning")?.to_owned();
        contains_all(&message, &["owner", "theirs.key"])?;
        let warned = t.restore_events(&name)?;
        let warned = warned.iter().filter(|event| event.reason == "OwnersNotRestored").count();
        ensure!(warned == 1, "{warned} warnings");
        ensure!(volume.path(t)?.join("data/certificates/theirs.key").is_file(), "the file itself is there");
        t.cluster().node(&["rm", "-rf", &dir])?;
        Ok(())
    });
}

#[test]
fn wrong_keys_fail_a_restore_with_what_to_do() {
    case("denied", |t| {
        let record = back_up(t)?;
        let secret: Value = json!({
            "access_key": t.cluster().var("AWS_ACCESS_KEY_ID"),
            "secret_key": t.cluster().var("AWS_SECRET_ACCESS_KEY"),
            "restic_repo_password": format!("{}-wrong", t.password()),
        });
        t.apply_secret(&format!("{}-s3", t.name()), &secret)?;
        let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
        let name = t.start_restore("r", &record, volume.claim(), json!({}))?;
        t.expect_restore_failed(&name, &["wrong password"])?;
        ensure!(volume.inventory(t)?.is_empty(), "it left {}", volume.inventory(t)?);
        Ok(())
    });
}
