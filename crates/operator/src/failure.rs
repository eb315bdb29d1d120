//! What became of a Job, told from the Job, its pods and their events.

mod pod;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;

use pod::PodState;

/// How the API server's node authorizer refuses a kubelet that asks for what a new pod mounts before the authorizer itself has
/// heard of the pod. The kubelet asks again after some seconds.
const KUBELET_AHEAD: &str = "no relationship found between node";

/// What became of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended with exit code 0: it has reported.
    Succeeded,
    /// It ended without success, for this reason.
    Failed(String),
    /// It has not started and cannot, for this reason, unless something changes.
    CannotStart(String),
    /// It has not started and no reason is known; what it waits for.
    Starting(String),
    /// It runs.
    Running,
}

/// What is known of a Job.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The Job.
    pub job: &'a Job,
    /// Its pods.
    pub pods: &'a [Pod],
    /// Events of the Job or of the pod that has not started.
    pub events: &'a [Event],
}

impl Facts<'_> {
    /// The newest pod.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        self.pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
    }

    /// The exit code of the newest pod, if it has ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.pod().and_then(pod::exit_code)
    }

    /// What became of the Job.
    #[must_use]
    pub fn diagnose(&self) -> Verdict {
        if condition(self.job, "Complete").is_some() {
            return Verdict::Succeeded;
        }
        if let Some(failed) = failure(self.job) {
            return Verdict::Failed(self.why_failed(failed));
        }
        match self.pod() {
            None => self.without_pod(),
            Some(pod) => self.with_pod(pod),
        }
    }

    fn why_failed(&self, failed: &JobCondition) -> String {
        let own_words = || {
            let words = [failed.reason.as_deref(), failed.message.as_deref()];
            words.into_iter().flatten().collect::<Vec<_>>().join(": ")
        };
        if failed.reason.as_deref() == Some("DeadlineExceeded") {
            let seconds =
                self.job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).unwrap_or_default();
            return format!(
                "the job was ended because it took longer than {seconds} s; find what it waits for in its log, or raise \
                 `job.activeDeadlineSeconds` of the chart, or `spec.activeDeadlineSeconds` of the policy if it is a backup"
            );
        }
        let Some(pod) = self.pod() else {
            return format!("the job's pod was deleted before it had finished ({})", own_words());
        };
        match pod::state(pod) {
            PodState::Ended(Some(reason)) => reason,
            _ if pod.metadata.deletion_timestamp.is_some() => {
                format!("pod `{}` was deleted before it had finished", pod.name_any())
            }
            _ => format!("pod `{}` failed ({})", pod.name_any(), own_words()),
        }
    }

    /// What keeps the pod from starting. An event that others have overtaken tells of something that is over.
    fn blocked(&self) -> Option<String> {
        let all = [pod::BLOCKING_EVENTS, pod::PROGRESS_EVENTS].concat();
        let last = newest_of(self.events, &all)?;
        let blocking = last.reason.as_deref().is_some_and(|reason| pod::BLOCKING_EVENTS.contains(&reason));
        last.message.clone().filter(|message| blocking && !message.contains(KUBELET_AHEAD))
    }

    fn without_pod(&self) -> Verdict {
        match newest(self.events, &["FailedCreate"]) {
            Some(message) => {
                let advice = why_refused(&message);
                Verdict::CannotStart(format!("the job's pod cannot be created: {message}{advice}"))
            }
            None => Verdict::Starting("the job has no pod yet".to_owned()),
        }
    }

    fn with_pod(&self, pod: &Pod) -> Verdict {
        match pod::state(pod) {
            // The Job controller has yet to draw its conclusion.
            PodState::Ended(_) | PodState::Running => Verdict::Running,
            PodState::Blocked(reason) => Verdict::CannotStart(reason),
            PodState::Waiting(what) => match self.blocked() {
                Some(message) => {
                    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("?");
                    let advice = advice(&message);
                    let name = pod.name_any();
                    Verdict::CannotStart(format!(
                        "pod `{name}` cannot start on node `{node}`: {message}{advice}"
                    ))
                }
                None => Verdict::Starting(what),
            },
        }
    }
}

/// What to do about what an event tells, where that is not plain.
fn advice(message: &str) -> &'static str {
    if message.contains("hostPath type check failed") {
        "; correct `spec.certsDir` of the policy: it has to be a directory of the master node"
    } else {
        ""
    }
}

/// The Job's condition of this type, if it is true.
#[must_use]
pub fn condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The Job's failure. `Failed` comes only when all pods are gone, which those of a dead node never are; that it is going to
/// fail, and why, `FailureTarget` says before.
fn failure(job: &Job) -> Option<&JobCondition> {
    condition(job, "Failed").or_else(|| condition(job, "FailureTarget"))
}

/// When the Job ended; `None` while it has not.
#[must_use]
pub fn ended_at(job: &Job) -> Option<Timestamp> {
    let ended = condition(job, "Complete").or_else(|| failure(job))?;
    let time = ended.last_transition_time.as_ref().or(job.metadata.creation_timestamp.as_ref());
    Some(time.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Message of the newest event with one of these reasons.
fn newest(events: &[Event], reasons: &[&str]) -> Option<String> {
    newest_of(events, reasons)?.message.clone()
}

fn newest_of<'a>(events: &'a [Event], reasons: &[&str]) -> Option<&'a Event> {
    let time = |event: &Event| {
        let times = [event.last_timestamp.as_ref().map(|t| t.0), event.event_time.as_ref().map(|t| t.0)];
        times.into_iter().flatten().max()
    };
    let told =
        events.iter().filter(|event| event.reason.as_deref().is_some_and(|reason| reasons.contains(&reason)));
    told.max_by_key(|event| time(event))
}

/// What to do about a pod that the API server does not take.
fn why_refused(message: &str) -> &'static str {
    if message.contains("PodSecurity") {
        "; backup pods use a master's network and files: label the namespace \
         `pod-security.kubernetes.io/enforce=privileged`"
    } else if message.contains("quota") {
        "; raise the namespace's quota, or lower `job.resources` of the chart"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests;
