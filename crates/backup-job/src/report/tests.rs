//! What reaches the API server, in which order, and what happens when it does not.

use std::time::Duration;

use jiff::Timestamp;
use kubedr_api::RunIdentity;
use kubedr_repo::InitOutcome;
use kubedr_testing::FakeApi;
use serde_json::{Value, json};

use super::{BackupReporter, InitReporter, KubeApi};
use crate::{
    BackupDone, InitDone,
    drive::{Patience, Reporter, Word},
};

const KINDS: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns";
const EVENTS: &str = "/api/v1/namespaces/ns/events";

fn path(kind: &str, name: &str) -> String {
    format!("{KINDS}/{kind}/{name}")
}

fn api_server() -> FakeApi {
    let api = FakeApi::default();
    let policy = json!({
        "metadata": {"name": "daily", "namespace": "ns", "uid": "p1"},
        "spec": {"destination": "s3", "schedule": "@daily"},
    });
    api.put(&path("metadatabackuppolicies", "daily"), policy);
    let location = json!({
        "metadata": {"name": "s3", "namespace": "ns", "uid": "l1", "generation": 2},
        "spec": {"url": "http://h", "bucketName": "bucket", "credentials": "c"},
    });
    api.put(&path("backuplocations", "s3"), location);
    api
}

fn backup_reporter(api: &FakeApi) -> BackupReporter {
    BackupReporter {
        cluster: Some("cluster-1".into()),
        api: KubeApi::new(api.client(), "ns"),
        policy: "daily".into(),
        location: "s3".into(),
        run: RunIdentity {
            job_name: "daily-1".into(),
            job_uid: "j1".into(),
            pod: Some("daily-1-x".into()),
            started: Timestamp::now(),
        },
    }
}

fn done() -> BackupDone {
    BackupDone {
        repository: "s3:http://h/bucket".into(),
        repository_id: "ab".repeat(32),
        snapshot_id: "0123456789abcdef".repeat(4),
        time: Timestamp::UNIX_EPOCH,
        files_new: 2,
        files_changed: 0,
        data_added: 5,
        data_added_packed: 3,
        total_bytes_processed: 9,
        certificates: true,
        etcd_endpoint: "https://127.0.0.1:2379".into(),
        etcd_version: "3.6.8".into(),
        etcd_revision_at_least: 7,
        duration_seconds: 1.5,
    }
}

fn status(api: &FakeApi) -> Value {
    api.get(&path("metadatabackuppolicies", "daily"))["status"].clone()
}

#[tokio::test]
async fn a_backup_is_told_by_record_then_status_then_event() {
    let api = api_server();
    backup_reporter(&api).tell(&Word::Completed(done()), Patience::Full).await.unwrap();
    let record = path("metadatabackuprecords", "mbr-01234567");
    let written = [
        format!("POST {KINDS}/metadatabackuprecords"),
        format!("PATCH {record}/status"),
        format!("PATCH {}/status", path("metadatabackuppolicies", "daily")),
        format!("POST {EVENTS}"),
    ];
    assert_eq!(api.take_writes(), written);
    let record = api.get(&record);
    assert_eq!(record["spec"], json!({"backuploc": "s3", "policy": "daily", "snapshotId": "01234567"}));
    assert_eq!(record["status"]["snapshotId"], done().snapshot_id);
    assert_eq!(record["status"]["repositoryId"], done().repository_id);
    assert_eq!(
        (&status(&api)["backupStatus"], &status(&api)["mbrName"]),
        (&"Completed".into(), &"mbr-01234567".into())
    );
    let event = api.get(&format!("{EVENTS}/daily.j1.backupsucceeded"));
    assert_eq!(event["message"], "Backup completed, snapshot ID: 01234567");
    assert_eq!(event["involvedObject"]["uid"], "p1");
}

#[tokio::test]
async fn a_report_that_is_repeated_changes_nothing() {
    let api = api_server();
    for _ in 0..2 {
        backup_reporter(&api).tell(&Word::Completed(done()), Patience::Full).await.unwrap();
    }
    let first = api.get(&path("metadatabackuppolicies", "daily"))["metadata"]["resourceVersion"].clone();
    backup_reporter(&api).tell(&Word::Failed("too late".into()), Patience::Full).await.unwrap();
    let after = api.get(&path("metadatabackuppolicies", "daily"))["metadata"]["resourceVersion"].clone();
    assert_eq!(first, after, "a success is final for its run");
}

#[tokio::test]
async fn an_api_server_that_refuses_for_a_while_gets_the_report_all_the_same() {
    let api = api_server();
    for refused in [path("metadatabackuppolicies", "daily/status"), EVENTS.to_owned()] {
        api.refuse(&refused, 503, "later");
        let accept = {
            let (api, refused) = (api.clone(), refused.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                api.accept(&refused);
            }
        };
        let reporter = backup_reporter(&api);
        let word = Word::Completed(done());
        let (told, ()) = tokio::join!(reporter.tell(&word, Patience::Full), accept);
        told.unwrap();
    }
    assert_eq!(status(&api)["backupStatus"], "Completed");
}

#[tokio::test]
async fn an_api_server_that_goes_on_refusing_is_told_with_its_words() {
    let api = api_server();
    api.refuse(
        &format!("{KINDS}/metadatabackuprecords"),
        403,
        "cannot create resource metadatabackuprecords",
    );
    let error = backup_reporter(&api).tell(&Word::Completed(done()), Patience::Little).await.unwrap_err();
    assert!(error.starts_with("posting the record `mbr-01234567` failed for"), "{error}");
    assert!(error.contains("cannot create resource metadatabackuprecords"), "{error}");
    assert_eq!(status(&api), Value::Null, "no status speaks of a record that is not there");
}

#[tokio::test]
async fn a_record_of_another_snapshot_is_not_overwritten() {
    let api = api_server();
    let record = path("metadatabackuprecords", "mbr-01234567");
    let other = json!({
        "metadata": {"name": "mbr-01234567", "namespace": "ns"},
        "spec": {"backuploc": "other", "policy": "weekly", "snapshotId": "01234567"},
    });
    api.put(&record, other.clone());
    let error = backup_reporter(&api).tell(&Word::Completed(done()), Patience::Full).await.unwrap_err();
    assert!(error.contains("location `other`, policy `weekly`"), "{error}");
    assert_eq!(api.get(&record)["spec"], other["spec"]);
}

#[tokio::test]
async fn a_policy_that_is_gone_leaves_the_record() {
    let api = api_server();
    api.remove(&path("metadatabackuppolicies", "daily"));
    backup_reporter(&api).tell(&Word::Completed(done()), Patience::Full).await.unwrap();
    assert_eq!(api.get(&path("metadatabackuprecords", "mbr-01234567"))["spec"]["policy"], "daily");
}

#[tokio::test]
async fn a_failure_is_told_by_status_and_event_and_has_no_record() {
    let api = api_server();
    let reporter = backup_reporter(&api);
    reporter.tell(&Word::Started, Patience::Full).await.unwrap();
    assert_eq!(
        (&status(&api)["backupStatus"], &status(&api)["filesNew"]),
        (&"Initializing".into(), &0.into())
    );
    reporter.tell(&Word::Failed("no member".into()), Patience::Full).await.unwrap();
    assert_eq!(status(&api)["backupStatus"], "Failed");
    assert_eq!(status(&api)["backupErrorMessage"], "no member");
    assert_eq!(api.get(&format!("{EVENTS}/daily.j1.backupfailed"))["type"], "Warning");
    assert_eq!(api.get(&path("metadatabackuprecords", "mbr-01234567")), Value::Null);
}

fn init_reporter(api: &FakeApi, generation: i64) -> InitReporter {
    InitReporter {
        api: KubeApi::new(api.client(), "ns"),
        location: "s3".into(),
        job_uid: "i1".into(),
        generation,
        credentials_version: "5".into(),
        volume_node: None,
    }
}

fn initialised() -> Word<InitDone> {
    let repository = "s3:http://h/bucket".to_owned();
    Word::Completed(InitDone { repository, repository_id: "cd".repeat(32), outcome: InitOutcome::Created })
}

#[tokio::test]
async fn an_initialisation_is_told_by_status_then_annotation_then_event() {
    let api = api_server();
    init_reporter(&api, 2).tell(&initialised(), Patience::Full).await.unwrap();
    let at = path("backuplocations", "s3");
    assert_eq!(
        api.take_writes(),
        [format!("PATCH {at}/status"), format!("PATCH {at}"), format!("POST {EVENTS}")]
    );
    let location = api.get(&at);
    assert_eq!(location["status"]["initStatus"], "Completed");
    assert_eq!(
        location["metadata"]["annotations"]["initialized.annotations.kubedr.catalogicsoftware.com"],
        "true"
    );
    let event = api.get(&format!("{EVENTS}/s3.i1.initsucceeded"));
    assert_eq!(event["message"], "Repository s3:http://h/bucket is initialised");
}

#[tokio::test]
async fn a_failed_initialisation_is_annotated_as_such() {
    let api = api_server();
    init_reporter(&api, 2).tell(&Word::Failed("wrong password".into()), Patience::Full).await.unwrap();
    let location = api.get(&path("backuplocations", "s3"));
    assert_eq!(location["status"]["initErrorMessage"], "wrong password");
    assert_eq!(
        location["metadata"]["annotations"]["initialized.annotations.kubedr.catalogicsoftware.com"],
        "false"
    );
}

#[tokio::test]
async fn an_initialisation_that_a_change_overtook_does_not_call_the_location_initialised() {
    let api = api_server();
    init_reporter(&api, 1).tell(&initialised(), Patience::Full).await.unwrap();
    let location = api.get(&path("backuplocations", "s3"));
    assert_eq!(location["metadata"]["annotations"], Value::Null);
}
