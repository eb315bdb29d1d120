//! A record is deleted: its snapshot goes with it, or it is said that it stays.

use std::sync::Arc;

use kubedr_api::names::finalizer;
use kubedr_testing::FakeApi;
use serde_json::{Value, json};

use super::{
    EVENTS, JOBS, LOCATION, count,
    records::{
        CRD, LOCATIONS, NAMESPACE, RECORDS, ago, cache, change, cluster, id, maintain, path,
        put_deleted_record, put_record, reconcile_record, records, say_deleted, variable,
    },
    watched,
};
use crate::controllers::record;

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
