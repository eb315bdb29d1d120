use kubedr_testing::FakeApi;
use serde_json::Value;

use super::*;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/ns/deployments";
const PODS: &str = "/api/v1/namespaces/ns/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/ns/jobs";
const RECORDS: &str = "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/metadatabackuprecords";

/// Long enough for a machine that has much else to do.
fn patient() -> Limits {
    Limits {
        whole: Duration::from_secs(30),
        operator: Duration::from_secs(10),
        jobs: Duration::from_secs(10),
        pause: Duration::from_millis(10),
    }
}

async fn run(api: &FakeApi) -> Result<(), ReleaseError> {
    run_within(api, patient()).await
}

async fn run_within(api: &FakeApi, limits: Limits) -> Result<(), ReleaseError> {
    release_by(&api.client(), "ns", limits, CancellationToken::new()).await
}

fn path(record: usize) -> String {
    format!("{RECORDS}/mbr-{record:08}")
}

fn put_record(api: &FakeApi, record: usize, finalizers: &[&str]) {
    let metadata = json!({"name": format!("mbr-{record:08}"), "namespace": "ns", "finalizers": finalizers});
    api.put(
        &path(record),
        object("kubedr.catalogicsoftware.com/v1alpha1", "MetadataBackupRecord", &metadata),
    );
}

fn put_operator(api: &FakeApi) {
    let name = json!({"name": DEPLOYMENT, "namespace": "ns"});
    api.put(&format!("{DEPLOYMENTS}/{DEPLOYMENT}"), object("apps/v1", "Deployment", &name));
}

fn put_pod(api: &FakeApi) {
    api.put(&format!("{PODS}/a"), object("v1", "Pod", &json!({"name": "a", "namespace": "ns"})));
}

fn object(version: &str, kind: &str, metadata: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": metadata})
}

fn finalizers(api: &FakeApi, record: usize) -> Value {
    api.get(&path(record))["metadata"]["finalizers"].clone()
}

#[tokio::test]
async fn the_operator_ends_first_then_its_finalizer_goes_and_no_other() {
    let api = FakeApi::default();
    put_operator(&api);
    put_record(&api, 1, &["other/one", finalizer::RECORD]);
    put_record(&api, 2, &["other/one"]);
    run(&api).await.unwrap();
    assert_eq!(finalizers(&api, 1), json!(["other/one"]));
    assert_eq!(finalizers(&api, 2), json!(["other/one"]));
    let delete = format!("DELETE {DEPLOYMENTS}/{DEPLOYMENT}");
    assert_eq!(api.take_writes(), [delete.clone(), delete, format!("PATCH {}", path(1))]);
}

#[tokio::test]
async fn no_record_is_released_while_a_pod_of_the_operator_is_there() {
    let api = FakeApi::default();
    put_pod(&api);
    put_record(&api, 1, &[finalizer::RECORD]);
    let pod_goes = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(finalizers(&api, 1), json!([finalizer::RECORD]));
        api.remove(&format!("{PODS}/a"));
    };
    tokio::join!(run(&api), pod_goes).0.unwrap();
    assert_eq!(finalizers(&api, 1), json!([]));
}

#[tokio::test]
async fn a_pod_that_never_goes_does_not_keep_the_records() {
    let api = FakeApi::default();
    put_pod(&api);
    put_record(&api, 1, &[finalizer::RECORD]);
    run_within(&api, Limits { operator: Duration::from_millis(50), ..patient() }).await.unwrap();
    assert_eq!(finalizers(&api, 1), json!([]));
}

/// A job that stays until its pod is gone, as with a finalizer of the garbage collector.
fn put_job(api: &FakeApi) {
    let metadata = json!({"name": "s3-forget-1", "namespace": "ns", "finalizers": ["foregroundDeletion"],
        "labels": {"kubedr.type": "forget"}});
    api.put(&format!("{JOBS}/s3-forget-1"), object("batch/v1", "Job", &metadata));
}

#[tokio::test]
async fn a_job_that_deletes_snapshots_is_ended_after_the_operator_and_before_any_record_is_released() {
    let api = FakeApi::default();
    put_operator(&api);
    put_job(&api);
    put_record(&api, 1, &[finalizer::RECORD]);
    let job = format!("{JOBS}/s3-forget-1");
    let pod_goes = async {
        while api.get(&job)["metadata"]["deletionTimestamp"].is_null() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(api.get(&format!("{DEPLOYMENTS}/{DEPLOYMENT}")), Value::Null);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(finalizers(&api, 1), json!([finalizer::RECORD]));
        api.remove(&job);
    };
    tokio::join!(run(&api), pod_goes).0.unwrap();
    assert_eq!(finalizers(&api, 1), json!([]));
}

#[tokio::test]
async fn a_job_that_never_goes_does_not_keep_the_records() {
    let api = FakeApi::default();
    put_job(&api);
    put_record(&api, 1, &[finalizer::RECORD]);
    run_within(&api, Limits { jobs: Duration::from_millis(50), ..patient() }).await.unwrap();
    assert_eq!(finalizers(&api, 1), json!([]));
}

#[tokio::test]
async fn a_record_that_changed_meanwhile_is_tried_again_and_the_others_do_not_wait_for_it() {
    let api = FakeApi::default();
    for record in [1, 2] {
        put_record(&api, record, &[finalizer::RECORD]);
    }
    api.refuse(&path(1), 409, "the object has been modified");
    let peace = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(finalizers(&api, 2), json!([]));
        api.accept(&path(1));
    };
    tokio::join!(run(&api), peace).0.unwrap();
    assert_eq!(finalizers(&api, 1), json!([]));
}

#[tokio::test]
async fn records_of_several_pages_take_one_write_each() {
    let api = FakeApi::default();
    for record in 0..600 {
        put_record(&api, record, &[finalizer::RECORD]);
    }
    run(&api).await.unwrap();
    let requests = api.take_requests();
    let count = |start: &str| requests.iter().filter(|request| request.starts_with(start)).count();
    assert_eq!((count("PATCH "), count(&format!("GET {RECORDS}"))), (600, 4));
    assert!((0..600).all(|record| finalizers(&api, record) == json!([])));
}

#[tokio::test]
async fn where_there_is_nothing_to_do_that_is_a_success() {
    let api = FakeApi::default();
    run(&api).await.unwrap();
    put_record(&api, 1, &[finalizer::RECORD]);
    api.forget_kind(RECORDS);
    run(&api).await.unwrap();
}

#[tokio::test]
async fn it_ends_in_time_when_the_api_server_fails_and_says_what_is_left_to_do() {
    let api = FakeApi::default();
    api.fail(true);
    let error =
        run_within(&api, Limits { whole: Duration::from_millis(100), ..patient() }).await.unwrap_err();
    assert!(matches!(error, ReleaseError::Late { .. }));
    let message = error.to_string();
    assert!(message.contains("`ns`") && message.contains(finalizer::RECORD), "{message}");
}

#[tokio::test]
async fn sigterm_ends_it() {
    let api = FakeApi::default();
    put_pod(&api);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let ended = release_by(&api.client(), "ns", patient(), shutdown).await;
    assert!(matches!(ended, Err(ReleaseError::Ended { .. })));
}

#[tokio::test]
async fn an_operator_that_goes_with_its_namespace_frees_the_records_and_touches_nothing_else() {
    let api = FakeApi::default();
    put_operator(&api);
    put_pod(&api);
    put_record(&api, 1, &["other/one", finalizer::RECORD]);
    let_go(&api.client(), "ns").await.unwrap();
    assert_eq!(finalizers(&api, 1), json!(["other/one"]));
    assert_eq!(api.take_writes(), [format!("PATCH {}", path(1))]);
}
