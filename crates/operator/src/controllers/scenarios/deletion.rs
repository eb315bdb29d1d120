//! How records and snapshots go: retention, maintenance and the finalizer.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{Lookup, Store, store};
use kube::runtime::watcher::Event;
use kubedr_api::names::{annotation, finalizer};
use kubedr_api::{BackupLocation, MetadataBackupRecord};
use kubedr_testing::FakeApi;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{EVENTS, JOBS, LOCATION, POLICY, context, count, put_location, put_policy, run, watched};
use crate::controllers::surroundings::Remembered;
use crate::controllers::{maintenance, record, retention};

const RECORDS: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/metadatabackuprecords";
const LOCATIONS: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/backuplocations";
const NAMESPACE: &str = "/api/v1/namespaces/ns";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metadatabackuprecords.kubedr.catalogicsoftware.com";

fn ago(seconds: i64) -> String {
    Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap().to_string()
}

/// A cluster with a location that is initialised and was looked at a moment ago.
fn cluster() -> FakeApi {
    let api = FakeApi::default();
    api.put(NAMESPACE, json!({"metadata": {"name": "ns"}}));
    api.put(CRD, json!({"metadata": {"name": "metadatabackuprecords.kubedr.catalogicsoftware.com"}}));
    let mut status = initialised();
    status["lastValidationTime"] = json!(ago(30));
    put_location(&api, &json!({ "status": status }));
    api
}

fn initialised() -> Value {
    json!({"initStatus": "Completed", "observedGeneration": 1, "repositoryId": "r1", "initTime": ago(60),
        "credentialsVersion": "5"})
}

fn id(number: usize) -> String {
    format!("{number:064x}")
}

fn path(number: usize) -> String {
    format!("{RECORDS}/mbr-{number:08}")
}

/// A backup of this cluster; the higher its number, the newer.
fn put_record(api: &FakeApi, number: usize) {
    let time = Timestamp::from_second(i64::try_from(number).unwrap() * 3600).unwrap();
    let object = json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1", "kind": "MetadataBackupRecord",
        "metadata": {"name": format!("mbr-{number:08}"), "namespace": "ns", "finalizers": [finalizer::RECORD]},
        "spec": {"backuploc": "s3", "policy": "daily", "snapshotId": "00000000"},
        "status": {"snapshotId": id(number), "repositoryId": "r1", "origin": "Backup", "clusterUID": "cluster-1",
            "backupTime": time.to_string()},
    });
    api.put(&path(number), object);
}

fn change(api: &FakeApi, path: &str, pointer: &str, value: Value) {
    let mut object = api.get(path);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    api.put(path, object);
}

fn put_deleted_record(api: &FakeApi, number: usize, seconds_ago: i64) {
    put_record(api, number);
    change(api, &path(number), "/metadata/deletionTimestamp", json!(ago(seconds_ago)));
}

/// What the job says of a record whose snapshot it has deleted.
fn say_deleted(api: &FakeApi, path: &str) {
    let condition = json!({"type": "SnapshotDeleted", "status": "True", "reason": "Deleted", "message": "",
        "lastTransitionTime": ago(0)});
    change(api, path, "/status/conditions", json!([condition]));
}

/// The cache of a watch that has seen all there is.
fn cache<K>(api: &FakeApi, collection: &str) -> Store<K>
where
    K: Lookup<DynamicType = ()> + DeserializeOwned + Clone + 'static,
{
    let (reader, mut writer) = store::<K>();
    writer.apply_watcher_event(&Event::Init);
    for object in api.all(collection) {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(object).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    reader
}

async fn reconcile_record(api: &FakeApi, number: usize) {
    let shared = Arc::new(records(api));
    record::reconcile(watched(api, &path(number)), shared).await.unwrap();
}

fn records(api: &FakeApi) -> record::Records {
    record::Records {
        ctx: context(api),
        all: cache::<DeserializeGuard<MetadataBackupRecord>>(api, RECORDS),
        locations: cache::<DeserializeGuard<BackupLocation>>(api, LOCATIONS),
        surroundings: Remembered::default(),
    }
}

async fn retain(api: &FakeApi) {
    let shared = Arc::new(retention::Policies {
        ctx: context(api),
        records: cache(api, RECORDS),
        locations: cache(api, LOCATIONS),
    });
    retention::reconcile(watched(api, POLICY), shared).await.unwrap();
}

async fn maintain(api: &FakeApi) {
    let shared = Arc::new(maintenance::Locations {
        ctx: context(api),
        records: cache(api, RECORDS),
        jobs: cache::<Job>(api, JOBS),
    });
    maintenance::reconcile(watched(api, LOCATION), shared).await.unwrap();
}

fn variable(job: &Value, name: &str) -> String {
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    all.iter().find(|v| v["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
}

fn job_path(job: &Value) -> String {
    format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap())
}

fn end(api: &FakeApi, job: &Value, type_: &str, seconds_ago: i64) {
    let condition = json!({"type": type_, "status": "True", "lastTransitionTime": ago(seconds_ago)});
    change(api, &job_path(job), "/status", json!({ "conditions": [condition] }));
}

#[tokio::test]
async fn a_deleted_record_has_its_snapshot_deleted_and_goes_when_the_job_says_so() {
    let api = cluster();
    put_record(&api, 1);
    put_deleted_record(&api, 2, 6);
    maintain(&api).await;
    let jobs = api.all(JOBS);
    assert_eq!(jobs.len(), 1);
    assert_eq!(variable(&jobs[0], "KUBEDR_SNAPSHOTS"), id(2));
    assert_eq!(variable(&jobs[0], "KUBEDR_REPOSITORY_ID"), "r1");
    assert_eq!(jobs[0]["metadata"]["labels"]["kubedr.catalogicsoftware.com/snap-deletion-pod"], "true");
    reconcile_record(&api, 2).await;
    assert_eq!(api.get(&path(2))["metadata"]["finalizers"], json!([finalizer::RECORD]), "the job is at work");
    say_deleted(&api, &path(2));
    api.take_writes();
    reconcile_record(&api, 2).await;
    let expected = [format!("POST {EVENTS}"), format!("PATCH {}", path(2))];
    assert_eq!(api.take_requests(), expected, "nothing else has to be asked");
    assert_eq!(api.get(&path(2)), Value::Null);
    let event = &api.all(EVENTS)[0];
    assert_eq!(event["reason"], "SnapshotDeleted");
    assert_eq!(api.get(&path(1))["metadata"]["finalizers"], json!([finalizer::RECORD]));
}

#[tokio::test]
async fn records_that_are_deleted_together_get_one_job() {
    let api = cluster();
    put_deleted_record(&api, 1, 1);
    maintain(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new(), "others may follow");
    put_deleted_record(&api, 2, 6);
    put_deleted_record(&api, 3, 2);
    maintain(&api).await;
    let jobs = api.all(JOBS);
    assert_eq!(variable(&jobs[0], "KUBEDR_SNAPSHOTS"), [id(2), id(3), id(1)].join(","));
    put_deleted_record(&api, 4, 9);
    api.take_writes();
    maintain(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new(), "one job at a time");
}

#[tokio::test]
async fn records_that_go_with_their_namespace_or_crd_take_no_snapshot_along() {
    for what in [NAMESPACE, CRD] {
        let api = cluster();
        put_deleted_record(&api, 1, 60);
        change(&api, what, "/metadata/deletionTimestamp", json!(ago(1)));
        api.take_writes();
        maintain(&api).await;
        assert_eq!(api.take_writes(), Vec::<String>::new(), "{what}");
        reconcile_record(&api, 1).await;
        assert_eq!(api.take_writes(), [format!("PATCH {}", path(1))], "{what}");
        assert_eq!(api.get(&path(1)), Value::Null);
    }
}

#[tokio::test]
async fn namespace_and_crd_are_looked_at_after_the_records() {
    let api = cluster();
    put_deleted_record(&api, 1, 60);
    api.take_writes();
    maintain(&api).await;
    let requests = api.take_requests();
    let position = |request: &str| requests.iter().position(|known| known == request).unwrap();
    let listed = position(&format!("GET {RECORDS}"));
    assert!(listed < position(&format!("GET {NAMESPACE}")) && listed < position(&format!("GET {CRD}")));
    assert_eq!(requests.last(), Some(&format!("POST {JOBS}")));
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_is_no_reason_to_delete_anything() {
    let api = cluster();
    put_deleted_record(&api, 1, 60);
    api.remove(CRD);
    maintain(&api).await;
    assert_eq!(api.all(JOBS), Vec::<Value>::new());
}

#[tokio::test]
async fn after_ten_minutes_the_records_go_and_their_snapshots_are_noted_and_deleted_later() {
    let api = cluster();
    put_deleted_record(&api, 1, 601);
    put_deleted_record(&api, 2, 700);
    put_deleted_record(&api, 3, 60);
    api.take_writes();
    reconcile_record(&api, 1).await;
    let expected =
        [format!("PATCH {LOCATION}/status"), format!("POST {EVENTS}"), format!("PATCH {}", path(1))];
    assert_eq!(api.take_writes(), expected);
    let event = &api.all(EVENTS)[0];
    assert_eq!(
        (&event["reason"], &event["involvedObject"]["kind"]),
        (&json!("DeletionPending"), &json!("BackupLocation"))
    );
    // Noted with the first, the second goes without another word. The third has time.
    reconcile_record(&api, 2).await;
    reconcile_record(&api, 3).await;
    assert_eq!(api.take_writes(), [format!("PATCH {}", path(2))]);
    let pending = api.get(LOCATION)["status"]["pendingDeletions"].clone();
    let ids: Vec<_> = pending.as_array().unwrap().iter().map(|p| p["snapshotId"].as_str().unwrap()).collect();
    assert_eq!(ids, [id(1), id(2)]);
    change(&api, LOCATION, "/status/pendingDeletions/0/since", json!(ago(6)));
    api.remove(&path(3));
    maintain(&api).await;
    assert_eq!(variable(&api.all(JOBS)[0], "KUBEDR_SNAPSHOTS"), [id(1), id(2)].join(","));
}

#[tokio::test]
async fn a_record_whose_location_is_gone_goes_at_once_and_says_that_the_snapshot_stays() {
    let api = cluster();
    put_deleted_record(&api, 1, 1);
    api.remove(LOCATION);
    reconcile_record(&api, 1).await;
    assert_eq!(api.get(&path(1)), Value::Null);
    let event = &api.all(EVENTS)[0];
    let message = event["message"].as_str().unwrap();
    assert_eq!(event["reason"], "SnapshotKept");
    assert!(message.contains(&id(1)) && message.contains("no BackupLocation `s3`"), "{message}");
}

#[tokio::test]
async fn a_location_that_a_cache_does_not_show_yet_is_not_gone() {
    let api = cluster();
    put_deleted_record(&api, 1, 1);
    let shared = record::Records { locations: cache(&FakeApi::default(), LOCATIONS), ..records(&api) };
    record::reconcile(watched(&api, &path(1)), Arc::new(shared)).await.unwrap();
    assert_eq!(api.get(&path(1))["metadata"]["finalizers"], json!([finalizer::RECORD]));
}

#[tokio::test]
async fn a_record_without_the_finalizer_gets_it() {
    let api = cluster();
    put_record(&api, 1);
    change(&api, &path(1), "/metadata/finalizers", json!(["other/one"]));
    for writes in [1, 0] {
        reconcile_record(&api, 1).await;
        assert_eq!(count(&api.take_writes(), "PATCH"), writes);
    }
    assert_eq!(api.get(&path(1))["metadata"]["finalizers"], json!(["other/one", finalizer::RECORD]));
}

#[tokio::test]
async fn a_record_that_does_not_fit_the_schema_can_be_deleted() {
    let api = cluster();
    put_deleted_record(&api, 1, 1);
    change(&api, &path(1), "/spec", json!({}));
    reconcile_record(&api, 1).await;
    assert_eq!(api.get(&path(1)), Value::Null);
    assert_eq!(api.all(EVENTS)[0]["reason"], "SnapshotKept");
}

#[tokio::test]
async fn nothing_is_deleted_from_a_read_only_location() {
    let api = cluster();
    put_deleted_record(&api, 1, 60);
    change(&api, LOCATION, "/spec/accessMode", json!("ReadOnly"));
    maintain(&api).await;
    assert_eq!(api.all(JOBS), Vec::<Value>::new());
    reconcile_record(&api, 1).await;
    assert_eq!(api.get(&path(1)), Value::Null);
    assert_eq!(api.all(EVENTS)[0]["reason"], "SnapshotKept");
}

#[tokio::test]
async fn retention_deletes_the_oldest_records_that_are_this_clusters_own() {
    let api = cluster();
    put_policy(&api, &json!({}));
    change(&api, POLICY, "/spec/retainNumBackups", json!(2));
    for number in 1..=7 {
        put_record(&api, number);
    }
    change(&api, &path(1), "/status/origin", json!("Discovered"));
    change(&api, &path(2), "/metadata/annotations", json!({ annotation::KEEP: "true" }));
    change(&api, &path(3), "/status/clusterUID", json!("cluster-2"));
    api.take_writes();
    retain(&api).await;
    let deleted: Vec<_> = api.take_writes();
    assert_eq!(deleted, [format!("DELETE {}", path(4)), format!("DELETE {}", path(5))]);
    // They wait for their snapshots, and are not deleted again.
    assert!(api.get(&path(4))["metadata"]["deletionTimestamp"].is_string());
    retain(&api).await;
    assert_eq!(api.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn retention_trusts_no_cache_when_it_deletes() {
    let api = cluster();
    put_policy(&api, &json!({}));
    change(&api, POLICY, "/spec/retainNumBackups", json!(2));
    for number in 1..=3 {
        put_record(&api, number);
    }
    let (records, locations) = (cache(&api, RECORDS), cache(&api, LOCATIONS));
    api.remove(&path(3));
    let shared = retention::Policies { ctx: context(&api), records, locations };
    retention::reconcile(watched(&api, POLICY), Arc::new(shared)).await.unwrap();
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_policy_that_is_deleted_or_has_no_location_deletes_nothing() {
    let api = cluster();
    put_policy(&api, &json!({}));
    change(&api, POLICY, "/spec/retainNumBackups", json!(1));
    put_record(&api, 1);
    put_record(&api, 2);
    change(&api, POLICY, "/metadata/deletionTimestamp", json!(ago(1)));
    retain(&api).await;
    change(&api, POLICY, "/metadata/deletionTimestamp", Value::Null);
    let location = api.get(LOCATION);
    api.remove(LOCATION);
    retain(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new());
    api.put(LOCATION, location);
    retain(&api).await;
    assert_eq!(api.take_writes().len(), 1);
}

#[tokio::test]
async fn five_hundred_records_cost_a_few_calls_each() {
    let api = cluster();
    put_policy(&api, &json!({}));
    change(&api, POLICY, "/spec/retainNumBackups", json!(1));
    for number in 1..=501 {
        put_record(&api, number);
    }
    api.take_writes();
    for _ in 0..6 {
        retain(&api).await;
    }
    // Five batches, before each of which policy, locations and records are read.
    assert_eq!(api.take_requests().len(), 500 + 5 * 3);
    let first = (1..=501).find(|number| api.get(&path(*number))["metadata"]["deletionTimestamp"].is_string());
    change(&api, &path(first.unwrap()), "/metadata/deletionTimestamp", json!(ago(6)));
    maintain(&api).await;
    // Location, jobs, records, namespace, CRD; a note on the location; the job.
    assert_eq!(api.take_requests().len(), 7);
    let jobs = api.all(JOBS);
    assert_eq!((jobs.len(), variable(&jobs[0], "KUBEDR_SNAPSHOTS").split(',').count()), (1, 500));
    let shared = Arc::new(records(&api));
    for number in 1..=500 {
        record::reconcile(watched(&api, &path(number)), Arc::clone(&shared)).await.unwrap();
    }
    let waiting = api.take_requests().len();
    assert!(waiting < 20, "waiting costs next to nothing: {waiting}");
    for number in 1..=500 {
        say_deleted(&api, &path(number));
        record::reconcile(watched(&api, &path(number)), Arc::clone(&shared)).await.unwrap();
    }
    assert_eq!(api.take_requests().len(), 2 * 500);
    assert_eq!(api.all(RECORDS).len(), 1);
}

#[tokio::test]
async fn a_location_is_looked_at_as_soon_as_it_is_initialised_and_then_when_it_is_time() {
    let api = cluster();
    put_location(&api, &json!({"status": initialised()}));
    maintain(&api).await;
    let jobs = api.all(JOBS);
    assert_eq!(jobs[0]["metadata"]["labels"]["kubedr.type"], "sync");
    assert_eq!(variable(&jobs[0], "KUBEDR_REPOSITORY_ID"), "r1");
    end(&api, &jobs[0], "Complete", 60);
    maintain(&api).await;
    assert_eq!(api.all(JOBS).len(), 1);
    end(&api, &jobs[0], "Complete", 3601);
    maintain(&api).await;
    assert_eq!(api.all(JOBS).len(), 2);
}

#[tokio::test]
async fn a_refused_job_is_told_and_nothing_is_noted_twice() {
    let api = cluster();
    put_deleted_record(&api, 1, 60);
    api.refuse(JOBS, 403, "exceeded quota");
    maintain(&api).await;
    maintain(&api).await;
    let events = api.all(EVENTS);
    assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("MaintenanceFailed")));
    assert!(events[0]["message"].as_str().unwrap().contains("exceeded quota"));
}

#[tokio::test]
async fn at_most_three_finished_forget_jobs_stay() {
    let api = cluster();
    for number in 1..=5 {
        put_deleted_record(&api, number, 60);
        maintain(&api).await;
        let jobs = api.all(JOBS);
        let works = jobs.iter().find(|job| job["status"].is_null()).unwrap();
        assert!(jobs.len() <= 3, "{}", jobs.len());
        end(&api, works, "Complete", 100 - i64::try_from(number).unwrap());
        api.remove(&path(number));
    }
    let told: Vec<_> = api.all(JOBS).iter().map(|job| variable(job, "KUBEDR_SNAPSHOTS")).collect();
    assert!((3..=5).all(|number| told.contains(&id(number))), "the last ones stay: {told:?}");
}

async fn reconcile_job(api: &FakeApi, job: &Value) {
    run::reconcile(watched(api, &job_path(job)), context(api)).await.unwrap();
}

#[tokio::test]
async fn a_look_that_failed_without_a_word_leaves_the_storage_unknown_and_is_told_once() {
    let api = cluster();
    put_location(&api, &json!({"status": initialised()}));
    maintain(&api).await;
    let job = api.all(JOBS).remove(0);
    end(&api, &job, "Failed", 1);
    for _ in 0..2 {
        reconcile_job(&api, &job).await;
    }
    let condition = &api.get(LOCATION)["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&json!("Available"), &json!("Unknown"), &json!("NotValidated"))
    );
    let events = api.all(EVENTS);
    assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("Unavailable")));
    assert!(api.get(&job_path(&job))["metadata"]["annotations"][annotation::FAILURE].is_string());
}

#[tokio::test]
async fn what_waits_in_a_repository_that_was_replaced_is_told_and_dropped_and_deleted_nowhere() {
    let api = cluster();
    let pending = |number: usize, repository: &str| json!({"snapshotId": id(number), "repositoryId": repository, "record": "mbr", "since": ago(60)});
    change(
        &api,
        LOCATION,
        "/status/pendingDeletions",
        json!([pending(1, "r0"), pending(2, "r1"), pending(3, "r0")]),
    );
    maintain(&api).await;
    assert_eq!(api.get(LOCATION)["status"]["pendingDeletions"].as_array().unwrap().len(), 1);
    let event = &api.all(EVENTS)[0];
    let message = event["message"].as_str().unwrap();
    assert_eq!(
        (&event["reason"], &event["involvedObject"]["kind"]),
        (&json!("SnapshotKept"), &json!("BackupLocation"))
    );
    assert!(message.contains("`r0`") && message.contains(&id(1)) && message.contains(&id(3)), "{message}");
    assert_eq!(variable(&api.all(JOBS)[0], "KUBEDR_SNAPSHOTS"), id(2));
    api.take_writes();
    maintain(&api).await;
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_deleted_record_of_kubedr_is_looked_for_before_it_is_said_that_it_was_not_found() {
    let api = cluster();
    put_deleted_record(&api, 1, 6);
    change(&api, &path(1), "/status", Value::Null);
    maintain(&api).await;
    let jobs = api.all(JOBS);
    assert_eq!((jobs.len(), &jobs[0]["metadata"]["labels"]["kubedr.type"]), (1, &json!("sync")));
    end(&api, &jobs[0], "Complete", 0);
    maintain(&api).await;
    assert_eq!(api.all(JOBS).len(), 1, "one look does");
}

#[tokio::test]
async fn a_look_that_could_not_be_reported_says_nothing_about_the_storage() {
    let api = cluster();
    put_location(&api, &json!({"status": initialised()}));
    maintain(&api).await;
    let job = api.all(JOBS).remove(0);
    end(&api, &job, "Failed", 1);
    let terminated =
        json!({"exitCode": 5, "reason": "Error", "message": "listing the records failed: forbidden"});
    let container = json!({"name": "backup-job", "state": {"terminated": terminated}, "image": "i", "imageID": "i",
        "ready": false, "restartCount": 0});
    api.put(
        "/api/v1/namespaces/ns/pods/p",
        json!({"metadata": {"name": "p", "labels": {"kubedr.type": "sync"}}, "spec": {"containers": []},
            "status": {"phase": "Failed", "containerStatuses": [container]}}),
    );
    reconcile_job(&api, &job).await;
    assert_eq!(api.get(LOCATION)["status"]["conditions"], Value::Null);
    let event = &api.all(EVENTS)[0];
    assert_eq!(event["reason"], "MaintenanceFailed");
    assert!(event["message"].as_str().unwrap().contains("the next look does it again"), "{event}");
}

#[tokio::test]
async fn a_job_of_an_older_generation_that_failed_is_not_told_of_the_new_one() {
    for deleted in [false, true] {
        let api = cluster();
        if deleted {
            put_deleted_record(&api, 1, 60);
        } else {
            put_location(&api, &json!({"status": initialised()}));
        }
        maintain(&api).await;
        let job = api.all(JOBS).remove(0);
        assert_eq!(job["metadata"]["annotations"][annotation::GENERATION], "1");
        change(&api, LOCATION, "/metadata/generation", json!(2));
        end(&api, &job, "Failed", 1);
        api.take_writes();
        reconcile_job(&api, &job).await;
        // Only the job is noted to have been told.
        assert_eq!(api.take_writes(), [format!("PATCH {}", job_path(&job))], "{deleted}");
    }
}

#[tokio::test]
async fn a_deletion_that_failed_is_told_and_tried_again_later() {
    let api = cluster();
    put_deleted_record(&api, 1, 60);
    maintain(&api).await;
    let job = api.all(JOBS).remove(0);
    end(&api, &job, "Failed", 50);
    reconcile_job(&api, &job).await;
    assert_eq!(api.all(EVENTS)[0]["reason"], "MaintenanceFailed");
    maintain(&api).await;
    assert_eq!(api.all(JOBS).len(), 1);
    end(&api, &job, "Failed", 61);
    maintain(&api).await;
    let jobs = api.all(JOBS);
    let attempts: Vec<_> =
        jobs.iter().map(|j| j["metadata"]["annotations"][annotation::ATTEMPT].clone()).collect();
    assert!(jobs.len() == 2 && attempts.contains(&json!("2")), "{attempts:?}");
    // Space was to be reclaimed with the first; that is tried again after an hour.
    let prunes: Vec<_> = jobs.iter().map(|j| variable(j, "KUBEDR_PRUNE")).collect();
    assert!(prunes.contains(&"true".to_owned()) && prunes.contains(&"false".to_owned()), "{prunes:?}");
}
