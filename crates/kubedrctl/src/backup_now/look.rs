//! How a run stands, by its policy's status and its Job.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kubedr_api::{LastRun, MetadataBackupPolicyStatus, Phase};

/// What a look at a run has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It has not ended; what there is to know of that.
    Running(Option<String>),
    /// It has ended well; its record, unless a later run has reported since.
    Completed(Option<String>),
    /// It has failed.
    Failed(String),
    /// Its Job has failed, with these words, and the policy's status does not say why.
    Unreported(String),
    /// Its Job has failed, with these words, and the policy's status speaks of a run that started later.
    Overtaken(String),
}

/// What status and Job say of the run of this Job.
pub fn look(job_uid: &str, status: &MetadataBackupPolicyStatus, job: Option<&Job>) -> Look {
    let ours = status.last_run.as_ref().filter(|LastRun { job_uid: uid, .. }| uid == job_uid);
    let message = status.backup_error_message.clone().filter(|text| !text.is_empty());
    let pending = ours.is_some_and(|run| run.pending == Some(true));
    match ours.and(status.backup_status) {
        Some(Phase::Completed) => return Look::Completed(status.mbr_name.clone()),
        Some(Phase::Failed) if !pending => {
            return Look::Failed(message.unwrap_or_else(|| "nobody said why".to_owned()));
        }
        _ => {}
    }
    match (job, ours) {
        (None, None) => Look::Failed("its Job was deleted before it had reported".to_owned()),
        (None, Some(_)) => Look::Running(None),
        (Some(job), ours) => match (condition(job, "Failed"), ours) {
            (Some(JobCondition { reason, message, .. }), _) => {
                let words = [reason, message].map(|text| text.clone().unwrap_or_default()).join(": ");
                if ours.is_none() && is_later(status.last_run.as_ref(), job) {
                    Look::Overtaken(words)
                } else {
                    Look::Unreported(words)
                }
            }
            (None, None) if condition(job, "Complete").is_some() => Look::Completed(None),
            // It may begin after all.
            (None, Some(_)) if pending => Look::Running(message),
            (None, _) => Look::Running(None),
        },
    }
}

/// Whether this run started later than the Job.
fn is_later(run: Option<&LastRun>, job: &Job) -> bool {
    let started = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let started = started.or(job.metadata.creation_timestamp.as_ref());
    let run = run.and_then(|run| run.start_time.parse::<Timestamp>().ok());
    run.zip(started).is_some_and(|(run, job)| run > job.0)
}

/// The condition of this type, if it holds.
fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(phase: &str, run: &str) -> Value {
        json!({
            "backupStatus": phase,
            "mbrName": "mbr-1",
            "lastRun": { "jobName": "j", "jobUID": run, "startTime": "2026-03-02T12:00:00Z" },
        })
    }

    fn look_at(status: Value, conditions: Option<Value>) -> Look {
        let job = conditions
            .map(|all| json!({ "status": { "startTime": "2026-03-02T12:00:00Z", "conditions": all } }));
        let job: Option<Job> = job.map(|job| serde_json::from_value(job).unwrap());
        look("ours", &serde_json::from_value(status).unwrap(), job.as_ref())
    }

    #[test]
    fn only_what_is_said_of_this_run_counts() {
        assert_eq!(
            look_at(status("Completed", "ours"), Some(json!([]))),
            Look::Completed(Some("mbr-1".into()))
        );
        assert_eq!(look_at(status("Completed", "another"), Some(json!([]))), Look::Running(None));
        let complete = json!([{ "type": "Complete", "status": "True" }]);
        assert_eq!(
            look_at(status("Completed", "another"), Some(complete)),
            Look::Completed(None),
            "a later run has reported since"
        );
        assert!(matches!(look_at(status("Completed", "another"), None), Look::Failed(_)));
        assert_eq!(look_at(status("Initializing", "ours"), None), Look::Running(None));
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_the_status_and_one_that_may_still_begin_is_none() {
        let mut failed = status("Failed", "ours");
        failed["backupErrorMessage"] = json!("no node");
        assert_eq!(look_at(failed.clone(), Some(json!([]))), Look::Failed("no node".into()));
        failed["lastRun"]["pending"] = json!(true);
        assert_eq!(look_at(failed, Some(json!([]))), Look::Running(Some("no node".into())));
    }

    #[test]
    fn a_job_that_failed_does_not_run_whatever_the_status_says() {
        let failed = || {
            Some(json!([
                { "type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded", "message": "it was active too long" },
                { "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "it was active too long" },
            ]))
        };
        let unreported = Look::Unreported("DeadlineExceeded: it was active too long".into());
        let mut pending = status("Failed", "ours");
        pending["lastRun"]["pending"] = json!(true);
        for status in [json!({}), status("Completed", "another"), status("Initializing", "ours"), pending] {
            assert_eq!(look_at(status.clone(), failed()), unreported, "{status}");
        }
        let mut later = status("Completed", "another");
        later["lastRun"]["startTime"] = json!("2026-03-02T12:00:01Z");
        assert_eq!(
            look_at(later, failed()),
            Look::Overtaken("DeadlineExceeded: it was active too long".into()),
            "what was said of ours is no more"
        );
        assert_eq!(look_at(status("Completed", "ours"), failed()), Look::Completed(Some("mbr-1".into())));
        let ending = json!([{ "type": "FailureTarget", "status": "True" }]);
        assert_eq!(look_at(json!({}), Some(ending)), Look::Running(None), "its pod may still report");
    }
}
