//! Backups that fail because of what they are to back up, or of where to: no success that is not one.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, OwnS3, Run, case, seconds, until};
use serde_json::json;

/// Starts a run that must fail, with a message that has all `parts`; nothing may be stored.
fn fails(t: &Case, suffix: &str, exit_code: i64, parts: &[&str]) -> Result<String> {
    let run = Run::start(t, suffix)?;
    let pod = run.await_end(t, "Failed", seconds(90))?;
    ensure!(Run::exit_code(&pod) == Some(exit_code), "exit code {exit_code} expected: {}", pod["status"]);
    let message = t.expect_failed(&run, seconds(30), parts)?;
    ensure!(t.policy_status()?["backupPod"] == pod["metadata"]["name"], "{}", t.policy_status()?);
    t.expect_stored(0)?;
    Ok(message)
}

/// The files of etcd's client that Kubernetes itself uses.
fn pem(t: &Case, file: &str) -> Result<String> {
    let path = t.cluster().pki().join(file);
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

#[test]
fn a_missing_etcd_secret_and_a_missing_key_of_it_are_named() {
    case("etcd-secret", |t| {
        let secret = format!("{}-etcd", t.name());
        t.set_up(json!({ "spec": { "etcdCreds": secret } }))?;
        fails(t, "a", 2, &["Secret", &secret])?;
        let (ca, cert, key) = (
            pem(t, "etcd/ca.crt")?,
            pem(t, "etcd/healthcheck-client.crt")?,
            pem(t, "etcd/healthcheck-client.key")?,
        );
        t.apply_secret(&secret, &json!({ "ca.crt": ca, "client.crt": cert }))?;
        fails(t, "b", 2, &["Secret", &secret, "client.key"])?;
        // what editors leave at the end of a file does no harm
        t.apply_secret(
            &secret,
            &json!({ "ca.crt": ca, "client.crt": cert.replace('\n', "\r\n"), "client.key": key + "\r\n\n" }),
        )?;
        Run::succeed(t, "c")?;
        t.expect_stored(1)
    });
}

#[test]
fn an_unknown_certificate_authority_of_etcd_is_readable() {
    case("etcd-ca", |t| {
        let secret = format!("{}-etcd", t.name());
        t.set_up(json!({ "spec": { "etcdCreds": secret } }))?;
        let (cert, key) = (pem(t, "etcd/healthcheck-client.crt")?, pem(t, "etcd/healthcheck-client.key")?);
        t.apply_secret(
            &secret,
            &json!({ "ca.crt": pem(t, "ca.crt")?, "client.crt": cert, "client.key": key }),
        )?;
        fails(t, "a", 3, &["https://127.0.0.1:2379", "unknown certificate authority"])?;
        let (cert, key) = (pem(t, "apiserver-kubelet-client.crt")?, pem(t, "apiserver-kubelet-client.key")?);
        t.apply_secret(
            &secret,
            &json!({ "ca.crt": pem(t, "etcd/ca.crt")?, "client.crt": cert, "client.key": key }),
        )?;
        fails(t, "b", 3, &["https://127.0.0.1:2379", "client certificate"])?;
        t.apply_secret(
            &secret,
            &json!({ "ca.crt": "no certificate", "client.crt": cert, "client.key": key }),
        )?;
        fails(t, "c", 2, &["ca.crt"])?;
        Ok(())
    });
}

#[test]
fn one_dead_endpoint_of_two_does_no_harm_and_two_are_both_named() {
    case("endpoints", |t| {
        let (dead, deader) = ("https://127.0.0.1:2", "https://127.0.0.1:3");
        t.set_up(json!({ "spec": { "etcdEndpoint": format!("{dead},{deader}") } }))?;
        fails(t, "a", 3, &[dead, deader, "refused"])?;
        t.apply_policy(json!({ "spec": { "etcdEndpoint": format!("{dead},https://127.0.0.1:2379") } }))?;
        until("the CronJob follows", seconds(30), || {
            ensure!(t.cron_job()?.to_string().contains(":2379"), "it does not yet");
            Ok(())
        })?;
        Run::succeed(t, "b")?;
        // one that takes connections and says nothing
        let silent = std::net::TcpListener::bind((t.cluster().s3_address()?, 0))?;
        let silent = format!("https://{}", silent.local_addr()?);
        t.apply_policy(json!({ "spec": { "etcdEndpoint": format!("{silent},https://127.0.0.1:2379") } }))?;
        until("the CronJob follows", seconds(30), || {
            ensure!(t.cron_job()?.to_string().contains(&silent), "it does not yet");
            Ok(())
        })?;
        Run::succeed(t, "c")?;
        t.expect_stored(2)
    });
}

#[test]
fn a_missing_directory_of_certificates_is_named_within_half_a_minute() {
    case("no-dir", |t| {
        let dir = "/etc/kubernetes/no-such-pki";
        t.set_up(json!({ "spec": { "certsDir": dir } }))?;
        let run = Run::start(t, "a")?;
        t.expect_failed(&run, seconds(40), &[dir])?;
        t.expect_stored(0)
    });
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_value_that_helps() {
    case("unreadable", |t| {
        let dir = format!("/etc/{}", t.name());
        let made =
            "mkdir -p \"$0\" && echo a > \"$0/a.key\" && chmod 600 \"$0/a.key\" && chown 1234 \"$0/a.key\"";
        t.cluster().node(&["bash", "-c", made, &dir])?;
        t.set_up(json!({ "spec": { "certsDir": dir } }))?;
        fails(t, "a", 6, &[&format!("{dir}/a.key"), "job.addCapabilities"])?;
        t.cluster().node(&["rm", "-rf", &dir])?;
        Ok(())
    });
}

#[test]
fn a_bucket_or_password_that_changed_behind_our_back_is_told() {
    case("changed-behind", |t| {
        t.set_up(json!({}))?;
        let secret = format!("{}-s3", t.name());
        let keys = |secret_key: &str, password: &str| {
            json!({
                "access_key": t.cluster().var("AWS_ACCESS_KEY_ID"),
                "secret_key": secret_key,
                "restic_repo_password": password,
            })
        };
        let right = t.cluster().var("AWS_SECRET_ACCESS_KEY");
        t.apply_secret(&secret, &keys(right, &format!("{}-new", t.password())))?;
        fails(t, "a", 4, &["wrong password"])?;
        t.apply_secret(&secret, &keys(&format!("{}-new", t.password()), &t.password()))?;
        fails(t, "b", 4, &["access_key", "secret_key"])?;
        t.api().delete(&t.path("secrets", &secret))?;
        fails(t, "c", 2, &["Secret", &secret])?;
        Ok(())
    });
}

#[test]
fn a_repository_that_was_deleted_is_not_made_anew_by_a_backup() {
    case("repo-gone", |t| {
        let s3 = OwnS3::up()?;
        t.apply_location(s3.location())?;
        t.apply_policy(json!({}))?;
        t.await_initialised()?;
        t.await_scheduled()?;
        std::fs::remove_dir_all(s3.bucket_dir(t.name()))?;
        let run = Run::start(t, "a")?;
        let pod = run.await_end(t, "Failed", seconds(90))?;
        ensure!(Run::exit_code(&pod) == Some(4), "{}", pod["status"]);
        t.expect_failed(&run, seconds(30), &[t.name(), "initialise"])?;
        ensure!(t.records()?.is_empty(), "there is a record");
        ensure!(!s3.bucket_dir(t.name()).join("config").exists(), "there is a repository");
        Ok(())
    });
}
