//! What should have happened by now: a backup, a look at a repository, a check of it.
//!
//! One rule for each: what the operator's metrics tell is what `kubedrctl status` tells.

use jiff::{SignedDuration, Timestamp};

use crate::{
    ActiveSchedule, BackupLocation, BackupLocationStatus, MetadataBackupPolicy, MetadataBackupPolicySpec,
    Phase, Timetable, TimetableError,
};

/// How late a backup may begin. A controller manager that is busy, or that has just become the leader, takes some minutes.
const BACKUP_GRACE: SignedDuration = SignedDuration::from_mins(10);
/// By how much the clock of the node on which a run began may be behind.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);
/// How late a look at a repository may be: a job that deletes snapshots goes before it. Such a job may wait half an hour for each
/// of two locks, and then work for the hour that the chart gives it.
const LOOK_GRACE: SignedDuration = SignedDuration::from_hours(3);
/// A repository is checked at least once in this time.
const CHECK_PERIOD: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How late a check may be: others may hold the repository's lock, or its storage may be away.
const CHECK_GRACE: SignedDuration = SignedDuration::from_hours(2 * 24);

impl ActiveSchedule {
    /// Whether the schedule of this specification is the one that counts.
    #[must_use]
    pub fn is_of(&self, spec: &MetadataBackupPolicySpec) -> bool {
        let Self { schedule, time_zone, suspend, since: _ } = self;
        (schedule, time_zone, suspend) == (&spec.schedule, &spec.time_zone, &spec.suspend)
    }
}

/// When the next backup of this policy is due. `None` if it is paused or never comes.
#[must_use]
pub fn next_backup(policy: &MetadataBackupPolicy, now: Timestamp) -> Option<Timestamp> {
    let timetable = timetable(policy).ok().filter(|_| !policy.spec.suspend)?;
    timetable.next_due(counts_since(policy, SignedDuration::ZERO).unwrap_or(now), now)
}

/// When a backup of this policy was due that should have begun by now and has not. A policy that is paused owes none, and while
/// one runs the next is not late.
pub fn missed_backup(
    policy: &MetadataBackupPolicy,
    now: Timestamp,
) -> Result<Option<Timestamp>, TimetableError> {
    let timetable = timetable(policy)?;
    let spec = &policy.spec;
    let runs = policy.status.as_ref().is_some_and(|status| status.backup_status == Some(Phase::Initializing));
    if spec.suspend || runs {
        return Ok(None);
    }
    let may_wait = SignedDuration::from_secs(spec.starting_deadline_seconds.unwrap_or_default().max(0));
    let until = now.checked_sub(BACKUP_GRACE.saturating_add(may_wait)).ok();
    let since = counts_since(policy, CLOCKS);
    Ok(since.zip(until).and_then(|(since, until)| timetable.last_due(since, until)))
}

fn timetable(policy: &MetadataBackupPolicy) -> Result<Timetable, TimetableError> {
    Timetable::new(&policy.spec.schedule, policy.spec.time_zone.as_deref())
}

/// Since when the schedule counts, or this long after the last backup began if that is later. `None` until the operator has noted
/// the schedule as it is now: it is new.
fn counts_since(policy: &MetadataBackupPolicy, after_beginning: SignedDuration) -> Option<Timestamp> {
    let status = policy.status.as_ref()?;
    let active = status.active_schedule.as_ref().filter(|active| active.is_of(&policy.spec))?;
    let began = status.last_run.as_ref().and_then(|run| time(&run.start_time));
    let began = began.and_then(|began| began.checked_add(after_beginning).ok());
    time(&active.since).map(|since| began.unwrap_or(since).max(since))
}

/// When the repository with this status is to be checked next, at the latest.
#[must_use]
pub fn check_due(status: &BackupLocationStatus, now: Timestamp) -> Timestamp {
    let checked = status.last_check.as_ref().and_then(|check| time(&check.time));
    after(checked.or_else(|| initialised_at(status)), CHECK_PERIOD, now)
}

/// Whether this location's repository should have been checked by now. `None` for one that is not initialised or never checked, since
/// nothing may be written to it.
#[must_use]
pub fn is_check_overdue(location: &BackupLocation, now: Timestamp) -> Option<bool> {
    let status = initialised(location).filter(|_| !location.spec.is_read_only())?;
    let late = check_due(status, now).saturating_add(CHECK_GRACE).ok()?;
    Some(now >= late)
}

/// Whether this location's repository should have been looked at by now. `None` for one that is not initialised.
#[must_use]
pub fn is_look_overdue(location: &BackupLocation, now: Timestamp) -> Option<bool> {
    let status = initialised(location)?;
    let period = SignedDuration::try_from(location.spec.validation_period()).ok()?;
    let looked = status.last_validation_time.as_deref().and_then(time);
    Some(now >= after(looked.max(initialised_at(status)), period.saturating_add(LOOK_GRACE), now))
}

fn initialised(location: &BackupLocation) -> Option<&BackupLocationStatus> {
    location.status.as_ref().filter(|status| status.init_status == Some(Phase::Completed))
}

fn initialised_at(status: &BackupLocationStatus) -> Option<Timestamp> {
    status.init_time.as_deref().and_then(time)
}

/// This long after that time; long ago if there is none.
fn after(last: Option<Timestamp>, wait: SignedDuration, now: Timestamp) -> Timestamp {
    // A time that has not come yet is that of a clock which was wrong.
    last.unwrap_or(Timestamp::UNIX_EPOCH).min(now).saturating_add(wait).unwrap_or(Timestamp::MAX)
}

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A policy whose schedule counts since the beginning of 2026 and whose last run began then.
    fn policy(schedule: &str, last_run: &str, changes: &Value) -> MetadataBackupPolicy {
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
        serde_json::from_value(object).unwrap()
    }

    fn overdue(schedule: &str, last_run: &str, now: &str, changes: &Value) -> Option<bool> {
        let missed = missed_backup(&policy(schedule, last_run, changes), now.parse().unwrap());
        missed.ok().map(|missed| missed.is_some())
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
        // The operator has not seen the change yet.
        let unseen = json!({"/status/activeSchedule/schedule": "@weekly"});
        assert_eq!(
            overdue("* * * * *", "2026-02-01T01:00:00Z", "2026-03-02T08:00:00Z", &unseen),
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
        let berlin =
            json!({"/spec/timeZone": "Europe/Berlin", "/status/activeSchedule/timeZone": "Europe/Berlin"});
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

    #[test]
    fn the_next_backup_is_the_one_of_the_schedule_and_a_paused_policy_has_none() {
        let next = |schedule, changes| {
            let policy = policy(schedule, "2026-03-02T00:00:05Z", &changes);
            let next = next_backup(&policy, "2026-03-02T07:00:00Z".parse().unwrap());
            next.map(|time| time.to_string())
        };
        assert_eq!(next("0 1 * * *", json!({})).as_deref(), Some("2026-03-03T01:00:00Z"));
        assert_eq!(next("@every 6h", json!({})).as_deref(), Some("2026-03-02T12:00:05Z"));
        assert_eq!(next("0 1 * * *", json!({"/spec/suspend": true})), None);
        // Since when it counts is not known, but that it has to come within the period is.
        let new = json!({"/status/activeSchedule": null});
        assert_eq!(next("@every 6h", new).as_deref(), Some("2026-03-02T13:00:00Z"));
    }

    #[test]
    fn an_hour_that_comes_twice_owes_two_backups() {
        let change =
            json!({"/spec/timeZone": "Europe/Berlin", "/status/activeSchedule/timeZone": "Europe/Berlin"});
        // Half past two, which comes again an hour later.
        let night = |last_run, now| overdue("30 2 * * *", last_run, now, &change);
        assert_eq!(night("2026-10-25T00:30:04Z", "2026-10-25T01:39:59Z"), Some(false));
        assert_eq!(night("2026-10-25T00:30:04Z", "2026-10-25T01:40:00Z"), Some(true));
        assert_eq!(night("2026-10-25T01:30:04Z", "2026-10-25T12:00:00Z"), Some(false));
        // In spring it is skipped.
        assert_eq!(night("2026-03-28T01:30:04Z", "2026-03-29T12:00:00Z"), Some(false));
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
    fn a_look_is_late_three_hours_after_it_was_due() {
        let late = |status: Value, now: &str| {
            let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c", "validationFrequency": "30m"});
            let object = json!({"metadata": {"name": "s3"}, "spec": spec, "status": status});
            is_look_overdue(&serde_json::from_value(object).unwrap(), now.parse().unwrap())
        };
        let mut status = json!({"initStatus": "Completed", "initTime": "2026-03-01T00:00:00Z"});
        assert_eq!(late(status.clone(), "2026-03-01T03:29:59Z"), Some(false));
        assert_eq!(late(status.clone(), "2026-03-01T03:30:00Z"), Some(true));
        status["lastValidationTime"] = json!("2026-03-01T03:00:00Z");
        assert_eq!(late(status.clone(), "2026-03-01T06:29:59Z"), Some(false));
        assert_eq!(late(status.clone(), "2026-03-01T06:30:00Z"), Some(true));
        // What has been initialised anew is looked at soon.
        status["initTime"] = json!("2026-03-01T06:00:00Z");
        assert_eq!(late(status.clone(), "2026-03-01T06:30:00Z"), Some(false));
        status["initStatus"] = json!("Failed");
        assert_eq!(late(status, "2027-03-01T06:30:00Z"), None);
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_said() {
        assert_eq!(overdue("TZ=UTC 0 1 * * *", "", "2026-03-02T06:10:00Z", &json!({})), None);
    }
}
