//! Whose holder is gone, and who is told of the waiting.

use kubedr_repo::LockInfo;
use kubedr_testing::FakeApi;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{EVENTS, api_server};
use crate::{
    Neighbours,
    lock::user_name,
    report::{KubeApi, Pods, Subject},
};

const PODS: &str = "/api/v1/namespaces/ns/pods";

fn lock_of(username: String) -> LockInfo {
    LockInfo {
        id: "00".repeat(32),
        time: jiff::Timestamp::UNIX_EPOCH,
        exclusive: true,
        hostname: "daily-1-x".into(),
        username,
        pid: 1,
    }
}

fn pods(api: &FakeApi) -> Pods {
    Pods::new(KubeApi::new(api.client(), "ns"), "c1", "ns", Subject::Location("s3".into()), "f1")
}

fn put_pod(api: &FakeApi, uid: &str, phase: &str) {
    let pod =
        json!({"metadata": {"name": "daily-1-x", "namespace": "ns", "uid": uid}, "status": {"phase": phase}});
    api.put(&format!("{PODS}/daily-1-x"), pod);
}

/// The answer, asked as the engine does: from a thread that may block.
async fn is_gone(pods: Pods, username: String) -> bool {
    spawn_blocking(move || pods.is_gone(&lock_of(username))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_gone_when_its_pod_has_ended_or_another_has_its_name() {
    let api = api_server();
    let ours = user_name("c1", "ns", "p1");
    for (uid, phase, gone) in [
        ("p1", "Running", false),
        ("p1", "Pending", false),
        ("p1", "Succeeded", true),
        ("p1", "Failed", true),
        ("p2", "Running", true),
    ] {
        put_pod(&api, uid, phase);
        assert_eq!(is_gone(pods(&api), ours.clone()).await, gone, "{uid} {phase}");
    }
    api.remove(&format!("{PODS}/daily-1-x"));
    assert!(is_gone(pods(&api), ours.clone()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_knows_of_other_clusters_or_people_and_an_api_server_that_is_away_knows_of_nobody() {
    let api = api_server();
    for other in [user_name("c2", "ns", "p1"), user_name("c1", "other", "p1"), "root".into()] {
        assert!(!is_gone(pods(&api), other).await);
    }
    assert_eq!(api.take_requests(), Vec::<String>::new());
    api.fail(true);
    assert!(!is_gone(pods(&api), user_name("c1", "ns", "p1")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_alive_is_not_asked_about_at_every_look() {
    let api = api_server();
    put_pod(&api, "p1", "Running");
    let _ = api.take_requests();
    let pods = pods(&api);
    let looks = spawn_blocking(move || {
        (0..5).map(|_| pods.is_gone(&lock_of(user_name("c1", "ns", "p1")))).collect::<Vec<_>>()
    });
    assert_eq!(looks.await.unwrap(), [false; 5]);
    assert_eq!(api.take_requests(), [format!("GET {PODS}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_told_once() {
    let api = api_server();
    let pods = pods(&api);
    let told = spawn_blocking(move || (0..3).for_each(|_| pods.waiting(&lock_of("root".into()))));
    told.await.unwrap();
    assert_eq!(api.take_writes(), [format!("POST {EVENTS}")]);
    let event = api.get(&format!("{EVENTS}/s3.f1.waitingforlock"));
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("`root` on `daily-1-x`"), "{message}");
    assert_ne!(event["involvedObject"]["uid"], Value::Null);
}
