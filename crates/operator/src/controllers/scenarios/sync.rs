//! The jobs that look at a repository, and what becomes of those that fail.

use kubedr_api::names::annotation;
use serde_json::{Value, json};

use super::{
    EVENTS, JOBS, LOCATION, put_location,
    records::{
        change, cluster, end, initialised, job_path, maintain, path, put_deleted_record, reconcile_job,
        variable,
    },
};

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
