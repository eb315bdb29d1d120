//! Locations of the real world: prefixes, private authorities, roles instead of keys, read-only repositories, volumes.

use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{
    Access, Case, Cluster, OwnS3, Run, Volume, case, case_with_operator, condition, contains_all, passes,
    seconds, until,
};
use kubedr_testing::{Account, Restic, RoleServer};
use serde_json::{Value, json};

use crate::location::{expect_init_failed, init_pods};
use crate::restore::holds_the_cluster;

/// Waits until the location, in its present form, is said to have failed for this reason.
fn expect_refused(t: &Case, parts: &[&str]) -> Result<()> {
    until("the location says why it failed", seconds(120), || {
        let found = t.get("backuplocations", t.name())?;
        let status = &found["status"];
        ensure!(status["initStatus"] == "Failed", "its status: {status}");
        ensure!(status["observedGeneration"] == found["metadata"]["generation"], "an older one has");
        contains_all(status["initErrorMessage"].as_str().unwrap_or_default(), parts)
    })
}

fn certificates(t: &Case, pem: &str) -> Result<()> {
    let name = format!("{}-ca", t.name());
    t.apply_secret(&name, &json!({ "root.pem": pem }))?;
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "ca.crt": pem } });
    t.api().apply(&t.path("configmaps", &name), &map).map(drop)
}

#[test]
fn clusters_share_a_bucket_with_a_repository_each() {
    case("prefix", |t| {
        let repository = |prefix: &str| t.cluster().restic(&format!("{}/{prefix}", t.name()), &t.password());
        let prefixes = ["clusters/berlin", "clusters/bonn"];
        for (prefix, run) in prefixes.into_iter().zip(["a", "b"]) {
            t.apply_location(json!({ "spec": { "prefix": prefix } }))?;
            t.apply_policy(json!({}))?;
            let location = t.await_initialised()?;
            let config = repository(prefix).json(&["cat", "config"]);
            ensure!(location["status"]["repositoryId"] == config["id"], "{}", location["status"]);
            let url = format!("\"{}\"", repository(prefix).repository());
            until("backups go there", seconds(30), || {
                contains_all(&t.cron_job()?["spec"].to_string(), &[&url])
            })?;
            Run::succeed(t, run)?;
        }
        for prefix in prefixes {
            let snapshots = repository(prefix).json(&["snapshots"]);
            ensure!(snapshots.as_array().is_some_and(|all| all.len() == 1), "{prefix}: {snapshots}");
        }
        ensure!(!t.restic().run(&["cat", "config"]).status.success(), "the bucket's root is no repository");
        Ok(())
    });
}

#[test]
fn a_private_authority_is_trusted_from_a_secret_or_a_config_map() {
    case("tls", |t| {
        let s3 = OwnS3::up_with_tls()?;
        let name = format!("{}-ca", t.name());
        let trust = |ca: Value| {
            let mut location = s3.location();
            location["spec"]["caCert"] = ca;
            t.apply_location(location)
        };
        t.apply_location(s3.location())?;
        expect_init_failed(t, &[&s3.url(), "certificate"])?;

        trust(json!({ "secret": { "name": name, "key": "root.pem" } }))?;
        expect_refused(t, &["`caCert`", &format!("Secret `{name}`"), "does not exist"])?;
        certificates(t, "this is no certificate\n")?;
        expect_refused(t, &["`caCert`", "`root.pem`", "PEM"])?;
        let other = OwnS3::up_with_tls()?;
        certificates(t, &other.ca_pem()?)?;
        expect_refused(t, &[&s3.url(), "certificate"])?;
        certificates(t, &s3.ca_pem()?)?;
        t.await_initialised()?;
        t.apply_policy(json!({}))?;
        t.await_scheduled()?;
        Run::succeed(t, "a")?;

        trust(json!({ "configMap": { "name": name } }))?;
        t.await_initialised()?;
        t.await_scheduled()?;
        Run::succeed(t, "b")?;
        passes(&s3.restic(t), &["check", "--read-data"]);
        Ok(())
    });
}

#[test]
fn any_certificate_will_do_if_the_location_says_so() {
    case("anyone", |t| {
        let s3 = OwnS3::up_with_tls()?;
        let mut location = s3.location();
        location["spec"]["insecureSkipTLSVerify"] = json!(true);
        t.apply_location(location)?;
        t.await_initialised()?;
        t.apply_policy(json!({}))?;
        t.await_scheduled()?;
        Run::succeed(t, "a")?;
        passes(&s3.restic(t), &["check", "--read-data"]);
        Ok(())
    });
}

#[test]
fn a_session_token_goes_with_the_keys() {
    case("token", |t| {
        // The server's accounts are lasting ones, so it refuses a token: that is how it shows that it got one.
        let secret = format!("{}-s3", t.name());
        let mut values = json!({
            "access_key": t.cluster().var("AWS_ACCESS_KEY_ID"),
            "secret_key": t.cluster().var("AWS_SECRET_ACCESS_KEY"),
            "restic_repo_password": t.password(),
            "session_token": "no-such-session",
        });
        t.apply_secret(&secret, &values)?;
        t.apply_location(json!({}))?;
        let message = expect_init_failed(t, &["InvalidToken", "session_token"])?;
        ensure!(!message.contains("no-such-session"), "{message}");
        values["session_token"] = json!("");
        t.apply_secret(&secret, &values)?;
        t.await_initialised().map(drop)
    });
}

#[test]
fn without_keys_the_jobs_take_the_role_of_the_node_or_of_their_service_account() {
    let cluster = Cluster::get();
    let key = |name: &str| cluster.var(name).to_owned();
    let account = Account { access_key: key("AWS_ACCESS_KEY_ID"), secret_key: key("AWS_SECRET_ACCESS_KEY") };
    let host = cluster.s3_address().expect("the S3 server's address");
    let roles = RoleServer::start_for_pods(host, &account);
    let metadata = format!("job.env.AWS_EC2_METADATA_SERVICE_ENDPOINT={}", roles.endpoint());
    case_with_operator("roles", &[&metadata], |t| {
        t.api().delete(&t.path("secrets", &format!("{}-s3", t.name())))?;
        t.apply_secret(&format!("{}-s3", t.name()), &json!({ "restic_repo_password": t.password() }))?;
        t.set_up(json!({}))?;
        Run::succeed(t, "a")?;
        ensure!(roles.asked().iter().any(|question| question.starts_with("PUT ")), "{:?}", roles.asked());

        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        t.release().upgrade(&[
            "job.env.AWS_ROLE_ARN=arn:aws:iam::123456789012:role/backup",
            &format!("job.env.AWS_WEB_IDENTITY_TOKEN_FILE={token}"),
            &format!("job.env.AWS_ENDPOINT_URL_STS={}", roles.endpoint()),
        ])?;
        until("the next backup has the role", seconds(60), || {
            contains_all(&t.cron_job()?["spec"].to_string(), &["AWS_WEB_IDENTITY_TOKEN_FILE"])
        })?;
        Run::succeed(t, "b")?;
        ensure!(roles.asked().iter().any(|question| question == "POST /"), "{:?}", roles.asked());
        t.expect_stored(2)
    });
}

/// Every file below a directory: path, size and time, sorted.
fn listing(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
            }
            let time = metadata.modified()?.duration_since(UNIX_EPOCH)?;
            found.push(format!("{} {} {time:?}", entry.path().display(), metadata.len()));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_read_only_location_lists_and_restores_and_changes_nothing() {
    case("read-only", |t| {
        let s3 = OwnS3::up()?;
        t.apply_location(s3.location())?;
        t.apply_policy(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
        t.await_initialised()?;
        t.await_scheduled()?;
        let (_, status) = Run::succeed(t, "a")?;
        let record = status["mbrName"].as_str().context("a record")?.to_owned();
        let before = listing(&s3.bucket_dir(t.name()))?;

        let mut location = s3.location();
        location["spec"]["accessMode"] = json!("ReadOnly");
        t.apply_location(location)?;
        t.await_initialised()?;
        until("the policy says why it takes no backup", seconds(30), || {
            let ready = condition(&t.get("metadatabackuppolicies", t.name())?, "Ready")?;
            ensure!(ready["reason"] == "LocationReadOnly", "{ready}");
            ensure!(t.cron_job()?["spec"]["suspend"] == true, "the CronJob goes on");
            Ok(())
        })?;
        let volume = Volume::new(t, "v", Access::ReadWriteOnce)?;
        let restore = t.start_restore("r", &record, volume.claim(), json!({}))?;
        t.expect_restored(&restore)?;
        holds_the_cluster(t, &volume)?;
        let after = listing(&s3.bucket_dir(t.name()))?;
        ensure!(before == after, "before: {before:?}, after: {after:?}");
        passes(&s3.restic(t), &["check", "--read-data"]);
        Ok(())
    });
}

#[test]
fn a_read_only_location_makes_neither_bucket_nor_repository() {
    case("ro-none", |t| {
        let s3 = OwnS3::up()?;
        let mut location = s3.location();
        location["spec"]["accessMode"] = json!("ReadOnly");
        t.apply_location(location)?;
        expect_init_failed(t, &[t.name()])?;
        ensure!(!s3.bucket_dir(t.name()).exists(), "it made the bucket");
        std::fs::create_dir(s3.bucket_dir(t.name()))?;
        expect_refused(t, &["no repository", "accessMode: ReadOnly"])?;
        let left = listing(&s3.bucket_dir(t.name()))?;
        ensure!(left.is_empty(), "it made {left:?}");
        Ok(())
    });
}

/// A location on a volume, below a prefix.
fn on_claim(claim: &str) -> Value {
    json!({ "spec": { "url": null, "bucketName": null, "prefix": "clusters/berlin", "volume": { "claimName": claim } } })
}

#[test]
fn a_volume_holds_a_repository_from_which_a_backup_comes_back_on_another() {
    for (name, access) in [("rwx", Access::ReadWriteMany), ("rwo", Access::ReadWriteOnce)] {
        case(name, |t| {
            let volume = Volume::new(t, "repository", access)?;
            t.apply_location(on_claim(volume.claim()))?;
            t.apply_policy(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
            let location = t.await_initialised()?;
            let events = t.events("BackupLocation")?;
            ensure!(
                events.iter().any(|e| e.reason == "InitSucceeded" && e.message.contains(volume.claim())),
                "{events:?}"
            );
            t.await_scheduled()?;
            let (run, status) = Run::succeed(t, "a")?;
            let pod = run.pod(t)?;
            let node = &location["status"]["volumeNode"];
            if access == Access::ReadWriteOnce {
                ensure!(*node == pod["spec"]["nodeName"], "volumeNode: {node}");
                contains_all(
                    &pod["spec"]["affinity"].to_string(),
                    &["metadata.name", node.as_str().unwrap_or("?")],
                )?;
            } else {
                ensure!(node.is_null(), "volumeNode: {node}");
            }
            let repository = volume.path(t)?.join("clusters/berlin").display().to_string();
            let restic = Restic::new(&repository, &t.password());
            t.expect_stored_in(&restic, 1)?;
            passes(&restic, &["check", "--read-data"]);
            let target = Volume::new(t, "target", Access::ReadWriteOnce)?;
            let record = status["mbrName"].as_str().context("a record")?;
            let restore = t.start_restore("r", record, target.claim(), json!({}))?;
            t.expect_restored(&restore)?;
            holds_the_cluster(t, &target)
        });
    }
}

#[test]
fn a_volume_that_cannot_be_used_is_told_and_used_as_soon_as_it_can() {
    case("no-claim", |t| {
        t.apply_location(on_claim(&format!("{}-v", t.name())))?;
        expect_init_failed(
            t,
            &["no PersistentVolumeClaim", &format!("`{}-v`", t.name()), "spec.volume.claimName"],
        )?;
        ensure!(init_pods(t)?.is_empty(), "nothing was started");
        let _volume = Volume::new(t, "v", Access::ReadWriteOncePod)?;
        t.await_initialised()?;
        let pending = t.apply_pending_claim("p", Access::ReadWriteOnce)?;
        t.apply_location(on_claim(&pending))?;
        expect_refused(t, &["no node can take", &format!("`{pending}`"), "unbound"])?;
        let read_only = Volume::new(t, "ro", Access::ReadOnlyMany)?;
        t.apply_location(on_claim(read_only.claim()))?;
        expect_refused(t, &[read_only.claim(), "can only be read"])
    });
}
