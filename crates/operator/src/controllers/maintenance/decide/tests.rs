use serde_json::{Value, json};

use super::*;

/// Ten days after a location was initialised, at a whole day.
const NOW: i64 = 864_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

/// A location that was looked at a moment ago and whose space was reclaimed an hour ago, with these changes.
fn location(changes: &[(&str, Value)]) -> BackupLocation {
    let mut object = json!({
        "metadata": {"name": "s3", "generation": 1, "annotations": {}},
        "spec": {"url": "http://h", "bucketName": "b", "credentials": "c"},
        "status": {"initStatus": "Completed", "observedGeneration": 1, "repositoryId": "r1", "credentialsVersion": "5",
            "initTime": Timestamp::UNIX_EPOCH.to_string(), "lastValidationTime": at(0).to_string(),
            "lastPrune": {"time": at(-3600).to_string()},
            "lastCheck": {"time": at(-3600).to_string(), "result": "Passed"}},
    });
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn job(task: Task, attempt: u32, progress: Progress) -> MaintenanceJob {
    MaintenanceJob {
        name: format!("j{attempt}"),
        uid: format!("u{attempt}"),
        task,
        attempt,
        initialisation: Initialisation { generation: 1, credentials_version: "5".into() },
        progress,
        leaving: false,
    }
}

fn forget(ids: &[&str], prune: bool) -> Task {
    Task::Forget { snapshots: ids.iter().map(|id| (*id).to_owned()).collect(), prune }
}

fn deletion(snapshot: &str, repository: &str, since: i64) -> Deletion {
    Deletion { snapshot: snapshot.into(), repository: repository.into(), since: at(since) }
}

fn look(location: &BackupLocation, jobs: &[MaintenanceJob], deletions: &[Deletion], second: i64) -> Action {
    let deletions = Deletions { known: deletions.to_vec(), unidentified: Vec::new() };
    decide(&State { location, jobs, deletions: &deletions, now: at(second) })
}

fn started(action: Action) -> (Task, u32) {
    let Action::Start(due) = action else { panic!("{action:?}") };
    (due.task, due.attempt)
}

/// Seconds until the next look.
fn wait(action: &Action) -> u64 {
    let Action::LookAgain(wait) = action else { panic!("{action:?}") };
    wait.as_secs()
}

#[test]
fn a_location_that_is_not_initialised_as_it_is_specified_is_left_alone() {
    for change in [
        ("/status/initStatus", json!("Failed")),
        ("/status/repositoryId", Value::Null),
        ("/metadata/generation", json!(2)),
        ("/metadata/deletionTimestamp", json!(at(0).to_string())),
        ("/status", Value::Null),
    ] {
        let location = location(std::slice::from_ref(&change));
        assert_eq!(look(&location, &[], &[deletion("a", "r1", -60)], 0), Action::Wait, "{change:?}");
    }
}

#[test]
fn a_new_location_is_looked_at_at_once() {
    for change in [
        ("/status/lastValidationTime", Value::Null),
        ("/status/initTime", json!(at(1).to_string())),
        ("/status/lastValidationTime", json!("soon")),
    ] {
        assert_eq!(started(look(&location(&[change]), &[], &[], 1)), (Task::Sync, 1));
    }
}

#[test]
fn a_look_after_this_initialisation_counts_whatever_its_clock_said() {
    let behind = location(&[("/status/initTime", json!(at(100).to_string()))]);
    let looked = [job(Task::Sync, 1, Progress::Succeeded(at(0)))];
    assert!(wait(&look(&behind, &looked, &[], 1)) > 3000);
    let mut of_another = looked;
    of_another[0].initialisation.credentials_version = "4".into();
    assert_eq!(started(look(&behind, &of_another, &[], 1)), (Task::Sync, 1));
}

#[test]
fn the_next_look_comes_within_the_period_and_not_before_nine_tenths_of_it() {
    for name in ["s3", "a", "berlin-1"] {
        let location = location(&[("/metadata/name", json!(name))]);
        let seconds = wait(&look(&location, &[], &[], 0));
        assert!((3240..=3600).contains(&seconds), "{name}: {seconds}");
    }
    let often = location(&[("/spec/validationFrequency", json!("2m"))]);
    assert!((108..=120).contains(&wait(&look(&often, &[], &[], 0))));
    assert_eq!(started(look(&often, &[], &[], 120)), (Task::Sync, 1));
}

#[test]
fn a_time_in_the_future_does_not_put_off_the_next_look() {
    let ahead = location(&[("/status/lastValidationTime", json!(at(900_000).to_string()))]);
    assert!(wait(&look(&ahead, &[], &[], 0)) <= 3600);
}

#[test]
fn a_look_that_failed_comes_again_at_growing_intervals_but_not_later_than_it_would_have() {
    let here = location(&[]);
    for (attempt, seconds) in [(1, 60), (2, 120), (3, 240), (4, 480), (5, 600), (90, 600)] {
        let failed = [job(Task::Sync, attempt, Progress::Failed(at(0)))];
        assert_eq!(wait(&look(&here, &failed, &[], 0)), seconds);
        assert_eq!(started(look(&here, &failed, &[], seconds.cast_signed())), (Task::Sync, attempt + 1));
    }
    let often = location(&[("/spec/validationFrequency", json!("2m"))]);
    let failed = [job(Task::Sync, 9, Progress::Failed(at(0)))];
    assert!(wait(&look(&often, &failed, &[], 0)) <= 120);
}

#[test]
fn one_job_at_a_time() {
    let here = location(&[("/status/lastValidationTime", Value::Null)]);
    for task in [Task::Sync, forget(&["a"], false)] {
        let mut active = job(task, 1, Progress::Active);
        assert_eq!(look(&here, std::slice::from_ref(&active), &[deletion("a", "r1", -60)], 0), Action::Wait);
        active.leaving = true;
        assert_eq!(
            look(&here, &[active], &[deletion("a", "r1", -60)], 0),
            Action::Wait,
            "its pod may be there"
        );
    }
}

#[test]
fn snapshots_are_deleted_together_five_seconds_after_the_first_record() {
    let here = location(&[]);
    let two = [deletion("b", "r1", 2), deletion("a", "r1", 0), deletion("a", "r1", 1)];
    assert_eq!(wait(&look(&here, &[], &two, 4)), 1);
    assert_eq!(started(look(&here, &[], &two, 5)), (forget(&["a", "b"], false), 1));
    // The API server's clock is ahead.
    assert_eq!(wait(&look(&here, &[], &[deletion("a", "r1", 500)], 0)), 5);
}

#[test]
fn only_snapshots_of_this_repository_are_deleted_those_without_a_record_too() {
    let pending = |id: &str, repository: &str| json!({"snapshotId": id, "repositoryId": repository, "record": "mbr-1", "since": at(-9).to_string()});
    let all = json!([pending("p", "r1"), pending("q", "r2"), pending("a", "r1")]);
    let here = location(&[("/status/pendingDeletions", all)]);
    let records = [deletion("a", "r1", -8), deletion("x", "r2", -8)];
    assert_eq!(started(look(&here, &[], &records, 0)), (forget(&["a", "p"], false), 1));
    let read_only = location(&[("/spec/accessMode", json!("ReadOnly"))]);
    assert!(wait(&look(&read_only, &[], &records, 0)) > 3000);
}

#[test]
fn one_job_gets_a_thousand_snapshots_at_most() {
    let many: Vec<_> = (0..1500).map(|n| deletion(&format!("{n:04}"), "r1", -60)).collect();
    let (Task::Forget { snapshots, .. }, _) = started(look(&location(&[]), &[], &many, 0)) else { panic!() };
    assert_eq!((snapshots.len(), snapshots[0].as_str()), (1000, "0000"));
}

#[test]
fn what_failed_is_tried_again_at_growing_intervals_whatever_else_has_come() {
    let here = location(&[]);
    for (attempt, seconds) in [(1, 60), (2, 120), (5, 600)] {
        let failed = [job(forget(&["a"], false), attempt, Progress::Failed(at(0)))];
        let due = [deletion("a", "r1", -60), deletion("b", "r1", -60)];
        assert_eq!(wait(&look(&here, &failed, &due, 0)), seconds);
        let second = seconds.cast_signed();
        assert_eq!(started(look(&here, &failed, &due, second)), (forget(&["a", "b"], false), attempt + 1));
    }
}

#[test]
fn what_a_job_has_just_deleted_is_not_deleted_again_at_once_and_what_is_new_is() {
    let here = location(&[]);
    let done = [job(forget(&["a"], false), 1, Progress::Succeeded(at(0)))];
    assert_eq!(wait(&look(&here, &done, &[deletion("a", "r1", -60)], 0)), 60);
    let new = [deletion("a", "r1", -60), deletion("b", "r1", -60)];
    assert_eq!(started(look(&here, &done, &new, 0)), (forget(&["a", "b"], false), 1));
}

#[test]
fn a_look_comes_before_a_deletion() {
    let here = location(&[("/status/lastValidationTime", Value::Null)]);
    let due = [deletion("a", "r1", -60)];
    assert_eq!(started(look(&here, &[], &due, 0)).0, Task::Sync);
    let failed = [job(Task::Sync, 1, Progress::Failed(at(0)))];
    assert_eq!(
        started(look(&here, &failed, &due, 0)).0,
        forget(&["a"], false),
        "which does not wait for its success"
    );
}

#[test]
fn space_is_reclaimed_with_a_deletion_once_a_day() {
    let day = 24 * 3600;
    let due = [deletion("a", "r1", -60)];
    for (last, prune) in [
        (Value::Null, true),
        (json!({"time": at(-day).to_string()}), true),
        (json!({"time": at(1 - day).to_string()}), false),
    ] {
        let here = location(&[("/status/lastPrune", last.clone())]);
        assert_eq!(started(look(&here, &[], &due, 0)).0, forget(&["a"], prune), "{last}");
    }
}

fn tried(annotation: &str, second: i64) -> (&'static str, Value) {
    ("/metadata/annotations", json!({ annotation: at(second).to_string() }))
}

#[test]
fn space_that_could_not_be_reclaimed_is_tried_for_again_after_an_hour() {
    let never = ("/status/lastPrune", Value::Null);
    let here = |second| location(&[never.clone(), tried(annotation::LAST_PRUNE_TRY, second)]);
    let due = [deletion("a", "r1", -60)];
    assert_eq!(started(look(&here(-3599), &[], &due, 0)).0, forget(&["a"], false));
    assert_eq!(started(look(&here(-3600), &[], &due, 0)).0, forget(&["a"], true));
}

#[test]
fn what_was_deleted_or_marked_since_is_reclaimed_a_day_later_without_another_deletion() {
    let day = 24 * 3600;
    let last =
        |marked: i64| ("/status/lastPrune", json!({"time": at(-day).to_string(), "bytesMarked": marked}));
    let recent = ("/status/lastPrune", json!({"time": at(-3600).to_string(), "bytesMarked": 7}));
    let prune = || forget(&[], true);
    assert_eq!(started(look(&location(&[last(7)]), &[], &[], 0)).0, prune());
    assert_eq!(
        started(look(&location(&[last(0), tried(annotation::LAST_DELETION, 1 - day)]), &[], &[], 0)).0,
        prune()
    );
    let never = ("/status/lastPrune", Value::Null);
    assert_eq!(
        started(look(&location(&[never, tried(annotation::LAST_DELETION, -9)]), &[], &[], 0)).0,
        prune()
    );
    for nothing in [location(&[last(0)]), location(&[recent])] {
        assert!(matches!(look(&nothing, &[], &[], 0), Action::LookAgain(_)));
    }
    assert!(matches!(
        look(&location(&[last(0), tried(annotation::LAST_DELETION, -day - 1)]), &[], &[], 0),
        Action::LookAgain(_)
    ));
}

#[test]
fn the_oldest_finished_jobs_beyond_three_are_surplus() {
    let mut jobs: Vec<_> =
        (1..=5).map(|n| job(forget(&["a"], false), n, Progress::Succeeded(at(i64::from(n))))).collect();
    assert_eq!(surplus(&jobs, &Action::Wait), ["j2", "j1"]);
    let start = Action::Start(Due { at: at(0), task: forget(&["a"], false), attempt: 1 });
    assert_eq!(surplus(&jobs, &start), ["j3", "j2", "j1"], "that will be one more");
    jobs.push(job(forget(&["a"], false), 6, Progress::Active));
    assert_eq!(surplus(&jobs, &Action::Wait), ["j3", "j2", "j1"]);
    jobs[0].leaving = true;
    assert_eq!(surplus(&jobs, &Action::Wait), ["j3", "j2"]);
    let syncs: Vec<_> = (1..=5).map(|n| job(Task::Sync, n, Progress::Failed(at(0)))).collect();
    assert!(surplus(&syncs, &Action::Wait).is_empty(), "those go by themselves");
}

#[test]
fn a_record_asks_for_a_deletion_only_if_it_is_being_deleted_here_and_enough_is_known() {
    let record = |changes: &[(&str, Value)]| -> MetadataBackupRecord {
        let mut object = json!({
            "metadata": {"name": "mbr-1", "finalizers": [finalizer::RECORD], "deletionTimestamp": at(0).to_string()},
            "spec": {"backuploc": "s3", "policy": "daily", "snapshotId": "0a0a0a0a"},
            "status": {"snapshotId": "a", "repositoryId": "r1"},
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    };
    let asks = |changes: &[(&str, Value)], location| Deletions::of([record(changes)].iter(), location);
    let snapshot = Deletions { known: vec![deletion("a", "r1", 0)], unidentified: vec![] };
    assert_eq!(asks(&[], "s3"), snapshot);
    assert_eq!(asks(&[], "other"), Deletions::default());
    let gone = json!([{"type": "SnapshotDeleted", "status": "True", "reason": "Deleted", "message": "",
        "lastTransitionTime": at(0).to_string()}]);
    for change in [
        ("/metadata/deletionTimestamp", Value::Null),
        ("/metadata/finalizers", json!(["other/one"])),
        ("/status/conditions", gone),
    ] {
        assert_eq!(asks(std::slice::from_ref(&change), "s3"), Deletions::default(), "{change:?}");
    }
    let look = Deletions { known: vec![], unidentified: vec![at(0)] };
    for unknown in ["/status/snapshotId", "/status/repositoryId", "/status"] {
        assert_eq!(asks(&[(unknown, Value::Null)], "s3"), look, "{unknown}");
    }
}

#[test]
fn a_deleted_record_that_does_not_know_its_snapshot_makes_a_look_due_that_comes_after_it() {
    let here = location(&[]);
    let look = |jobs: &[MaintenanceJob], since: &[i64], second| {
        let unidentified = since.iter().map(|since| at(*since)).collect();
        let deletions = Deletions { known: Vec::new(), unidentified };
        decide(&State { location: &here, jobs, deletions: &deletions, now: at(second) })
    };
    assert_eq!(wait(&look(&[], &[100, 103], 101)), 4);
    assert_eq!(started(look(&[], &[100, 103], 105)), (Task::Sync, 1));
    // One look does for all that were deleted before it, whether its job is there or not.
    let seen = [job(Task::Sync, 1, Progress::Succeeded(at(110)))];
    assert!(wait(&look(&seen, &[100, 103], 111)) > 3000);
    assert!(wait(&look(&[], &[-60], 1)) > 3000);
    assert_eq!(started(look(&seen, &[100, 200], 205)), (Task::Sync, 1));
    // One that failed is tried again in its time.
    let failed = [job(Task::Sync, 2, Progress::Failed(at(110)))];
    assert_eq!(wait(&look(&failed, &[100], 111)), 119);
}

#[test]
fn what_waits_in_another_repository_is_stranded_once_the_location_is_initialised_with_this_one() {
    let pending = |repository: &str| json!({"snapshotId": repository, "repositoryId": repository, "record": "mbr-1", "since": at(-9).to_string()});
    let all = ("/status/pendingDeletions", json!([pending("r1"), pending("r2")]));
    let here = location(std::slice::from_ref(&all));
    assert_eq!(stranded(&here).iter().map(|p| p.snapshot_id.as_str()).collect::<Vec<_>>(), ["r2"]);
    for change in [("/status/initStatus", json!("Failed")), ("/metadata/generation", json!(2))] {
        assert!(stranded(&location(&[all.clone(), change])).is_empty(), "it may come back");
    }
}
