//! What changes, or goes: the CronJob follows, and the policy says where it stands.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Run, case, condition, contains_all, passes, seconds, until};
use serde_json::{Value, json};

/// Waits until the CronJob is as it should be.
fn follows(t: &Case, what: &str, right: impl Fn(&Value) -> Result<bool>) -> Result<()> {
    until(&format!("the CronJob follows {what}"), seconds(30), || {
        let spec = t.cron_job()?["spec"].take();
        ensure!(right(&spec)?, "it is {spec}");
        Ok(())
    })
}

fn has(part: &str) -> impl Fn(&Value) -> Result<bool> {
    move |spec| Ok(spec.to_string().contains(part))
}

#[test]
fn every_field_of_a_policy_reaches_its_cronjob() {
    case("follows", |t| {
        t.set_up(json!({}))?;
        let change = |spec: Value| t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": spec }));
        change(json!({ "schedule": "7 3 29 2 *" }))?;
        follows(t, "schedule", |spec| Ok(spec["schedule"] == "7 3 29 2 *"))?;
        change(json!({ "suspend": true }))?;
        follows(t, "suspend", |spec| Ok(spec["suspend"] == true))?;
        let ready = until("the policy says so", seconds(15), || {
            let ready = condition(&t.get("metadatabackuppolicies", t.name())?, "Ready")?;
            ensure!(ready["reason"] == "Suspended", "{ready}");
            Ok(ready)
        })?;
        ensure!(ready["status"] == "True", "{ready}");
        change(json!({ "suspend": false }))?;
        follows(t, "suspend", |spec| Ok(spec["suspend"] != true))?;
        change(json!({ "certsDir": "/etc/kubernetes/pki" }))?;
        follows(t, "certsDir", has("/etc/kubernetes/pki"))?;
        change(json!({ "certsDir": null }))?;
        follows(t, "certsDir", |spec| Ok(!spec.to_string().contains("/etc/kubernetes/pki")))?;
        change(json!({ "etcdEndpoint": "https://10.9.9.9:2379" }))?;
        follows(t, "etcdEndpoint", has("https://10.9.9.9:2379"))?;
        change(json!({ "etcdCreds": "other-creds" }))?;
        follows(t, "etcdCreds", has("other-creds"))?;
        change(json!({ "options": { "master-node-label-name": "example.com/master" } }))?;
        follows(t, "options", |spec| {
            let affinity = spec["jobTemplate"]["spec"]["template"]["spec"]["affinity"].to_string();
            Ok(affinity.contains("example.com/master") && !affinity.contains("control-plane"))
        })?;
        let other = format!("{}-two", t.name());
        t.apply_location(json!({ "metadata": { "name": other }, "spec": { "bucketName": other } }))?;
        change(json!({ "destination": other }))?;
        follows(t, "destination", has(&format!("/{other}\"")))
    });
}

#[test]
fn what_other_topologies_need_reaches_the_cronjob_and_its_pods_and_goes_again() {
    case("topology", |t| {
        t.set_up(json!({}))?;
        let plain = t.cron_job()?["spec"].take();
        let change = |spec: Value| t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": spec }));
        let resources = json!({ "requests": { "cpu": "20m" }, "limits": { "memory": "512Mi" } });
        let tolerations = json!([{ "key": "node-role.kubernetes.io/control-plane", "operator": "Exists" }]);
        change(json!({
            "timeZone": "Asia/Tokyo",
            "startingDeadlineSeconds": 600,
            "activeDeadlineSeconds": 900,
            "resources": resources,
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "tolerations": tolerations,
        }))?;
        follows(t, "all of it", |spec| {
            let job = &spec["jobTemplate"]["spec"];
            let pod = &job["template"]["spec"];
            Ok(spec["timeZone"] == "Asia/Tokyo"
                && spec["startingDeadlineSeconds"] == 600
                && job["activeDeadlineSeconds"] == 900
                && pod["containers"][0]["resources"] == resources
                && pod["nodeSelector"] == json!({ "kubernetes.io/os": "linux" })
                && pod["affinity"].is_null()
                && pod["tolerations"] == tolerations)
        })?;
        until("the policy says so", seconds(15), || {
            let ready = condition(&t.get("metadatabackuppolicies", t.name())?, "Ready")?;
            contains_all(ready["message"].as_str().unwrap_or_default(), &["of `Asia/Tokyo`"])
        })?;
        let (run, _) = Run::succeed(t, "a")?;
        ensure!(t.get("jobs", &run.job)?["spec"]["activeDeadlineSeconds"] == 900, "the Job's deadline");
        let pod = run.pod(t)?["spec"].take();
        let container = &pod["containers"][0]["resources"];
        ensure!(container["limits"] == resources["limits"], "{container}");
        ensure!(container["requests"]["cpu"] == "20m", "{container}");
        ensure!(pod["nodeSelector"] == json!({ "kubernetes.io/os": "linux" }), "{pod}");
        contains_all(&pod["tolerations"].to_string(), &["node-role.kubernetes.io/control-plane"])?;
        let fields = ["timeZone", "startingDeadlineSeconds", "activeDeadlineSeconds", "resources"];
        let fields = fields.iter().chain(&["nodeSelector", "tolerations"]);
        change(fields.map(|field| ((*field).to_owned(), Value::Null)).collect())?;
        follows(t, "what is left of it", |spec| Ok(*spec == plain))?;
        // What nobody asked for and somebody set by hand would go unnoticed, and backups would be taken at other times.
        t.merge("cronjobs", &t.cron_job_name(), &json!({ "spec": { "timeZone": "Asia/Tokyo" } }))?;
        follows(t, "the policy, which names no time zone", |spec| Ok(*spec == plain))
    });
}

#[test]
fn a_changed_certs_dir_is_what_the_next_backup_holds() {
    case("new-dir", |t| {
        t.set_up(json!({ "spec": { "certsDir": "/etc/kubernetes/pki" } }))?;
        Run::succeed(t, "a")?;
        t.merge(
            "metadatabackuppolicies",
            t.name(),
            &json!({ "spec": { "certsDir": "/etc/kubernetes/pki/etcd" } }),
        )?;
        follows(t, "certsDir", has("/etc/kubernetes/pki/etcd"))?;
        Run::succeed(t, "b")?;
        let dir = tempfile::tempdir()?;
        passes(&t.restic(), &["restore", "latest", "--target", &dir.path().display().to_string()]);
        let archive = dir.path().join("data/certificates.tar");
        let listed =
            kubedr_testing::run(std::process::Command::new("tar").arg("--list").arg("--file").arg(archive));
        let listed = kubedr_testing::text(&listed.stdout);
        ensure!(listed.contains("healthcheck-client.key") && !listed.contains("apiserver.key"), "{listed}");
        t.expect_stored(2)
    });
}

#[test]
fn a_cronjob_that_is_deleted_or_edited_comes_back() {
    case("comes-back", |t| {
        t.set_up(json!({}))?;
        let uid = t.cron_job()?["metadata"]["uid"].take();
        t.api().delete(&t.path("cronjobs", &t.cron_job_name()))?;
        until("the CronJob comes back", seconds(30), || {
            ensure!(t.cron_job()?["metadata"]["uid"] != uid, "the old one is still there");
            Ok(())
        })?;
        let edits = json!({ "schedule": "1 1 1 1 1", "suspend": true, "concurrencyPolicy": "Allow" });
        t.merge("cronjobs", &t.cron_job_name(), &json!({ "spec": edits }))?;
        follows(t, "the policy again", |spec| {
            Ok(spec["schedule"] == "0 0 29 2 *"
                && spec["suspend"] != true
                && spec["concurrencyPolicy"] == "Forbid")
        })?;
        t.merge(
            "cronjobs",
            &t.cron_job_name(),
            &json!({ "metadata": { "labels": { "kubedr.backup-policy": null } } }),
        )?;
        until("the label comes back", seconds(30), || {
            let labels = t.cron_job()?["metadata"]["labels"].take();
            ensure!(labels["kubedr.backup-policy"] == t.name(), "{labels}");
            Ok(())
        })?;
        Run::succeed(t, "a")?;
        Ok(())
    });
}

/// Waits for the policy's condition, and for the event of the same reason.
fn not_ready(t: &Case, reason: &str, parts: &[&str]) -> Result<()> {
    until("the policy says why it is not ready", seconds(30), || {
        let ready = condition(&t.get("metadatabackuppolicies", t.name())?, "Ready")?;
        ensure!(ready["status"] == "False" && ready["reason"] == reason, "{ready}");
        contains_all(ready["message"].as_str().unwrap_or_default(), parts)
    })?;
    until("the event", seconds(15), || {
        let events = t.events("MetadataBackupPolicy")?;
        let event = events
            .iter()
            .filter(|e| e.reason == "NotReady")
            .find(|e| contains_all(&e.message, parts).is_ok());
        let event = event.with_context(|| format!("{events:?}"))?;
        ensure!(event.kind == "Warning", "{event:?}");
        Ok(())
    })
}

#[test]
fn a_policy_whose_location_is_missing_or_not_initialised_says_so() {
    case("not-ready", |t| {
        t.apply_policy(json!({}))?;
        not_ready(t, "LocationNotFound", &[t.name()])?;
        ensure!(t.list("cronjobs")?.is_empty(), "there is a CronJob");
        let right = t.cluster().var("AWS_ACCESS_KEY_ID");
        let wrong = json!({ "access_key": right, "secret_key": format!("{}-no", t.password()), "restic_repo_password": t.password() });
        t.apply_secret(&format!("{}-s3", t.name()), &wrong)?;
        t.apply_location(json!({}))?;
        not_ready(t, "LocationNotReady", &[t.name()])?;
        ensure!(t.list("cronjobs")?.is_empty(), "there is a CronJob");
        t.apply_right_keys()?;
        t.await_initialised()?;
        t.await_scheduled()?;
        Run::succeed(t, "a")?;
        t.api().delete(&t.path("backuplocations", t.name()))?;
        not_ready(t, "LocationNotFound", &[t.name()])?;
        follows(t, "the loss of its location", |spec| Ok(spec["suspend"] == true))
    });
}

#[test]
fn deleting_policy_and_location_leaves_records_and_snapshots() {
    case("deleted", |t| {
        t.set_up(json!({}))?;
        Run::succeed(t, "a")?;
        t.api().delete(&t.path("metadatabackuppolicies", t.name()))?;
        until("the CronJob is gone", seconds(30), || {
            ensure!(
                t.list("cronjobs")?.is_empty() && t.list("metadatabackuppolicies")?.is_empty(),
                "it is not"
            );
            Ok(())
        })?;
        t.api().delete(&t.path("backuplocations", t.name()))?;
        until("the location is gone", seconds(30), || {
            ensure!(t.list("backuplocations")?.is_empty(), "it is not");
            Ok(())
        })?;
        t.expect_stored(1)?;
        t.apply_location(json!({}))?;
        t.await_initialised()?;
        t.expect_stored(1)
    });
}

#[test]
fn the_finalizers_of_kubedr_0_are_taken_off() {
    case("finalizers", |t| {
        let with = |finalizer: &str| json!({ "metadata": { "finalizers": [finalizer] } });
        t.apply_location(with("backuplocation.finalizers.kubedr.catalogicsoftware.com"))?;
        t.apply_policy(with("metadata-backup-policy.finalizers.kubedr.catalogicsoftware.com"))?;
        for plural in ["backuplocations", "metadatabackuppolicies"] {
            until("the finalizer is taken off", seconds(30), || {
                let meta = t.get(plural, t.name())?["metadata"].take();
                ensure!(meta["finalizers"].as_array().is_none_or(Vec::is_empty), "{meta}");
                Ok(())
            })?;
        }
        t.await_initialised()?;
        t.await_scheduled()?;
        Ok(())
    });
}
