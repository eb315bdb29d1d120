//! The jobs that delete snapshots: how many there are, and what becomes of those that fail.

use kubedr_api::names::annotation;
use serde_json::json;

use super::{
    EVENTS, JOBS, LOCATION, put_location,
    records::{
        change, cluster, end, id, initialised, job_path, maintain, path, put_deleted_record, reconcile_job,
        variable,
    },
};

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
