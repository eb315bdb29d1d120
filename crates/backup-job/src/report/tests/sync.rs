//! What a sync job writes.

use kubedr_api::{MetadataBackupRecordStatus, Origin};
use kubedr_repo::SnapshotId;
use kubedr_testing::FakeApi;
use serde_json::{Value, json};

use super::{EVENTS, KINDS, api_server, path};
use crate::{
    SyncDone,
    drive::{Patience, Reporter, Word},
    report::{KubeApi, SyncReporter},
    sync::{Creation, Plan, Removal},
};

fn id(beginning: &str) -> SnapshotId {
    format!("{beginning:0<64}").parse().unwrap()
}

fn reporter(api: &FakeApi) -> SyncReporter {
    SyncReporter {
        api: KubeApi::new(api.client(), "ns"),
        location: "s3".into(),
        job_uid: "s1".into(),
        generation: 2,
    }
}

fn done(plan: Plan) -> Word<SyncDone> {
    let repository = "s3:http://h/bucket".to_owned();
    Word::Completed(SyncDone { repository, repository_id: "r1".into(), snapshots: 3, bytes: 900, plan })
}

fn status(beginning: &str) -> MetadataBackupRecordStatus {
    MetadataBackupRecordStatus {
        snapshot_id: Some(id(beginning).to_string()),
        repository_id: Some("r1".into()),
        origin: Some(Origin::Discovered),
        ..MetadataBackupRecordStatus::default()
    }
}

fn creation(beginning: &str) -> Creation {
    Creation { snapshot_id: id(beginning), policy: "daily".into(), status: status(beginning) }
}

fn record(beginning: &str) -> String {
    path("metadatabackuprecords", &format!("mbr-{}", id(beginning).short()))
}

fn put_record(api: &FakeApi, beginning: &str, location: &str, status: &Value) {
    let snapshot = id(beginning);
    let object = json!({
        "metadata": {"name": format!("mbr-{}", snapshot.short()), "namespace": "ns"},
        "spec": {"backuploc": location, "policy": "daily", "snapshotId": snapshot.short()},
        "status": status,
    });
    api.put(&record(beginning), object);
}

fn conditions(api: &FakeApi) -> Vec<(String, String)> {
    let location = api.get(&path("backuplocations", "s3"));
    let all = location["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|c| (text(&c["type"]), text(&c["reason"]))).collect()
}

fn reason(api: &FakeApi, type_: &str) -> String {
    conditions(api)
        .into_iter()
        .find(|(known, _)| known == type_)
        .map(|(_, reason)| reason)
        .unwrap_or_default()
}

#[tokio::test]
async fn a_found_backup_gets_a_record_with_finalizer_labels_and_status_and_then_the_location_says_so() {
    let api = api_server();
    let plan = Plan { create: vec![creation("aa")], ..Plan::default() };
    reporter(&api).tell(&done(plan), Patience::Full).await.unwrap();
    let location = path("backuplocations", "s3");
    let written = [
        format!("POST {KINDS}/metadatabackuprecords"),
        format!("PATCH {}/status", record("aa")),
        format!("POST {EVENTS}"),
        format!("PATCH {location}/status"),
    ];
    assert_eq!(api.take_writes(), written);
    let record = api.get(&record("aa"));
    assert_eq!(record["metadata"]["finalizers"], json!(["mbr.finalizers.kubedr.catalogicsoftware.com"]));
    assert_eq!(
        record["metadata"]["labels"],
        json!({"kubedr.backup-policy": "daily", "kubedr.backuploc": "s3"})
    );
    assert_eq!(record["status"]["origin"], "Discovered");
    let event = api.get(&format!("{EVENTS}/s3.s1.backupdiscovered"));
    assert!(event["message"].as_str().unwrap().starts_with("1 backups without a record were found"));
    let status = api.get(&location)["status"].clone();
    assert_eq!(status["snapshots"], 3);
    assert!(status["lastValidationTime"].is_string());
    assert_eq!(
        (reason(&api, "Available"), reason(&api, "CatalogComplete")),
        ("Reachable".into(), "UpToDate".into())
    );
}

#[tokio::test]
async fn a_record_that_its_backup_job_wrote_meanwhile_keeps_what_it_says() {
    let api = api_server();
    let theirs = json!({"snapshotId": id("aa").as_str(), "repositoryId": "r1", "origin": "Backup"});
    put_record(&api, "aa", "s3", &theirs);
    let plan = Plan { create: vec![creation("aa")], ..Plan::default() };
    reporter(&api).tell(&done(plan), Patience::Full).await.unwrap();
    assert_eq!(api.get(&record("aa"))["status"]["origin"], "Backup");
    assert_eq!(api.get(&format!("{EVENTS}/s3.s1.backupdiscovered")), Value::Null);
    assert_eq!(reason(&api, "CatalogComplete"), "UpToDate");
}

#[tokio::test]
async fn a_name_that_turns_out_to_be_taken_is_told_and_left_alone() {
    let api = api_server();
    put_record(&api, "aa", "other", &json!({}));
    let plan = Plan { create: vec![creation("aa"), creation("bb")], ..Plan::default() };
    reporter(&api).tell(&done(plan), Patience::Full).await.unwrap();
    assert_eq!(api.get(&record("aa"))["spec"]["backuploc"], "other");
    assert_eq!(api.get(&record("bb"))["spec"]["backuploc"], "s3", "the other one is made all the same");
    assert_eq!(reason(&api, "CatalogComplete"), "RecordNameTaken");
    let event = api.get(&format!("{EVENTS}/s3.s1.recordnametaken"));
    assert!(event["message"].as_str().unwrap().contains("location `other`"), "{event}");
}

#[tokio::test]
async fn a_record_whose_snapshot_is_gone_says_so_before_it_goes() {
    let api = api_server();
    put_record(&api, "aa", "s3", &serde_json::to_value(status("aa")).unwrap());
    let removal = Removal { record: "mbr-aa000000".into(), snapshot_id: id("aa").to_string() };
    let plan = Plan { remove: vec![removal.clone()], ..Plan::default() };
    reporter(&api).tell(&done(plan.clone()), Patience::Full).await.unwrap();
    let writes = api.take_writes();
    let expected = [
        format!("PATCH {}/status", record("aa")),
        format!("POST {EVENTS}"),
        format!("DELETE {}", record("aa")),
    ];
    assert_eq!(writes[..3], expected);
    let event = api.get(&format!("{EVENTS}/mbr-aa000000.s1.snapshotmissing"));
    let message = event["message"].as_str().unwrap();
    assert!(message.contains(id("aa").as_str()) && message.contains("r1"), "{message}");
    // Again, or when another snapshot has the name by now: nothing.
    put_record(&api, "aa", "s3", &json!({"snapshotId": "another", "repositoryId": "r1"}));
    reporter(&api).tell(&done(plan), Patience::Full).await.unwrap();
    assert_eq!(api.get(&record("aa"))["status"]["snapshotId"], "another");
}

#[tokio::test]
async fn what_a_record_said_of_its_snapshot_is_taken_back_unless_the_record_goes() {
    let api = api_server();
    let mut said = serde_json::to_value(status("aa")).unwrap();
    said["conditions"] = json!([{"type": "SnapshotDeleted", "status": "True", "reason": "Missing", "message": "",
        "lastTransitionTime": "2026-11-22T12:00:00Z"}]);
    put_record(&api, "aa", "s3", &said);
    let plan = Plan { revive: vec!["mbr-aa000000".into(), "mbr-gone".into()], ..Plan::default() };
    reporter(&api).tell(&done(plan.clone()), Patience::Full).await.unwrap();
    assert_eq!(api.get(&record("aa"))["status"]["conditions"], json!([]));
    assert_eq!(api.get(&record("aa"))["status"]["snapshotId"], id("aa").as_str());
    put_record(&api, "aa", "s3", &said);
    let mut leaving = api.get(&record("aa"));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-22T12:00:00Z");
    leaving["metadata"]["finalizers"] = json!(["f"]);
    api.put(&record("aa"), leaving);
    reporter(&api).tell(&done(plan), Patience::Full).await.unwrap();
    assert_eq!(api.get(&record("aa"))["status"]["conditions"], said["conditions"]);
}

#[tokio::test]
async fn a_look_that_failed_changes_no_record_and_makes_the_location_unavailable() {
    let api = api_server();
    reporter(&api).tell(&Word::Failed("no route".into()), Patience::Full).await.unwrap();
    assert_eq!(conditions(&api), [("Available".into(), "ValidationFailed".into())]);
    assert_eq!(api.get(&format!("{EVENTS}/s3.s1.unavailable"))["message"], "no route");
    reporter(&api).tell(&done(Plan::default()), Patience::Full).await.unwrap();
    assert_eq!(api.get(&format!("{EVENTS}/s3.s1.available"))["type"], "Normal");
}

#[tokio::test]
async fn a_location_that_changed_meanwhile_is_told_nothing_and_its_records_stay() {
    let api = api_server();
    let overtaken = SyncReporter { generation: 1, ..reporter(&api) };
    let plan = Plan { create: vec![creation("aa")], ..Plan::default() };
    overtaken.tell(&done(plan), Patience::Full).await.unwrap();
    overtaken.tell(&Word::Failed("no route".into()), Patience::Full).await.unwrap();
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_cluster_knows_is_read_in_the_order_that_loses_nothing() {
    let api = api_server();
    put_record(&api, "aa", "s3", &json!({}));
    let mut location = api.get(&path("backuplocations", "s3"));
    let pending = json!({"snapshotId": id("bb").as_str(), "repositoryId": "r1", "record": "r", "since": "2026-11-22T12:00:00Z"});
    location["status"]["pendingDeletions"] = json!([pending]);
    api.put(&path("backuplocations", "s3"), location);
    let _ = api.take_requests();
    let known = reporter(&api).known().await.unwrap();
    let asked =
        [format!("GET {KINDS}/metadatabackuprecords"), format!("GET {}", path("backuplocations", "s3"))];
    assert_eq!(api.take_requests(), asked);
    assert_eq!(known.records.len(), 1);
    assert!(known.pending.contains(&("r1".to_owned(), id("bb").to_string())));
}
