//! What backups come to, whatever happens to operator, Jobs and policy meanwhile.

use std::sync::Arc;

use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::{JOBS, POLICY, context, watched};
use crate::controllers::totals::{self, TotalsError};
use kubedr_testing::FakeApi;

const CREATED: &str = "2026-01-01T00:00:00Z";

fn put_policy(api: &FakeApi) {
    api.put(
        POLICY,
        json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1", "kind": "MetadataBackupPolicy",
            "metadata": {"name": "daily", "namespace": "ns", "uid": "pol-1", "generation": 1, "creationTimestamp": CREATED},
            "spec": {"destination": "s3", "schedule": "@daily"},
        }),
    );
}

/// A run that has told of its end, and its Job that has ended a minute after it began.
fn end_backup(api: &FakeApi, minute: u8, ok: bool) {
    let (phase, condition) = if ok { ("Completed", "Complete") } else { ("Failed", "Failed") };
    let mut policy = api.get(POLICY);
    let (name, began) = (format!("daily-{minute}"), format!("2026-01-01T01:{minute:02}:00Z"));
    for (field, value) in [
        ("backupStatus", json!(phase)),
        ("backupPod", json!(format!("{name}-x"))),
        ("totalBytesProcessed", json!(if ok { 500 } else { 0 })),
        ("totalDurationSecs", if ok { json!("2.500000000") } else { Value::Null }),
        ("lastRun", json!({"jobName": name, "jobUID": name, "startTime": began})),
    ] {
        policy["status"][field] = value;
    }
    api.put(POLICY, policy);
    api.put(
        &format!("{JOBS}/{name}"),
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": began,
                "labels": {"kubedr.type": "backup", "kubedr.backup-policy": "daily"}},
            "status": {"conditions": [{"type": condition, "status": "True",
                "lastTransitionTime": format!("2026-01-01T01:{:02}:00Z", minute + 1)}]},
        }),
    );
}

/// One reconcile of an operator that has just started, and whose watches show all that is there.
async fn reconcile(api: &FakeApi) -> Result<(), TotalsError> {
    let (jobs, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for job in api.all(JOBS) {
        writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(job).unwrap()));
    }
    writer.apply_watcher_event(&Event::InitDone);
    let shared = Arc::new(totals::Policies { ctx: context(api), jobs });
    totals::reconcile(watched(api, POLICY), shared).await.map(drop)
}

fn figures(api: &FakeApi) -> (i64, i64, i64) {
    let totals = &api.get(POLICY)["status"]["totals"];
    let figure = |name: &str| totals[name].as_i64().unwrap_or_default();
    (figure("succeeded"), figure("failed"), figure("durationMillis"))
}

#[tokio::test]
async fn a_backup_is_counted_in_one_write_and_then_noted_on_its_policy() {
    let api = FakeApi::default();
    put_policy(&api);
    reconcile(&api).await.unwrap();
    assert_eq!(api.take_writes(), [format!("PATCH {POLICY}/status")], "since when the schedule counts");
    assert_eq!(api.get(POLICY)["status"]["activeSchedule"]["since"], CREATED);
    end_backup(&api, 1, true);
    reconcile(&api).await.unwrap();
    assert_eq!(api.take_writes(), [format!("PATCH {POLICY}/status"), format!("PATCH {POLICY}")]);
    assert_eq!(figures(&api), (1, 0, 2500));
    let noted = &api.get(POLICY)["metadata"]["annotations"];
    assert_eq!(noted[kubedr_api::names::annotation::PROCESSED_BACKUP], "daily-1-x");
    reconcile(&api).await.unwrap();
    assert_eq!(api.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_operator_that_dies_before_or_after_its_write_counts_once() {
    let api = FakeApi::default();
    put_policy(&api);
    end_backup(&api, 1, true);
    api.refuse(&format!("{POLICY}/status"), 500, "killed before");
    reconcile(&api).await.unwrap_err();
    assert_eq!(figures(&api), (0, 0, 0));
    api.accept(&format!("{POLICY}/status"));
    api.refuse(POLICY, 500, "killed after");
    reconcile(&api).await.unwrap_err();
    assert_eq!(figures(&api), (1, 0, 2500));
    api.accept(POLICY);
    reconcile(&api).await.unwrap();
    assert_eq!(figures(&api), (1, 0, 2500));
    assert!(api.get(POLICY)["metadata"]["annotations"].is_object());
}

#[tokio::test]
async fn what_a_stale_watch_shows_is_looked_at_again_before_it_is_counted() {
    let api = FakeApi::default();
    put_policy(&api);
    end_backup(&api, 1, false);
    let stale = watched(&api, POLICY);
    reconcile(&api).await.unwrap();
    assert_eq!(figures(&api), (0, 1, 0));
    let (jobs, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitApply(serde_json::from_value(api.all(JOBS).remove(0)).unwrap()));
    writer.apply_watcher_event(&Event::InitDone);
    api.take_writes();
    let shared = Arc::new(totals::Policies { ctx: context(&api), jobs });
    totals::reconcile(stale, shared).await.unwrap();
    assert_eq!((figures(&api), api.take_writes()), ((0, 1, 0), vec![]));
}

#[tokio::test]
async fn no_figure_falls_when_jobs_go_and_operators_come_again() {
    let api = FakeApi::default();
    put_policy(&api);
    for minute in 0..20 {
        end_backup(&api, minute, minute % 4 != 0);
        reconcile(&api).await.unwrap();
        // The history of the CronJob, and an admin who deletes all of it from time to time.
        let kept = if minute % 7 == 0 { 0 } else { 3 };
        let jobs = api.all(JOBS);
        for job in jobs.iter().take(jobs.len().saturating_sub(kept)) {
            api.remove(&format!("{JOBS}/{}", job["metadata"]["name"].as_str().unwrap()));
        }
        reconcile(&api).await.unwrap();
        let failed = i64::from(minute / 4) + 1;
        let succeeded = i64::from(minute) + 1 - failed;
        assert_eq!(figures(&api), (succeeded, failed, succeeded * 2500), "minute {minute}");
    }
    let counted = api.get(POLICY)["status"]["totals"]["countedJobUIDs"].as_array().unwrap().len();
    assert!(counted <= 5, "{counted} Jobs are remembered");
}

#[tokio::test]
async fn backups_that_ended_while_no_operator_was_there_are_counted_together() {
    let api = FakeApi::default();
    put_policy(&api);
    for (minute, ok) in [(1, true), (2, false), (3, false)] {
        end_backup(&api, minute, ok);
    }
    reconcile(&api).await.unwrap();
    // The figures of the first are gone from the status; its Job says how long it took.
    assert_eq!(figures(&api), (1, 2, 60_000));
    assert_eq!(api.get(POLICY)["status"]["totals"]["consecutiveFailures"], 2);
}
