//! What a forget job tells, step by step.

use kubedr_repo::{Amount, PruneReport, SnapshotId};
use kubedr_testing::FakeApi;
use serde_json::{Value, json};

use super::{EVENTS, KINDS, api_server, path};
use crate::{
    Progress,
    drive::{Patience, Reporter, Word},
    report::{ForgetReporter, KubeApi},
};

fn id(beginning: &str) -> SnapshotId {
    format!("{beginning:0<64}").parse().unwrap()
}

fn reporter(api: &FakeApi) -> ForgetReporter {
    ForgetReporter { api: KubeApi::new(api.client(), "ns"), location: "s3".into(), job_uid: "f1".into() }
}

/// A record that is being deleted, of this location and repository.
fn put_record(api: &FakeApi, beginning: &str, location: &str, repository: &str) -> String {
    let id = id(beginning);
    let name = format!("mbr-{}", id.short());
    let at = path("metadatabackuprecords", &name);
    let record = json!({
        "metadata": {"name": name, "namespace": "ns", "deletionTimestamp": "2026-11-22T12:00:00Z", "finalizers": ["f"]},
        "spec": {"backuploc": location, "policy": "daily", "snapshotId": id.short()},
        "status": {"snapshotId": id.as_str(), "repositoryId": repository},
    });
    api.put(&at, record);
    at
}

fn pending(beginning: &str, repository: &str) -> Value {
    json!({"snapshotId": id(beginning).as_str(), "repositoryId": repository, "record": "r", "since": "2026-11-22T12:00:00Z"})
}

fn location(api: &FakeApi) -> Value {
    api.get(&path("backuplocations", "s3"))
}

fn set_pending(api: &FakeApi, all: &[Value]) {
    let mut location = location(api);
    location["status"]["pendingDeletions"] = json!(all);
    api.put(&path("backuplocations", "s3"), location);
}

#[tokio::test]
async fn records_of_deleted_snapshots_are_told_so_and_no_others() {
    let api = api_server();
    let ours = put_record(&api, "aa", "s3", "r1");
    let others = [
        put_record(&api, "bb", "s3", "r1"),
        put_record(&api, "cc", "other", "r1"),
        put_record(&api, "dd", "s3", "r2"),
    ];
    reporter(&api).deleted("r1", &[id("aa"), id("cc"), id("dd"), id("ee")]).await.unwrap();
    assert_eq!(api.take_writes(), [format!("PATCH {ours}/status")]);
    let condition = &api.get(&ours)["status"]["conditions"][0];
    assert_eq!(
        (&condition["type"], &condition["status"], &condition["reason"]),
        (&"SnapshotDeleted".into(), &"True".into(), &"Deleted".into())
    );
    for other in others {
        assert_eq!(api.get(&other)["status"]["conditions"], Value::Null, "{other}");
    }
    // Told twice, it writes once.
    reporter(&api).deleted("r1", &[id("aa")]).await.unwrap();
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_waited_for_its_deletion_is_taken_off_the_list() {
    let api = api_server();
    set_pending(&api, &[pending("aa", "r1"), pending("bb", "r1"), pending("aa", "r2")]);
    reporter(&api).deleted("r1", &[id("aa")]).await.unwrap();
    let left = &location(&api)["status"]["pendingDeletions"];
    assert_eq!(*left, json!([pending("bb", "r1"), pending("aa", "r2")]));
}

#[tokio::test]
async fn many_deletions_cost_one_list_and_one_write_each() {
    let api = api_server();
    let ids: Vec<_> = (0..500).map(|n| id(&format!("{n:08x}"))).collect();
    for id in &ids {
        put_record(&api, id.short(), "s3", "r1");
    }
    let _ = api.take_requests();
    reporter(&api).deleted("r1", &ids).await.unwrap();
    let requests = api.take_requests();
    assert_eq!(requests.len(), 502, "the list, 500 records, the location");
    assert_eq!(requests[0], format!("GET {KINDS}/metadatabackuprecords"));
}

#[tokio::test]
async fn prune_and_check_are_in_the_status_and_each_keeps_the_other() {
    let api = api_server();
    let report = PruneReport {
        deleted: Amount { packs: 1, bytes: 10 },
        still_marked: Amount { packs: 2, bytes: 20 },
        ..PruneReport::default()
    };
    reporter(&api).pruned(&report).await.unwrap();
    reporter(&api).checked(None).await.unwrap();
    let status = location(&api)["status"].clone();
    assert_eq!(
        (&status["lastPrune"]["bytesDeleted"], &status["lastPrune"]["bytesMarked"]),
        (&10.into(), &20.into())
    );
    assert_eq!(
        (&status["lastCheck"]["result"], &status["lastCheck"]["message"]),
        (&"Passed".into(), &"".into())
    );
    assert_eq!(api.get(&format!("{EVENTS}/s3.f1.pruned"))["type"], "Normal");
    assert_eq!(api.get(&format!("{EVENTS}/s3.f1.checkfailed")), Value::Null);
}

#[tokio::test]
async fn damage_is_told_by_status_and_event() {
    let api = api_server();
    reporter(&api).checked(Some("a pack is missing")).await.unwrap();
    assert_eq!(location(&api)["status"]["lastCheck"]["result"], "Failed");
    let event = api.get(&format!("{EVENTS}/s3.f1.checkfailed"));
    assert_eq!((&event["type"], &event["message"]), (&"Warning".into(), &"a pack is missing".into()));
}

#[tokio::test]
async fn a_failure_is_an_event_on_the_location() {
    let api = api_server();
    reporter(&api).tell(&Word::Failed("no route".into()), Patience::Full).await.unwrap();
    assert_eq!(api.get(&format!("{EVENTS}/s3.f1.maintenancefailed"))["message"], "no route");
}

#[tokio::test]
async fn a_location_that_is_gone_is_told_nothing_and_its_records_all() {
    let api = api_server();
    api.remove(&path("backuplocations", "s3"));
    let record = put_record(&api, "aa", "s3", "r1");
    reporter(&api).deleted("r1", &[id("aa")]).await.unwrap();
    reporter(&api).checked(Some("damage")).await.unwrap();
    assert_eq!(api.take_writes(), [format!("PATCH {record}/status")]);
}
