//! Retention: which records are deleted, and what many of them cost.

use std::sync::Arc;

use kubedr_api::names::annotation;
use kubedr_testing::FakeApi;
use serde_json::{Value, json};

use super::{
    JOBS, LOCATION, POLICY, context, put_policy,
    records::{
        LOCATIONS, RECORDS, ago, cache, change, cluster, maintain, path, put_record, records, say_deleted,
        variable,
    },
    watched,
};
use crate::controllers::{record, retention};

async fn retain(api: &FakeApi) {
    let shared = Arc::new(retention::Policies {
        ctx: context(api),
        records: cache(api, RECORDS),
        locations: cache(api, LOCATIONS),
    });
    retention::reconcile(watched(api, POLICY), shared).await.unwrap();
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
