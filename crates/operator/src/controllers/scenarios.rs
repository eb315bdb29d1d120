//! Whole reconciles against the fake API server: what is written, and in which order.

mod deletion;
mod maintenance;
mod records;
mod retention;
mod sync;
mod totals;

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::reflector::store;
use serde_json::{Value, json};

use super::{location, policy, run};
use crate::context::Context;
use kubedr_testing::FakeApi;

const LOCATION: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/backuplocations/s3";
const POLICY: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/metadatabackuppolicies/daily";
const CRON_JOB: &str = "/apis/batch/v1/namespaces/ns/cronjobs/daily-backup-cronjob";
const JOBS: &str = "/apis/batch/v1/namespaces/ns/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/ns/jobs/daily-1";
const EVENTS: &str = "/api/v1/namespaces/ns/events";

fn context(api: &FakeApi) -> Arc<Context> {
    let settings = r#"{"image": "r/job:1", "serviceAccountName": "job"}"#;
    Arc::new(Context {
        client: api.client(),
        namespace: "ns".into(),
        settings: Arc::new(serde_json::from_str(settings).unwrap()),
        cluster_uid: "cluster-1".into(),
        metrics: Arc::default(),
        readiness: Arc::default(),
    })
}

/// The object as the watch shows it.
fn watched<K: serde::de::DeserializeOwned>(api: &FakeApi, path: &str) -> Arc<K> {
    Arc::new(serde_json::from_value(api.get(path)).unwrap())
}

fn put_location(api: &FakeApi, rest: &Value) {
    let mut location = json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1", "kind": "BackupLocation",
        "metadata": {"name": "s3", "namespace": "ns", "uid": "loc-1", "generation": 1},
        "spec": {"url": "http://10.1.1.1:9000", "bucketName": "backups", "credentials": "creds"},
    });
    for (key, value) in rest.as_object().unwrap() {
        location[key] = value.clone();
    }
    api.put(LOCATION, location);
}

fn put_policy(api: &FakeApi, status: &Value) {
    api.put(
        POLICY,
        json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1", "kind": "MetadataBackupPolicy",
            "metadata": {"name": "daily", "namespace": "ns", "uid": "pol-1", "generation": 1},
            "spec": {"destination": "s3", "schedule": "@daily"},
            "status": status,
        }),
    );
}

fn put_job(api: &FakeApi, status: &Value) {
    api.put(
        JOB,
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "daily-1", "namespace": "ns", "uid": "job-1", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"kubedr.type": "backup", "kubedr.backup-policy": "daily"}},
            "spec": {"template": {}},
            "status": status,
        }),
    );
}

fn failed() -> Value {
    json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded",
        "lastTransitionTime": jiff::Timestamp::now().to_string()}]})
}

async fn reconcile_location(api: &FakeApi) {
    let (secrets, mut writer) = store();
    writer.apply_watcher_event(&kube::runtime::watcher::Event::Init);
    writer.apply_watcher_event(&kube::runtime::watcher::Event::InitDone);
    let (config_maps, mut writer) = store();
    writer.apply_watcher_event(&kube::runtime::watcher::Event::Init);
    writer.apply_watcher_event(&kube::runtime::watcher::Event::InitDone);
    let versions = location::Versions { secrets, config_maps };
    let shared = Arc::new(location::Locations { ctx: context(api), versions });
    location::reconcile(watched(api, LOCATION), shared).await.unwrap();
}

async fn reconcile_policy(api: &FakeApi) {
    policy::reconcile(watched(api, POLICY), context(api)).await.unwrap();
}

async fn reconcile_run(api: &FakeApi) {
    run::reconcile(watched(api, JOB), context(api)).await.unwrap();
}

fn count(writes: &[String], start: &str) -> usize {
    writes.iter().filter(|write| write.starts_with(start)).count()
}

#[tokio::test]
async fn a_new_location_gets_its_job_before_its_status_speaks_of_it() {
    let api = FakeApi::default();
    put_location(&api, &json!({}));
    reconcile_location(&api).await;
    let writes = api.take_writes();
    assert_eq!(writes[0], format!("POST {JOBS}"));
    assert_eq!(api.get(LOCATION)["status"]["initStatus"], "Initializing");
    assert_eq!(api.get(LOCATION)["status"]["conditions"][0]["reason"], "Initializing");
    // The watch shows it again: nothing is left to do.
    reconcile_location(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_location_is_marked_before_its_job_starts() {
    let api = FakeApi::default();
    let annotations = json!({"initialized.annotations.kubedr.catalogicsoftware.com": "true"});
    put_location(
        &api,
        &json!({
            "metadata": {"name": "s3", "namespace": "ns", "uid": "loc-1", "generation": 2, "annotations": annotations},
            "status": {"initStatus": "Completed", "observedGeneration": 1, "credentialsVersion": ""},
        }),
    );
    reconcile_location(&api).await;
    let writes = api.take_writes();
    assert_eq!(writes[..2], [format!("PATCH {LOCATION}"), format!("POST {JOBS}")]);
    let location = api.get(LOCATION);
    assert_eq!(
        location["metadata"]["annotations"]["initialized.annotations.kubedr.catalogicsoftware.com"],
        "false"
    );
}

#[tokio::test]
async fn a_refused_init_job_is_told_once() {
    let api = FakeApi::default();
    put_location(&api, &json!({}));
    api.refuse(JOBS, 403, "exceeded quota");
    reconcile_location(&api).await;
    let status = api.get(LOCATION)["status"].clone();
    assert_eq!(
        (&status["initStatus"], &status["conditions"][0]["reason"]),
        (&json!("Failed"), &json!("InitFailed"))
    );
    assert!(status["initErrorMessage"].as_str().unwrap().contains("exceeded quota"));
    api.take_writes();
    reconcile_location(&api).await;
    assert_eq!(api.take_writes(), [format!("POST {JOBS}"), format!("POST {EVENTS}")]);
}

const CLAIM: &str = "/api/v1/namespaces/ns/persistentvolumeclaims/disk";
const NODE: &str = "/api/v1/nodes/m1";

#[tokio::test]
async fn a_volume_is_told_of_until_its_claim_is_there_and_looked_for_again_when_its_node_is_gone() {
    let api = FakeApi::default();
    put_location(&api, &json!({"spec": {"volume": {"claimName": "disk"}, "credentials": "creds"}}));
    reconcile_location(&api).await;
    let status = api.get(LOCATION)["status"].clone();
    assert_eq!(
        (&status["initStatus"], &status["conditions"][0]["reason"]),
        (&json!("Failed"), &json!("InitFailed"))
    );
    assert!(status["initErrorMessage"].as_str().unwrap().contains("PersistentVolumeClaim `disk`"));
    assert_eq!(count(&api.take_writes(), &format!("POST {JOBS}")), 0);

    api.put(CLAIM, json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"]}}));
    reconcile_location(&api).await;
    assert_eq!(count(&api.take_writes(), &format!("POST {JOBS}")), 1);

    // The job has told on which node it was.
    let initialised = json!({"initStatus": "Completed", "observedGeneration": 1, "credentialsVersion": "", "volumeNode": "m1"});
    put_location(
        &api,
        &json!({"spec": {"volume": {"claimName": "disk"}, "credentials": "creds"}, "status": initialised}),
    );
    api.put(NODE, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "m1"}}));
    reconcile_location(&api).await;
    assert_eq!(api.get(LOCATION)["status"]["conditions"][0]["reason"], "Initialized");
    api.remove(NODE);
    reconcile_location(&api).await;
    let condition = api.get(LOCATION)["status"]["conditions"][0].clone();
    assert_eq!(condition["reason"], "Initializing");
    assert!(condition["message"].as_str().unwrap().contains("node `m1`"), "{condition}");
}

#[tokio::test]
async fn the_finalizer_of_kubedr_0_is_taken_off_an_object_that_is_being_deleted() {
    let api = FakeApi::default();
    put_location(
        &api,
        &json!({"metadata": {"name": "s3", "namespace": "ns", "uid": "loc-1", "generation": 1,
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["backuplocation.finalizers.kubedr.catalogicsoftware.com", "other/one"]}}),
    );
    reconcile_location(&api).await;
    assert_eq!(api.get(LOCATION)["metadata"]["finalizers"], json!(["other/one"]));
    assert_eq!(count(&api.take_writes(), "POST"), 0);
}

#[tokio::test]
async fn a_location_that_does_not_fit_the_schema_is_told_so_once() {
    let api = FakeApi::default();
    put_location(&api, &json!({"spec": {"url": "x"}}));
    for writes in [2, 0] {
        reconcile_location(&api).await;
        assert_eq!(api.take_writes().len(), writes);
    }
    let condition = &api.get(LOCATION)["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Invalid");
    let message = condition["message"].as_str().unwrap();
    assert!(message.contains("does not fit the schema: Missing field credentials"), "{message}");
}

#[tokio::test]
async fn a_policy_without_a_location_says_so_in_one_condition_and_one_event() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    reconcile_policy(&api).await;
    reconcile_policy(&api).await;
    let writes = api.take_writes();
    assert_eq!((writes.len(), count(&writes, &format!("POST {EVENTS}"))), (2, 1), "{writes:?}");
    assert_eq!(api.get(POLICY)["status"]["conditions"][0]["reason"], "LocationNotFound");
    assert_eq!(api.get(POLICY)["status"]["observedGeneration"], 1);
}

#[tokio::test]
async fn a_policy_follows_its_location_and_loses_its_schedule_with_it() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    put_location(&api, &json!({"status": {"initStatus": "Completed", "observedGeneration": 1}}));
    reconcile_policy(&api).await;
    assert_eq!(api.get(CRON_JOB)["spec"]["suspend"], false);
    assert_eq!(api.get(POLICY)["status"]["conditions"][0]["reason"], "Scheduled");
    api.remove(LOCATION);
    reconcile_policy(&api).await;
    assert_eq!(api.get(CRON_JOB)["spec"]["suspend"], true);
    assert_eq!(api.get(POLICY)["status"]["conditions"][0]["reason"], "LocationNotFound");
}

#[tokio::test]
async fn a_refused_cron_job_is_told_in_the_words_of_the_api_server() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    put_location(&api, &json!({"status": {"initStatus": "Completed", "observedGeneration": 1}}));
    api.refuse(CRON_JOB, 422, "spec.schedule: Invalid value");
    reconcile_policy(&api).await;
    let condition = &api.get(POLICY)["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("CronJobRefused")));
    assert!(condition["message"].as_str().unwrap().contains("spec.schedule: Invalid value"));
}

#[tokio::test]
async fn a_run_whose_job_is_gone_is_told_as_failed() {
    let api = FakeApi::default();
    let last_run = json!({"jobName": "daily-1", "jobUID": "job-1", "startTime": "2026-01-01T00:00:00Z"});
    put_policy(&api, &json!({"backupStatus": "Initializing", "lastRun": last_run}));
    put_job(&api, &json!({}));
    reconcile_policy(&api).await;
    assert_eq!(api.get(POLICY)["status"]["backupStatus"], "Initializing");
    api.remove(JOB);
    reconcile_policy(&api).await;
    assert_eq!(api.get(POLICY)["status"]["backupStatus"], "Failed");
    let event = api.get(&format!("{EVENTS}/daily.job-1.backupfailed"));
    assert_eq!(event["message"], "job `daily-1` was deleted before it had reported");
}

#[tokio::test]
async fn a_failed_job_is_told_in_status_then_event_and_noted_on_the_job() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    put_job(&api, &failed());
    reconcile_run(&api).await;
    let expected = [format!("PATCH {POLICY}/status"), format!("POST {EVENTS}"), format!("PATCH {JOB}")];
    assert_eq!(api.take_writes(), expected);
    assert_eq!(api.get(POLICY)["status"]["backupStatus"], "Failed");
    reconcile_run(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_success_that_was_written_meanwhile_is_left_as_it_is() {
    let api = FakeApi::default();
    let last_run = json!({"jobName": "daily-1", "jobUID": "job-1", "startTime": "2026-01-01T00:00:00Z"});
    put_policy(&api, &json!({"backupStatus": "Completed", "lastRun": last_run, "backupErrorMessage": ""}));
    put_job(&api, &failed());
    reconcile_run(&api).await;
    assert_eq!(api.get(POLICY)["status"]["backupStatus"], "Completed");
}

#[tokio::test]
async fn an_operator_that_died_between_event_and_note_tells_nothing_twice() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    put_job(&api, &failed());
    api.refuse(JOB, 500, "killed");
    run::reconcile(watched(&api, JOB), context(&api)).await.unwrap_err();
    let told = api.get(POLICY)["metadata"]["resourceVersion"].clone();
    api.accept(JOB);
    reconcile_run(&api).await;
    assert_eq!(api.get(POLICY)["metadata"]["resourceVersion"], told);
    assert!(api.get(JOB)["metadata"]["annotations"][kubedr_api::names::annotation::FAILURE].is_string());
}

#[tokio::test]
async fn a_job_that_never_started_is_told_and_ended_after_five_minutes() {
    let api = FakeApi::default();
    put_policy(&api, &json!({}));
    put_job(&api, &json!({}));
    reconcile_run(&api).await;
    assert_eq!(api.get(JOB)["spec"]["activeDeadlineSeconds"], 1);
    assert_eq!(api.get(POLICY)["status"]["backupStatus"], "Failed");
    let message = api.get(POLICY)["status"]["backupErrorMessage"].as_str().unwrap().to_owned();
    assert!(message.contains("has not started within 300 s"), "{message}");
}

#[test]
fn an_object_that_does_not_fit_does_not_hide_the_others() {
    let guarded: DeserializeGuard<kubedr_api::BackupLocation> =
        serde_json::from_value(json!({"metadata": {"name": "old"}, "spec": {"volume": "x"}})).unwrap();
    guarded.0.unwrap_err();
}
