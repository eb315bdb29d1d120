//! Which backups are to be counted, and since when a schedule counts. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kubedr_api::names::annotation;
use kubedr_api::{
    ActiveSchedule, BackupEnd, BackupSize, BackupTotals, LastRun, MetadataBackupPolicy,
    MetadataBackupPolicyStatus, Phase,
};
use serde_json::{Value, json};

use crate::failure::{condition, ended_at};

/// A Job that is going to fail does so once its pods are gone, which may tell of a success until then. They have ten seconds for it;
/// those of a dead node never go, and after 90 seconds such a Job is deleted.
const FAILS_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    at: Timestamp,
    job_uid: String,
    end: BackupEnd,
}

/// What the status does not say yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    totals: Option<BackupTotals>,
    schedule: Option<ActiveSchedule>,
    noted: Option<String>,
}

/// In which time to look at these Jobs again, though nothing changes: one that is going to fail may never get so far.
#[must_use]
pub fn look_again(jobs: &[&Job], now: Timestamp) -> Option<Duration> {
    let left = |job: &&Job| {
        let ended = ended_at(job).filter(|_| is_failing(job))?;
        Duration::try_from(FAILS_WITHIN - now.duration_since(ended)).ok()
    };
    jobs.iter().filter_map(left).min().map(|left| left + Duration::from_millis(50))
}

/// Whether it is certain that the Job fails, and its pods are not gone yet.
fn is_failing(job: &Job) -> bool {
    condition(job, "FailureTarget").is_some() && condition(job, "Failed").is_none()
}

/// Whether this Job is one of the policy's, and not of an earlier one that had its name.
#[must_use]
pub fn is_of(job: &Job, policy: &MetadataBackupPolicy) -> bool {
    let created = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.as_ref().map_or(Timestamp::MIN, |time| time.0)
    };
    job.labels().get(kubedr_api::names::label::POLICY) == Some(&policy.name_any())
        && created(&job.metadata.creation_timestamp) >= created(&policy.metadata.creation_timestamp)
}

impl News {
    /// What the policy's status does not say yet of these Jobs of it and of its schedule.
    #[must_use]
    pub fn of(policy: &MetadataBackupPolicy, jobs: &[&Job], now: Timestamp) -> Self {
        let status = policy.status.clone().unwrap_or_default();
        Self {
            totals: totals(&status, jobs, now),
            schedule: active_schedule(policy, status.active_schedule.as_ref(), now),
            noted: unnoted(policy),
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let Self { totals, schedule, noted } = self;
        totals.is_none() && schedule.is_none() && noted.is_none()
    }

    /// All that the totals' field manager owns of the status, if that has to be written.
    #[must_use]
    pub fn status(&self, policy: &MetadataBackupPolicy) -> Option<Value> {
        let Self { totals, schedule, noted: _ } = self;
        if totals.is_none() && schedule.is_none() {
            return None;
        }
        let known = policy.status.as_ref();
        let totals = totals.as_ref().or_else(|| known?.totals.as_ref());
        let schedule = schedule.as_ref().or_else(|| known?.active_schedule.as_ref());
        let mut status = json!({ "activeSchedule": schedule });
        if let Some(totals) = totals {
            status["totals"] = json!(totals);
        }
        Some(status)
    }
}

/// The pod of the last run, if that is counted and the annotation says otherwise.
#[must_use]
pub fn unnoted(policy: &MetadataBackupPolicy) -> Option<String> {
    let status = policy.status.as_ref()?;
    let counted = status.totals.as_ref()?.has_counted(&status.last_run.as_ref()?.job_uid);
    let pod = status.backup_pod.as_ref().filter(|_| counted)?;
    (policy.annotations().get(annotation::PROCESSED_BACKUP) != Some(pod)).then(|| pod.clone())
}

/// The totals with what has ended since, or `None` if nothing has.
fn totals(status: &MetadataBackupPolicyStatus, jobs: &[&Job], now: Timestamp) -> Option<BackupTotals> {
    let mut totals = status.totals.clone().unwrap_or_default();
    let of_jobs = jobs.iter().filter_map(|job| of_job(job, status, now));
    let mut ended: Vec<_> = of_jobs.chain(without_job(status, jobs, now)).collect();
    ended.retain(|ended| !totals.has_counted(&ended.job_uid));
    ended.sort_by(|a, b| (a.at, &a.job_uid).cmp(&(b.at, &b.job_uid)));
    if ended.is_empty() {
        return None;
    }
    for Ended { at: _, job_uid, end } in ended {
        totals.count(&job_uid, end);
    }
    // What can be met again: Jobs that are there, and the run that the status speaks of when its Job is gone.
    let last_run = status.last_run.as_ref().map(|run| run.job_uid.as_str());
    totals.forget_jobs(|uid| {
        last_run == Some(uid) || jobs.iter().any(|job| job.metadata.uid.as_deref() == Some(uid))
    });
    Some(totals)
}

/// How the backup of this Job ended; `None` while it has not, or may yet tell of a success.
fn of_job(job: &Job, status: &MetadataBackupPolicyStatus, now: Timestamp) -> Option<Ended> {
    let (at, job_uid) = (ended_at(job)?, job.uid()?);
    let told = status.last_run.as_ref().filter(|run| run.job_uid == job_uid);
    let end = if told.is_some() && status.backup_status == Some(Phase::Completed) {
        // It is stored and told, whatever became of the pod after that.
        succeeded(status, took(job, at))
    } else if condition(job, "Complete").is_some() {
        // Another run has told of itself since.
        BackupEnd::Succeeded { duration: took(job, at), size: None }
    } else if is_failing(job) && now.duration_since(at) < FAILS_WITHIN {
        return None;
    } else {
        BackupEnd::Failed
    };
    Some(Ended { at, job_uid, end })
}

/// How the last run ended, if its Job is gone.
fn without_job(status: &MetadataBackupPolicyStatus, jobs: &[&Job], now: Timestamp) -> Option<Ended> {
    let LastRun { job_uid, .. } = status.last_run.as_ref()?;
    if jobs.iter().any(|job| job.metadata.uid.as_ref() == Some(job_uid)) {
        return None;
    }
    let end = match status.backup_status? {
        Phase::Initializing => return None,
        Phase::Completed => succeeded(status, Duration::ZERO),
        Phase::Failed => BackupEnd::Failed,
    };
    let told = status.backup_time.as_ref().and_then(|time| time.parse().ok());
    Some(Ended { at: told.unwrap_or(now), job_uid: job_uid.clone(), end })
}

fn succeeded(status: &MetadataBackupPolicyStatus, otherwise: Duration) -> BackupEnd {
    let seconds = status.total_duration_secs.as_ref().and_then(|text| text.parse().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    BackupEnd::Succeeded {
        duration: duration.unwrap_or(otherwise),
        size: Some(BackupSize { added: status.data_added, processed: status.total_bytes_processed }),
    }
}

/// How long the Job took, its pod's start included.
fn took(job: &Job, ended: Timestamp) -> Duration {
    let status = job.status.as_ref();
    let began =
        status.and_then(|status| status.start_time.as_ref()).or(job.metadata.creation_timestamp.as_ref());
    let took = began.map(|began| ended.duration_since(began.0));
    took.and_then(|took| Duration::try_from(took).ok()).unwrap_or_default()
}

/// The schedule as it is now, if the status does not say so.
fn active_schedule(
    policy: &MetadataBackupPolicy,
    known: Option<&ActiveSchedule>,
    now: Timestamp,
) -> Option<ActiveSchedule> {
    let created = policy.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let since = match known {
        Some(known) if known.is_of(&policy.spec) => return None,
        // One that was never changed counts since it was created.
        None if policy.metadata.generation == Some(1) => created,
        _ => now,
    };
    Some(ActiveSchedule {
        schedule: policy.spec.schedule.clone(),
        time_zone: policy.spec.time_zone.clone(),
        suspend: policy.spec.suspend,
        since: since.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = "2026-01-01T00:00:00Z";

    fn at(minute: i64) -> Timestamp {
        CREATED.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_mins(minute)
    }

    fn policy(status: &Value) -> MetadataBackupPolicy {
        serde_json::from_value(json!({
            "metadata": {"name": "daily", "generation": 1, "creationTimestamp": CREATED},
            "spec": {"destination": "s3", "schedule": "@daily"},
            "status": status,
        }))
        .unwrap()
    }

    /// A Job that was created a minute before it ended with this condition.
    fn job(uid: &str, ended: i64, condition: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "creationTimestamp": at(ended - 1).to_string(),
                "labels": {"kubedr.backup-policy": "daily"}},
            "status": {"conditions": [
                {"type": condition, "status": "True", "lastTransitionTime": at(ended).to_string()},
            ]},
        }))
        .unwrap()
    }

    fn last_run(uid: &str, phase: &str) -> Value {
        json!({"backupStatus": phase, "backupPod": format!("pod-{uid}"), "totalBytesProcessed": 9, "dataAdded": 7,
            "totalDurationSecs": (phase == "Completed").then_some("2.500000000"),
            "lastRun": {"jobName": uid, "jobUID": uid, "startTime": CREATED}})
    }

    fn counted(status: &Value, jobs: &[Job]) -> Option<BackupTotals> {
        let jobs: Vec<&Job> = jobs.iter().collect();
        News::of(&policy(status), &jobs, at(60)).totals
    }

    /// Successes, failures, those in a row, and milliseconds.
    fn figures(totals: &BackupTotals) -> (i64, i64, i64, i64) {
        (totals.succeeded, totals.failed, totals.consecutive_failures, totals.duration_millis)
    }

    #[test]
    fn a_job_that_runs_is_not_counted_and_one_that_was_told_has_its_own_figures() {
        let running = job("a", 5, "Suspended");
        assert_eq!(counted(&last_run("a", "Completed"), &[running]), None);
        let totals = counted(&last_run("a", "Completed"), &[job("a", 5, "Complete")]).unwrap();
        assert_eq!(
            (figures(&totals), totals.last_data_added, totals.last_bytes_processed),
            ((1, 0, 0, 2500), 7, 9)
        );
        assert_eq!(totals.counted_job_uids, ["a"]);
    }

    #[test]
    fn a_success_that_was_told_is_one_even_if_its_pod_failed_after_that() {
        let totals = counted(&last_run("a", "Completed"), &[job("a", 5, "Failed")]).unwrap();
        assert_eq!(figures(&totals), (1, 0, 0, 2500));
    }

    #[test]
    fn jobs_that_ended_together_are_counted_in_the_order_of_their_ends() {
        let jobs = [job("c", 7, "Failed"), job("a", 5, "Failed"), job("b", 6, "Complete")];
        let totals = counted(&last_run("c", "Failed"), &jobs).unwrap();
        // Of the second nothing is told any more, but its Job says that it took a minute.
        assert_eq!(figures(&totals), (1, 2, 1, 60_000));
        assert_eq!(totals.counted_job_uids, ["a", "b", "c"]);
    }

    #[test]
    fn a_job_that_is_going_to_fail_is_counted_when_it_has_failed() {
        let failing = job("a", 60, "FailureTarget");
        assert_eq!(counted(&last_run("a", "Failed"), std::slice::from_ref(&failing)), None);
        // Its pod has told of a success within its grace.
        let totals = counted(&last_run("a", "Completed"), std::slice::from_ref(&failing)).unwrap();
        assert_eq!(figures(&totals), (1, 0, 0, 2500));
        let mut failed = failing;
        let status = job("a", 60, "Failed").status.unwrap();
        failed.status.as_mut().unwrap().conditions.as_mut().unwrap().extend(status.conditions.unwrap());
        assert_eq!(figures(&counted(&last_run("a", "Failed"), &[failed]).unwrap()), (0, 1, 1, 0));
    }

    #[test]
    fn a_job_whose_pod_cannot_be_removed_is_counted_after_a_minute() {
        let failing = job("a", 60, "FailureTarget");
        let after = |seconds| {
            let now = at(60) + SignedDuration::from_secs(seconds);
            let failed = News::of(&policy(&json!({})), &[&failing], now).totals.map(|totals| totals.failed);
            (failed, look_again(&[&failing], now))
        };
        assert_eq!(after(59), (None, Some(Duration::from_millis(1050))));
        assert_eq!(after(61), (Some(1), None));
        assert_eq!(look_again(&[&job("a", 60, "Failed"), &job("b", 60, "Complete")], at(60)), None);
    }

    #[test]
    fn what_is_counted_is_not_counted_again_whether_its_job_is_there_or_gone() {
        let mut status = last_run("b", "Failed");
        let totals = counted(&status, &[job("a", 5, "Complete"), job("b", 6, "Failed")]).unwrap();
        status["totals"] = json!(totals);
        for left in
            [vec![job("a", 5, "Complete"), job("b", 6, "Failed")], vec![job("b", 6, "Failed")], vec![]]
        {
            assert_eq!(counted(&status, &left), None);
        }
    }

    #[test]
    fn a_run_whose_job_is_gone_is_counted_from_what_it_has_told() {
        let totals = counted(&last_run("a", "Completed"), &[]).unwrap();
        assert_eq!(figures(&totals), (1, 0, 0, 2500));
        assert_eq!(figures(&counted(&last_run("a", "Failed"), &[]).unwrap()), (0, 1, 1, 0));
        assert_eq!(counted(&last_run("a", "Initializing"), &[]), None);
    }

    #[test]
    fn a_run_that_is_told_to_have_failed_is_counted_only_when_its_job_has_ended() {
        // Its pod may start after all.
        assert_eq!(counted(&last_run("a", "Failed"), &[job("a", 5, "Suspended")]), None);
    }

    #[test]
    fn jobs_that_went_are_forgotten_and_the_run_of_the_status_is_not() {
        let mut status = last_run("a", "Completed");
        status["totals"] = json!({"succeeded": 3, "countedJobUIDs": ["x", "y", "a", "z"]});
        let totals = counted(&status, &[job("y", 4, "Complete"), job("b", 5, "Failed")]).unwrap();
        assert_eq!(totals.counted_job_uids, ["y", "a", "b"]);
        assert_eq!((totals.succeeded, totals.failed), (3, 1));
    }

    #[test]
    fn a_job_of_an_earlier_policy_of_the_same_name_is_none_of_ours() {
        let ours = policy(&json!({}));
        assert!(is_of(&job("a", 2, "Complete"), &ours));
        assert!(!is_of(&job("a", 0, "Complete"), &ours));
        let mut other = job("a", 2, "Complete");
        other.labels_mut().insert("kubedr.backup-policy".into(), "hourly".into());
        assert!(!is_of(&other, &ours));
    }

    #[test]
    fn the_pod_is_noted_once_its_run_is_counted() {
        let mut status = last_run("a", "Completed");
        assert_eq!(unnoted(&policy(&status)), None);
        status["totals"] = json!({"countedJobUIDs": ["a"]});
        let mut policy = policy(&status);
        assert_eq!(unnoted(&policy).as_deref(), Some("pod-a"));
        policy.annotations_mut().insert(annotation::PROCESSED_BACKUP.into(), "pod-a".into());
        assert_eq!(unnoted(&policy), None);
    }

    #[test]
    fn a_schedule_counts_since_the_policy_was_created_or_its_last_change() {
        let mut policy = policy(&json!({}));
        let since = |policy: &MetadataBackupPolicy| {
            News::of(policy, &[], at(60)).schedule.map(|schedule| schedule.since)
        };
        assert_eq!(since(&policy).as_deref(), Some(CREATED));
        policy.metadata.generation = Some(2);
        assert_eq!(since(&policy), Some(at(60).to_string()), "it may just have been resumed");
        let known = json!({"schedule": "@daily", "since": CREATED});
        policy.status = Some(serde_json::from_value(json!({ "activeSchedule": known })).unwrap());
        assert_eq!(since(&policy), None);
        policy.spec.suspend = true;
        assert_eq!(since(&policy), Some(at(60).to_string()));
    }

    #[test]
    fn a_write_has_all_that_its_field_manager_owns() {
        let known = json!({"schedule": "@hourly", "since": CREATED});
        let policy = policy(&json!({"totals": {"succeeded": 4}, "activeSchedule": known}));
        let status = News::of(&policy, &[], at(60)).status(&policy).unwrap();
        assert_eq!(
            (&status["totals"]["succeeded"], &status["activeSchedule"]["schedule"]),
            (&json!(4), &json!("@daily"))
        );
    }
}
