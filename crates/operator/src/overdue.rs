//! Whether what should have happened by now has not: a backup, a check.

use jiff::{SignedDuration, Timestamp};
use kubedr_api::{BackupLocation, BackupLocationStatus, MetadataBackupPolicy, Phase, Timetable};

/// How late a backup may begin. A controller manager that is busy, or that has just become the leader, takes some minutes.
const BACKUP_GRACE: SignedDuration = SignedDuration::from_mins(10);
/// A repository is checked at least once in this time.
const CHECK_PERIOD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How late a check may be: others may hold the repository's lock, or its storage may be away.
const CHECK_GRACE: SignedDuration = SignedDuration::from_hours(2 * 24);
/// By how much the clock of the node on which a run began may be behind.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);

/// Whether a backup of this policy was due, the time to begin has passed, and none has begun. A policy that is paused owes none, and
/// while one runs the next is not late. `None` if the schedule or its time zone cannot be read.
#[must_use]
pub fn is_backup_overdue(policy: &MetadataBackupPolicy, now: Timestamp) -> Option<bool> {
    let spec = &policy.spec;
    let timetable = Timetable::new(&spec.schedule, spec.time_zone.as_deref()).ok()?;
    let status = policy.status.clone().unwrap_or_default();
    if spec.suspend || status.backup_status == Some(Phase::Initializing) {
        return Some(false);
    }
    let time = |text: &str| text.parse::<Timestamp>().ok();
    // Until the operator has noted since when the schedule counts, it is new.
    let Some(since) = status.active_schedule.and_then(|active| time(&active.since)) else {
        return Some(false);
    };
    let last = status.last_run.and_then(|run| time(&run.start_time));
    let last = last.and_then(|last| last.checked_add(CLOCKS).ok());
    let may_wait = SignedDuration::from_secs(spec.starting_deadline_seconds.unwrap_or_default().max(0));
    let until = now.checked_sub(BACKUP_GRACE.saturating_add(may_wait)).ok()?;
    Some(timetable.last_due(since.max(last.unwrap_or(since)), until).is_some())
}

/// When the repository with this status is to be checked next, at the latest.
#[must_use]
pub fn check_due(status: &BackupLocationStatus, now: Timestamp) -> Timestamp {
    let times = [status.last_check.as_ref().map(|check| &check.time), status.init_time.as_ref()];
    let last = times.into_iter().flatten().find_map(|time| time.parse::<Timestamp>().ok());
    // A time that has not come yet is that of a clock which was wrong.
    let last = last.unwrap_or(Timestamp::UNIX_EPOCH).min(now);
    last.saturating_add(CHECK_PERIOD).unwrap_or(Timestamp::MAX)
}

/// Whether this location's repository should have been checked by now. `None` for one that is not initialised or never checked, since
/// nothing may be written to it.
#[must_use]
pub fn is_check_overdue(location: &BackupLocation, now: Timestamp) -> Option<bool> {
    let status = location.status.as_ref()?;
    if status.init_status != Some(Phase::Completed) || location.spec.is_read_only() {
        return None;
    }
    let late = check_due(status, now).saturating_add(CHECK_GRACE).ok()?;
    Some(now >= late)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A policy whose schedule counts since the beginning of 2026 and whose last run began then.
    fn overdue(schedule: &str, last_run: &str, now: &str, changes: &Value) -> Option<bool> {
        let mut object = json!({
            "metadata": {"name": "daily"},
            "spec": {"destination": "s3", "schedule": schedule},
            "status": {
                "backupStatus": "Completed",
                "activeSchedule": {"schedule": schedule, "since": "2026-01-01T00:00:00Z"},
                "lastRun": {"jobName": "a", "jobUID": "a", "startTime": last_run},
            },
        });
        for (pointer, value) in changes.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        is_backup_overdue(&serde_json::from_value(object).unwrap(), now.parse().unwrap())
    }

    #[test]
    fn a_backup_is_overdue_ten_minutes_after_its_time() {
        let daily = |last_run, now| overdue("0 1 * * *", last_run, now, &json!({}));
        assert_eq!(daily("2026-03-01T01:00:04Z", "2026-03-02T01:09:59Z"), Some(false));
        assert_eq!(daily("2026-03-01T01:00:04Z", "2026-03-02T01:10:00Z"), Some(true));
        assert_eq!(daily("2026-03-02T01:00:04Z", "2026-03-02T01:10:00Z"), Some(false));
        // One by hand, after the time, is a backup.
        assert_eq!(daily("2026-03-02T07:00:00Z", "2026-03-02T08:00:00Z"), Some(false));
        assert_eq!(daily("2026-03-01T23:00:00Z", "2026-03-02T08:00:00Z"), Some(true));
    }

    #[test]
    fn the_clock_of_a_node_may_be_a_little_behind() {
        assert_eq!(
            overdue("0 1 * * *", "2026-03-02T00:59:20Z", "2026-03-02T08:00:00Z", &json!({})),
            Some(false)
        );
    }

    #[test]
    fn a_policy_that_never_ran_is_overdue_after_its_first_time() {
        let changes = json!({"/status/lastRun": null, "/status/backupStatus": null});
        let never = |now| overdue("0 1 * * *", "", now, &changes);
        assert_eq!(never("2026-01-01T00:30:00Z"), Some(false));
        assert_eq!(never("2026-01-01T01:10:00Z"), Some(true));
    }

    #[test]
    fn what_was_due_before_a_change_or_a_resumption_is_not_overdue() {
        let changes = json!({"/status/activeSchedule/since": "2026-03-02T07:00:00Z"});
        let late = |now| overdue("0 1 * * *", "2026-02-01T01:00:00Z", now, &changes);
        assert_eq!(late("2026-03-02T08:00:00Z"), Some(false));
        assert_eq!(late("2026-03-03T01:10:00Z"), Some(true));
        let unknown = json!({"/status/activeSchedule": null});
        assert_eq!(
            overdue("* * * * *", "2026-02-01T01:00:00Z", "2026-03-02T08:00:00Z", &unknown),
            Some(false)
        );
    }

    #[test]
    fn a_paused_policy_owes_none_and_while_one_runs_the_next_is_not_late() {
        let last = "2026-03-02T01:00:00Z";
        let now = "2026-03-02T02:00:00Z";
        assert_eq!(overdue("*/5 * * * *", last, now, &json!({})), Some(true));
        assert_eq!(overdue("*/5 * * * *", last, now, &json!({"/spec/suspend": true})), Some(false));
        assert_eq!(
            overdue("*/5 * * * *", last, now, &json!({"/status/backupStatus": "Initializing"})),
            Some(false)
        );
    }

    #[test]
    fn a_time_zone_and_a_time_to_begin_are_heeded() {
        let daily = |now, changes| overdue("0 1 * * *", "2026-03-01T00:00:04Z", now, &changes);
        let berlin = json!({"/spec/timeZone": "Europe/Berlin"});
        assert_eq!(daily("2026-03-02T00:09:59Z", berlin.clone()), Some(false));
        assert_eq!(daily("2026-03-02T00:10:00Z", berlin), Some(true));
        let patient = json!({"/spec/startingDeadlineSeconds": 3600,
            "/status/activeSchedule/since": "2026-03-01T12:00:00Z"});
        assert_eq!(daily("2026-03-02T02:09:59Z", patient.clone()), Some(false));
        assert_eq!(daily("2026-03-02T02:10:00Z", patient), Some(true));
    }

    #[test]
    fn a_period_counts_from_the_last_run() {
        let every = |now| overdue("@every 6h", "2026-03-02T00:00:00Z", now, &json!({}));
        assert_eq!(every("2026-03-02T06:10:00Z"), Some(false));
        assert_eq!(every("2026-03-02T06:11:00Z"), Some(true));
    }

    fn check_overdue(status: &Value, mode: &str, now: &str) -> Option<bool> {
        let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c", "accessMode": mode});
        let object = json!({"metadata": {"name": "s3"}, "spec": spec, "status": status});
        is_check_overdue(&serde_json::from_value(object).unwrap(), now.parse().unwrap())
    }

    #[test]
    fn a_repository_is_late_to_be_checked_nine_days_after_its_last_check_or_its_initialisation() {
        let mut status = json!({"initStatus": "Completed", "initTime": "2026-03-01T00:00:00Z"});
        let late = |status: &Value, now| check_overdue(status, "ReadWrite", now);
        assert_eq!(late(&status, "2026-03-09T23:59:59Z"), Some(false));
        assert_eq!(late(&status, "2026-03-10T00:00:00Z"), Some(true));
        status["lastCheck"] = json!({"time": "2026-03-05T00:00:00Z", "result": "Failed"});
        assert_eq!(late(&status, "2026-03-10T00:00:00Z"), Some(false));
        assert_eq!(late(&status, "2026-03-14T00:00:00Z"), Some(true));
    }

    #[test]
    fn a_repository_that_nobody_checks_is_not_late() {
        let status = json!({"initStatus": "Completed", "initTime": "2026-03-01T00:00:00Z"});
        assert_eq!(check_overdue(&status, "ReadOnly", "2027-03-10T00:00:00Z"), None);
        assert_eq!(
            check_overdue(&json!({"initStatus": "Failed"}), "ReadWrite", "2027-03-10T00:00:00Z"),
            None
        );
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_said() {
        assert_eq!(overdue("TZ=UTC 0 1 * * *", "", "2026-03-02T06:10:00Z", &json!({})), None);
    }
}
