//! A cluster with records of backups, and what its controllers make of them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{Lookup, Store, store};
use kube::runtime::watcher::Event;
use kubedr_api::names::finalizer;
use kubedr_api::{BackupLocation, MetadataBackupRecord};
use kubedr_testing::FakeApi;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{JOBS, LOCATION, context, put_location, run, watched};
use crate::controllers::surroundings::Remembered;
use crate::controllers::{maintenance, record};

pub(super) const RECORDS: &str =
    "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/metadatabackuprecords";
pub(super) const LOCATIONS: &str =
    "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/backuplocations";
pub(super) const NAMESPACE: &str = "/api/v1/namespaces/ns";
pub(super) const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metadatabackuprecords.kubedr.catalogicsoftware.com";

pub(super) fn ago(seconds: i64) -> String {
    Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap().to_string()
}

/// A cluster with a location that is initialised and was looked at a moment ago.
pub(super) fn cluster() -> FakeApi {
    let api = FakeApi::default();
    api.put(NAMESPACE, json!({"metadata": {"name": "ns"}}));
    api.put(CRD, json!({"metadata": {"name": "metadatabackuprecords.kubedr.catalogicsoftware.com"}}));
    let mut status = initialised();
    status["lastValidationTime"] = json!(ago(30));
    put_location(&api, &json!({ "status": status }));
    api
}

pub(super) fn initialised() -> Value {
    json!({"initStatus": "Completed", "observedGeneration": 1, "repositoryId": "r1", "initTime": ago(60),
        "credentialsVersion": "5"})
}

pub(super) fn id(number: usize) -> String {
    format!("{number:064x}")
}

pub(super) fn path(number: usize) -> String {
    format!("{RECORDS}/mbr-{number:08}")
}

/// A backup of this cluster; the higher its number, the newer.
pub(super) fn put_record(api: &FakeApi, number: usize) {
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

pub(super) fn change(api: &FakeApi, path: &str, pointer: &str, value: Value) {
    let mut object = api.get(path);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    api.put(path, object);
}

pub(super) fn put_deleted_record(api: &FakeApi, number: usize, seconds_ago: i64) {
    put_record(api, number);
    change(api, &path(number), "/metadata/deletionTimestamp", json!(ago(seconds_ago)));
}

/// What the job says of a record whose snapshot it has deleted.
pub(super) fn say_deleted(api: &FakeApi, path: &str) {
    let condition = json!({"type": "SnapshotDeleted", "status": "True", "reason": "Deleted", "message": "",
        "lastTransitionTime": ago(0)});
    change(api, path, "/status/conditions", json!([condition]));
}

/// The cache of a watch that has seen all there is.
pub(super) fn cache<K>(api: &FakeApi, collection: &str) -> Store<K>
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

pub(super) async fn reconcile_record(api: &FakeApi, number: usize) {
    let shared = Arc::new(records(api));
    record::reconcile(watched(api, &path(number)), shared).await.unwrap();
}

pub(super) fn records(api: &FakeApi) -> record::Records {
    record::Records {
        ctx: context(api),
        all: cache::<DeserializeGuard<MetadataBackupRecord>>(api, RECORDS),
        locations: cache::<DeserializeGuard<BackupLocation>>(api, LOCATIONS),
        surroundings: Remembered::default(),
    }
}

pub(super) async fn maintain(api: &FakeApi) {
    let shared = Arc::new(maintenance::Locations {
        ctx: context(api),
        records: cache(api, RECORDS),
        jobs: cache::<Job>(api, JOBS),
    });
    maintenance::reconcile(watched(api, LOCATION), shared).await.unwrap();
}

pub(super) fn variable(job: &Value, name: &str) -> String {
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    all.iter().find(|v| v["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
}

pub(super) fn job_path(job: &Value) -> String {
    format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap())
}

pub(super) fn end(api: &FakeApi, job: &Value, type_: &str, seconds_ago: i64) {
    let condition = json!({"type": type_, "status": "True", "lastTransitionTime": ago(seconds_ago)});
    change(api, &job_path(job), "/status", json!({ "conditions": [condition] }));
}

pub(super) async fn reconcile_job(api: &FakeApi, job: &Value) {
    run::reconcile(watched(api, &job_path(job)), context(api)).await.unwrap();
}
