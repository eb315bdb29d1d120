//! Initialising a repository, and what stands in the way of it.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use kubedr_e2e::{Case, case, condition, contains_all, passes, resource, seconds, until};
use serde_json::{Value, json};

const INITIALIZED: &str = "initialized.annotations.kubedr.catalogicsoftware.com";

/// The init pods of the location, oldest first.
pub fn init_pods(t: &Case) -> Result<Vec<Value>> {
    let query = format!("labelSelector=kubedr.backuploc%3D{},kubedr.type%3Dbackuploc-init", t.name());
    let mut pods = t.api().list(&resource(t.namespace(), "pods"), &query)?;
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].to_string());
    Ok(pods)
}

pub fn location(t: &Case) -> Result<Value> {
    t.get("backuplocations", t.name())
}

/// Waits until an init pod has ended, and gives back the location as it is at that moment.
fn await_init_end(t: &Case, phase: &str) -> Result<(Value, Value)> {
    until("an init pod", seconds(15), || init_pods(t)?.pop().context("none"))?;
    let pod = until("the init pod ends", seconds(90), || {
        let pod = init_pods(t)?.pop().context("none")?;
        ensure!(pod["status"]["phase"] == phase, "its status: {}", pod["status"]);
        Ok(pod)
    })?;
    Ok((pod, location(t)?))
}

/// Waits until the location is said to have failed, checks that nothing claims a success, and gives back the message.
pub fn expect_init_failed(t: &Case, parts: &[&str]) -> Result<String> {
    let found = until("the status says that initialisation failed", seconds(240), || {
        let found = location(t)?;
        ensure!(found["status"]["initStatus"] == "Failed", "its status: {}", found["status"]);
        Ok(found)
    })?;
    let message = found["status"]["initErrorMessage"].as_str().context("no message")?.to_owned();
    contains_all(&message, parts)?;
    ensure!(found["metadata"]["annotations"][INITIALIZED] != "true", "it is annotated as initialised");
    until("an event says why", seconds(15), || {
        let events = t.events("BackupLocation")?;
        let event =
            events.iter().find(|e| e.reason == "InitFailed").with_context(|| format!("{events:?}"))?;
        ensure!(event.kind == "Warning", "{event:?}");
        contains_all(&event.message, parts)
    })?;
    until("the condition says so", seconds(15), || {
        let ready = condition(&location(t)?, "Ready")?;
        ensure!(ready["status"] == "False", "{ready}");
        Ok(())
    })?;
    ensure!(
        t.events("BackupLocation")?.iter().all(|e| e.reason != "InitSucceeded"),
        "an event claims a success"
    );
    Ok(message)
}

#[test]
fn a_new_location_is_initialised_and_says_so_before_its_pod_ends() {
    case("init", |t| {
        t.apply_location(json!({}))?;
        let (pod, found) = await_init_end(t, "Succeeded")?;
        let status = &found["status"];
        ensure!(status["initStatus"] == "Completed", "{status}");
        ensure!(status["initErrorMessage"] == "", "{status}");
        ensure!(status["observedGeneration"] == found["metadata"]["generation"], "{status}");
        status["initTime"].as_str().context("no time")?.parse::<Timestamp>()?;
        ensure!(found["metadata"]["annotations"][INITIALIZED] == "true", "{}", found["metadata"]);
        let events = t.events("BackupLocation")?;
        let event =
            events.iter().find(|e| e.reason == "InitSucceeded").with_context(|| format!("{events:?}"))?;
        contains_all(&event.message, &[t.restic().repository(), "initialised"])?;
        ensure!(event.kind == "Normal" && event.count == 1, "{event:?}");
        let config = t.restic().json(&["cat", "config"]);
        ensure!(status["repositoryId"] == config["id"], "{status} {config}");
        restricted(&pod["spec"])?;
        until("the condition", seconds(15), || {
            let ready = condition(&location(t)?, "Ready")?;
            ensure!(ready["status"] == "True", "{ready}");
            Ok(())
        })?;
        let job = t.list("jobs")?.pop().context("the job")?;
        ensure!(
            job["spec"]["ttlSecondsAfterFinished"].as_u64() >= Some(600),
            "finished init pods stay: {}",
            job["spec"]
        );
        ensure!(t.events("BackupLocation")?.len() == 1, "{:?}", t.events("BackupLocation"));
        Ok(())
    });
}

/// What the Pod Security Standard `restricted` asks for.
fn restricted(pod: &Value) -> Result<()> {
    let (of_pod, container) = (&pod["securityContext"], &pod["containers"][0]["securityContext"]);
    let either = |field: &str| {
        if container[field].is_null() { of_pod[field].clone() } else { container[field].clone() }
    };
    ensure!(either("runAsNonRoot") == true && either("runAsUser") != 0, "{pod}");
    ensure!(either("seccompProfile")["type"] == "RuntimeDefault", "{pod}");
    ensure!(
        container["allowPrivilegeEscalation"] == false && container["readOnlyRootFilesystem"] == true,
        "{pod}"
    );
    ensure!(
        container["capabilities"]["drop"][0] == "ALL" && container["capabilities"]["add"].is_null(),
        "{pod}"
    );
    ensure!(pod["hostNetwork"] != true, "{pod}");
    Ok(())
}

#[test]
fn an_existing_repository_is_attached_and_keeps_what_it_has() {
    case("attach", |t| {
        passes(&t.restic(), &["init"]);
        passes(&t.restic(), &["backup", "/etc/hostname"]);
        t.set_up(json!({}))?;
        kubedr_e2e::Run::succeed(t, "a")?;
        let snapshots = t.restic().json(&["snapshots"]);
        ensure!(snapshots.as_array().is_some_and(|all| all.len() == 2), "{snapshots}");
        Ok(())
    });
}

#[test]
fn wrong_keys_are_named_and_right_ones_help_at_once() {
    case("wrong-keys", |t| {
        let wrong = json!({ "secret_key": format!("wrong-{}", t.password()) });
        t.apply_secret(&format!("{}-s3", t.name()), &with_all_keys(t, &wrong))?;
        t.apply_location(json!({}))?;
        let (_, found) = await_init_end(t, "Failed")?;
        ensure!(found["status"]["initStatus"] == "Failed", "the pod has ended: {}", found["status"]);
        expect_init_failed(t, &["access_key", "secret_key"])?;
        t.apply_right_keys()?;
        until("the location is initialised", seconds(20), || {
            let found = location(t)?;
            ensure!(found["status"]["initStatus"] == "Completed", "{}", found["status"]);
            Ok(())
        })?;
        Ok(())
    });
}

/// The right values of a location's Secret, with some replaced.
fn with_all_keys(t: &Case, replaced: &Value) -> Value {
    let right = json!({
        "access_key": t.cluster().var("AWS_ACCESS_KEY_ID"),
        "secret_key": t.cluster().var("AWS_SECRET_ACCESS_KEY"),
        "restic_repo_password": t.password(),
    });
    let mut all = right;
    for (key, value) in replaced.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

#[test]
fn a_wrong_password_is_told_from_wrong_keys_and_harms_nothing() {
    case("wrong-pw", |t| {
        passes(&t.restic(), &["init"]);
        let wrong = json!({ "restic_repo_password": format!("{}-but-wrong", t.password()) });
        t.apply_secret(&format!("{}-s3", t.name()), &with_all_keys(t, &wrong))?;
        t.apply_location(json!({}))?;
        let message = expect_init_failed(t, &["wrong password", t.restic().repository()])?;
        ensure!(!message.contains("access_key"), "{message}");
        let keys = t.restic().json(&["key", "list"]);
        ensure!(keys.as_array().is_some_and(|keys| keys.len() == 1), "{keys}");
        t.apply_right_keys()?;
        t.await_initialised()?;
        Ok(())
    });
}

#[test]
fn a_missing_secret_or_key_is_named() {
    case("no-secret", |t| {
        let secret = format!("{}-none", t.name());
        t.apply_location(json!({ "spec": { "credentials": secret } }))?;
        expect_init_failed(t, &[&secret, "Secret"])?;
        let mut values = with_all_keys(t, &json!({}));
        values.as_object_mut().map(|all| all.remove("restic_repo_password"));
        t.apply_secret(&secret, &values)?;
        until("the missing key is named", seconds(30), || {
            let found = location(t)?;
            contains_all(&found["status"].to_string(), &["Failed", &secret, "restic_repo_password"])
        })?;
        t.apply_secret(&secret, &with_all_keys(t, &json!({})))?;
        t.await_initialised()?;
        Ok(())
    });
}

#[test]
fn somebody_elses_bucket_is_refused() {
    case("not-ours", |t| {
        let (user, secret) = (format!("other-{}", t.name()), format!("{}-other", t.password()));
        t.cluster().s3_admin(&[
            "create-user",
            "--access",
            &user,
            "--secret",
            &secret,
            "--role",
            "userplus",
        ])?;
        // the bucket is made by restic with the right keys, as the server's owner
        passes(&t.restic(), &["init"]);
        let other = json!({ "access_key": user, "secret_key": secret });
        t.apply_secret(&format!("{}-s3", t.name()), &with_all_keys(t, &other))?;
        t.apply_location(json!({}))?;
        expect_init_failed(t, &["somebody else", t.name()])?;
        Ok(())
    });
}

#[test]
fn a_changed_location_is_initialised_anew() {
    case("moved", |t| {
        t.set_up(json!({}))?;
        let other = format!("{}-two", t.name());
        t.apply_location(json!({ "spec": { "bucketName": other } }))?;
        let found = t.await_initialised()?;
        ensure!(found["metadata"]["generation"] == 2, "{}", found["metadata"]);
        let url = t.cluster().restic(&other, &t.password()).repository().to_owned();
        until("backups go to the new place", seconds(30), || {
            contains_all(&t.cron_job()?["spec"].to_string(), &[&format!("\"{url}\"")])
        })?;
        kubedr_e2e::Run::succeed(t, "a")?;
        t.expect_stored_in(&t.cluster().restic(&other, &t.password()), 1)?;
        let old = t.restic().json(&["snapshots"]);
        ensure!(old == json!([]), "{old}");
        Ok(())
    });
}
