//! From objects as the API server gives them to the one screen.
#![allow(clippy::needless_pass_by_value, reason = "objects are made where they are passed")]

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use super::{
    judge::{Facts, LocationState, OperatorState, PolicyState, Status, judge},
    render::render,
};
use crate::terminal::{Colours, Screen};

const NOW: &str = "2026-03-02T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    condition("Ready", status, reason, message)
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-02-01T00:00:00Z",
    })
}

fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
        "kind": kind,
        "metadata": { "name": name, "namespace": "kubedr-system", "creationTimestamp": "2026-02-01T00:00:00Z" },
        "spec": spec,
        "status": status,
    })
}

/// A policy that is as it should be, with these changes to it.
fn policy(name: &str, changes: Value) -> Value {
    let mut policy = object(
        "MetadataBackupPolicy",
        name,
        json!({ "destination": "s3", "schedule": "0 1 * * *" }),
        json!({
            "backupStatus": "Completed",
            "backupTime": "2026-03-02T01:00:09Z",
            "lastSuccessfulTime": "2026-03-02T01:00:09Z",
            "mbrName": "mbr-8a1c06fd",
            "lastRun": { "jobName": "j", "jobUID": "u", "startTime": "2026-03-02T01:00:03Z" },
            "conditions": [ready("True", "Scheduled", "")],
        }),
    );
    merge(&mut policy, changes);
    if policy["status"].is_object() && policy["status"]["activeSchedule"].is_null() {
        let (spec, created) = (&policy["spec"], &policy["metadata"]["creationTimestamp"]);
        let active = json!({
            "schedule": spec["schedule"], "timeZone": spec["timeZone"], "suspend": spec["suspend"] == true, "since": created,
        });
        policy["status"]["activeSchedule"] = active;
    }
    policy
}

/// A location that is as it should be, with these changes to it.
fn location(name: &str, changes: Value) -> Value {
    let mut location = object(
        "BackupLocation",
        name,
        json!({ "url": "https://s3.example.com", "bucketName": "backups", "credentials": "s3-creds" }),
        json!({
            "initStatus": "Completed",
            "initTime": "2026-03-01T00:00:00Z",
            "lastValidationTime": "2026-03-02T11:48:00Z",
            "lastCheck": { "time": "2026-03-01T09:00:00Z", "result": "Passed", "message": "" },
            "snapshots": 52,
            "conditions": [ready("True", "Initialized", ""), condition("Available", "True", "Reachable", "")],
        }),
    );
    merge(&mut location, changes);
    location
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn objects<T: serde::de::DeserializeOwned>(all: Vec<Value>) -> Vec<T> {
    all.into_iter().map(|object| serde_json::from_value(object).unwrap()).collect()
}

fn status(policies: Vec<Value>, locations: Vec<Value>) -> Status {
    let record = |policy: &str| {
        let spec = json!({ "policy": policy, "backuploc": "s3", "snapshotId": "8a1c06fd" });
        object("MetadataBackupRecord", "mbr-8a1c06fd", spec, json!({}))
    };
    let operator =
        vec![json!({ "metadata": { "name": "kubedr-operator" }, "status": { "readyReplicas": 1 } })];
    let facts = Facts {
        namespace: "kubedr-system".into(),
        policies: objects(policies),
        locations: objects(locations),
        records: objects(vec![record("nightly"), record("nightly"), record("gone")]),
        operator: Some(objects(operator)),
        lease: Some(vec![lease("2026-03-02T11:59:58.000000Z")]),
    };
    judge(&facts, now())
}

fn lease(renewed: &str) -> Lease {
    serde_json::from_value(
        json!({ "metadata": { "name": "kubedr-operator" }, "spec": { "renewTime": renewed } }),
    )
    .unwrap()
}

fn one_policy(changes: Value) -> (PolicyState, Vec<String>) {
    let mut status = status(vec![policy("nightly", changes)], vec![location("s3", json!({}))]);
    let policy = status.policies.remove(0);
    assert_eq!(status.healthy, policy.problems.is_empty());
    (policy.state, policy.problems)
}

fn one_location(changes: Value) -> (LocationState, Vec<String>) {
    let mut status = status(vec![policy("nightly", json!({}))], vec![location("s3", changes)]);
    let location = status.locations.remove(0);
    assert_eq!(status.healthy, location.problems.is_empty());
    (location.state, location.problems)
}

#[test]
fn what_is_as_it_should_be_is_healthy() {
    assert_eq!(one_policy(json!({})), (PolicyState::Ok, vec![]));
    assert_eq!(one_location(json!({})), (LocationState::Ok, vec![]));
}

#[test]
fn a_failure_is_told_with_its_message_until_a_backup_succeeds() {
    let failed =
        json!({ "status": { "backupStatus": "Failed", "backupErrorMessage": "etcd: refused; look" } });
    let (state, problems) = one_policy(failed);
    assert_eq!(
        (state, problems),
        (PolicyState::Failed, vec!["the last backup failed 10h ago: etcd: refused; look".into()])
    );
}

#[test]
fn a_backup_that_has_not_begun_is_told_ten_minutes_after_its_time() {
    let every_hour = |started: &str| {
        one_policy(json!({
            "spec": { "schedule": "50 * * * *" },
            "status": { "lastRun": { "startTime": started } },
        }))
    };
    assert_eq!(every_hour("2026-03-02T10:50:02Z").0, PolicyState::Overdue, "11:50 is ten minutes ago");
    assert_eq!(every_hour("2026-03-02T11:50:02Z"), (PolicyState::Ok, vec![]));
    let (state, problems) = every_hour("2026-03-02T09:50:02Z");
    assert_eq!(state, PolicyState::Overdue);
    assert!(
        problems[0].contains("kubectl -n kubedr-system describe cronjob nightly-backup-cronjob"),
        "{problems:?}"
    );
    let in_berlin = json!({ "spec": { "schedule": "40 12 * * *", "timeZone": "Europe/Berlin" } });
    assert_eq!(one_policy(in_berlin).0, PolicyState::Overdue, "20 minutes ago in Berlin");
    let running =
        json!({ "spec": { "schedule": "* * * * *" }, "status": { "backupStatus": "Initializing" } });
    assert_eq!(one_policy(running), (PolicyState::Running, vec![]));
}

#[test]
fn what_was_due_before_the_schedule_counted_was_not_missed() {
    let changed = json!({
        "spec": { "schedule": "40 11 * * *" },
        "status": { "activeSchedule": { "schedule": "40 11 * * *", "since": "2026-03-02T11:45:00Z" } },
    });
    assert_eq!(one_policy(changed), (PolicyState::Ok, vec![]));
}

#[test]
fn a_paused_policy_owes_nothing_and_has_no_next_run() {
    let paused = json!({ "spec": { "suspend": true, "schedule": "* * * * *" } });
    assert_eq!(one_policy(paused.clone()), (PolicyState::Paused, vec![]));
    assert_eq!(status(vec![policy("nightly", paused)], vec![]).policies[0].next_run, None);
}

#[test]
fn a_policy_that_cannot_run_says_why() {
    let conditions = json!([ready("False", "LocationNotFound", "no BackupLocation `s3`: create it")]);
    let (state, problems) = one_policy(json!({ "status": { "conditions": conditions } }));
    assert_eq!((state, problems), (PolicyState::NotReady, vec!["no BackupLocation `s3`: create it".into()]));
    let unseen = one_policy(json!({ "status": null }));
    assert_eq!(unseen.0, PolicyState::NotReady);
    assert!(unseen.1[0].contains("the operator has not looked at it"), "{unseen:?}");
    let new =
        one_policy(json!({ "metadata": { "creationTimestamp": "2026-03-02T11:59:30Z" }, "status": null }));
    assert_eq!(new, (PolicyState::New, vec![]));
}

#[test]
fn an_object_that_does_not_fit_the_schema_is_told_and_hides_no_other() {
    let strange = object("MetadataBackupPolicy", "old", json!({ "schedule": 7 }), json!({}));
    let status = status(vec![policy("nightly", json!({})), strange], vec![]);
    assert_eq!(status.policies[0].state, PolicyState::Ok);
    assert!(status.policies[1].problems[0].contains("does not fit the schema"), "{:?}", status.policies[1]);
}

#[test]
fn each_thing_that_is_wrong_with_a_location_is_told() {
    let failed = |type_: &str, message: &str| {
        let conditions = json!([ready("True", "Initialized", ""), condition(type_, "False", "X", message)]);
        one_location(json!({ "status": { "conditions": conditions } }))
    };
    assert_eq!(failed("Available", "no answer"), (LocationState::Unavailable, vec!["no answer".into()]));
    assert_eq!(failed("CatalogComplete", "withheld"), (LocationState::Incomplete, vec!["withheld".into()]));
    let damage = json!({ "status": { "lastCheck": { "result": "Failed", "message": "a pack is missing" } } });
    let (state, problems) = one_location(damage);
    assert_eq!(
        (state, problems),
        (LocationState::Damaged, vec!["the last check has failed: a pack is missing".into()])
    );
    let conditions = json!([ready("False", "InitFailed", "wrong password; correct it")]);
    let (state, problems) = one_location(json!({ "status": { "conditions": conditions } }));
    assert_eq!((state, problems), (LocationState::NotReady, vec!["wrong password; correct it".into()]));
    let conditions = json!([ready("False", "Initializing", "an init job runs")]);
    let new = one_location(json!({ "status": { "conditions": conditions } }));
    assert_eq!(new, (LocationState::Initializing, vec![]));
}

#[test]
fn without_policies_or_an_operator_nothing_is_as_it_should_be() {
    let nothing = |operator| {
        let facts = Facts {
            namespace: "ns".into(),
            policies: vec![],
            locations: vec![],
            records: vec![],
            operator,
            lease: None,
        };
        judge(&facts, now())
    };
    let unknown = nothing(None);
    assert!(!unknown.healthy && unknown.problems[0].contains("nothing is backed up"), "{unknown:?}");
    assert_eq!(unknown.operator, OperatorState::Unknown);
    assert_eq!(nothing(Some(vec![])).operator, OperatorState::Missing);
    let stopped = objects(vec![json!({ "metadata": { "name": "kubedr-operator" } })]);
    let stopped = nothing(Some(stopped));
    assert_eq!(stopped.operator, OperatorState::NotReady);
    assert!(stopped.problems[0].contains("describe pods"), "{stopped:?}");
}

#[test]
fn an_operator_whose_pods_are_ready_serves_if_one_of_them_renews_the_lease() {
    let with = |lease: Option<Vec<Lease>>| {
        let ready = json!({ "metadata": { "name": "kubedr-operator" }, "status": { "readyReplicas": 2 } });
        let facts = Facts {
            namespace: "ns".into(),
            policies: objects(vec![policy("nightly", json!({}))]),
            locations: vec![],
            records: vec![],
            operator: Some(objects(vec![ready])),
            lease,
        };
        let Status { operator, problems, healthy, .. } = judge(&facts, now());
        assert_eq!(healthy, problems.is_empty());
        (operator, problems)
    };
    assert_eq!(with(Some(vec![lease("2026-03-02T11:58:01.000000Z")])), (OperatorState::Ready, vec![]));
    // The clock here is behind.
    assert_eq!(with(Some(vec![lease("2026-03-02T12:10:00.000000Z")])), (OperatorState::Ready, vec![]));
    assert_eq!(with(None), (OperatorState::Ready, vec![]), "who may not see the Lease is told nothing of it");
    let (state, problems) = with(Some(vec![lease("2026-03-02T11:57:59.000000Z")]));
    assert_eq!(state, OperatorState::NotReady);
    assert_eq!(
        problems,
        [
            "the operator's pods are ready, but none is at work, since the Lease `kubedr-operator` was last renewed 2m ago by the clock of this machine: backups \
          go on by schedule, but nothing here is kept up to date; see `kubectl -n ns logs deployment/kubedr-operator`"
        ]
    );
    let (state, problems) = with(Some(vec![]));
    assert_eq!(state, OperatorState::NotReady);
    assert!(problems[0].contains("since none has taken the Lease `kubedr-operator`: "), "{problems:?}");
}

#[test]
fn a_location_that_nobody_looks_at_or_checks_in_time_is_overdue() {
    let late_look = json!({ "status": { "lastValidationTime": "2026-03-02T07:59:00Z" } });
    assert_eq!(
        one_location(late_look.clone()),
        (
            LocationState::Overdue,
            vec![
                "the last look at it was 4h ago and one is due every 1h: see `kubectl -n kubedr-system get jobs,pods -l \
                 kubedr.backuploc=s3`"
                    .into()
            ]
        )
    );
    let late_check = json!({ "status": { "lastCheck": { "time": "2026-02-21T11:00:00Z" } } });
    assert_eq!(
        one_location(late_check),
        (
            LocationState::Overdue,
            vec![
                "the last check of it was 9d ago and one is due every week: see `kubectl -n kubedr-system get events \
                 --field-selector involvedObject.name=s3`"
                    .into()
            ]
        )
    );
    let never = json!({ "status": { "initTime": "2026-02-01T00:00:00Z", "lastCheck": null } });
    assert!(one_location(never).1[0].starts_with("there was no check of it yet and one is due"));
    // A storage that does not answer explains it.
    let mut unavailable = late_look;
    unavailable["status"]["conditions"] = json!([
        ready("True", "Initialized", ""),
        condition("Available", "False", "Unreachable", "no answer")
    ]);
    assert_eq!(one_location(unavailable), (LocationState::Unavailable, vec!["no answer".into()]));
}

fn a_bad_day() -> Status {
    let failed = json!({
        "status": {
            "backupStatus": "Failed",
            "backupErrorMessage": "etcd at https://127.0.0.1:2379 refused the client certificate: it has expired (Secret `etcd-creds`); put a new one into the Secret",
            "backupTime": "2026-03-02T11:00:04Z",
            "lastRun": { "startTime": "2026-03-02T11:00:00Z" },
        },
        "spec": { "schedule": "@hourly" },
    });
    let never = json!({
        "status": { "backupStatus": null, "backupTime": null, "lastSuccessfulTime": null, "mbrName": null, "lastRun": null },
        "metadata": { "creationTimestamp": "2026-03-02T11:59:00Z" },
        "spec": { "destination": "second", "schedule": "@weekly" },
    });
    let unavailable = json!({
        "spec": { "url": null, "bucketName": null, "volume": { "claimName": "backups" } },
        "status": {
            "lastCheck": null,
            "snapshots": null,
            "conditions": [ready("True", "Initialized", ""), condition("Available", "False", "ValidationFailed", "the volume is full: make room")],
        },
    });
    status(
        vec![
            policy("nightly", json!({})),
            policy("hourly", failed),
            policy("weekly", never),
            policy("off", json!({ "spec": { "suspend": true } })),
        ],
        vec![location("s3", json!({})), location("second", unavailable)],
    )
}

#[test]
fn the_screen_fits_terminals_of_any_width() {
    for width in [120, 80, 40] {
        let text = render(&a_bad_day(), Screen { width: Some(width), colours: Colours::Off });
        for line in text.lines() {
            assert!(console::measure_text_width(line) <= width, "{width}: {line}");
        }
        insta::assert_snapshot!(format!("bad-day-{width}"), text);
    }
    let text = render(&a_bad_day(), Screen { width: None, colours: Colours::Off });
    insta::assert_snapshot!("bad-day-pipe", text);
}

#[test]
fn a_good_day_is_told_in_the_first_line() {
    let good = status(vec![policy("nightly", json!({}))], vec![location("s3", json!({}))]);
    insta::assert_snapshot!("good-day", render(&good, Screen { width: Some(80), colours: Colours::Off }));
}

#[test]
fn colours_are_those_of_traffic_lights_and_change_no_letter() {
    let coloured = render(&a_bad_day(), Screen { width: Some(80), colours: Colours::On });
    assert!(
        coloured.contains("\x1b[32mok\x1b[0m") && coloured.contains("\x1b[1m\x1b[31mFAILED\x1b[0m"),
        "{coloured:?}"
    );
    let plain = render(&a_bad_day(), Screen { width: Some(80), colours: Colours::Off });
    assert_eq!(console::strip_ansi_codes(&coloured), plain);
}

#[test]
fn the_document_for_programs_says_the_same() {
    insta::assert_snapshot!("bad-day-json", serde_json::to_string_pretty(&a_bad_day()).unwrap());
}
