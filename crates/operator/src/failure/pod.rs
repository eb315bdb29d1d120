//! What a pod's status says of why it does not run, or ended.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use kubedr_api::names::{exit_code, job_type, label};
use kubedr_api::shorten;

use crate::destination::REPOSITORY_VOLUME;
use crate::pod::CONTAINER;

/// Longest part of a message that comes from a pod, in bytes.
const MESSAGE_MAX: usize = 700;

/// Reasons of events that say why a pod with a node does not start.
pub const BLOCKING_EVENTS: &[&str] = &[
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "FailedCreatePodContainer",
    "NetworkNotReady",
];

/// Reasons of events that say that a pod is getting on.
pub const PROGRESS_EVENTS: &[&str] = &["Pulling", "Pulled", "Created", "Started"];

/// How far a pod has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Its container runs.
    Running,
    /// It ended without success, for this reason if it is known.
    Ended(Option<String>),
    /// It cannot start, for this reason.
    Blocked(String),
    /// It has not started; what it waits for.
    Waiting(String),
}

/// How far the pod has come.
pub fn state(pod: &Pod) -> PodState {
    let status = pod.status.as_ref();
    let container = container(pod);
    if let Some(ended) = container.and_then(|c| c.state.as_ref()).and_then(|state| state.terminated.as_ref())
    {
        return PodState::Ended(Some(why_ended(pod, ended)));
    }
    if status.and_then(|status| status.phase.as_deref()) == Some("Failed") {
        return PodState::Ended(evicted(pod));
    }
    match container.and_then(|c| c.state.as_ref()) {
        Some(ContainerState { running: Some(_), .. }) => PodState::Running,
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting.message.as_deref().unwrap_or_default();
            why_waiting(pod, reason, message)
        }
        _ => unscheduled(pod),
    }
}

/// The exit code, if the pod has ended by itself.
pub fn exit_code(pod: &Pod) -> Option<i32> {
    Some(container(pod)?.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    // A webhook may have added containers of its own.
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == CONTAINER)
}

fn why_waiting(pod: &Pod, reason: &str, message: &str) -> PodState {
    let (name, image) = (pod.name_any(), image(pod));
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => PodState::Blocked(format!(
            "pod `{name}` cannot start: image `{image}` cannot be pulled ({reason}: {}); check `image.*` and \
             `imagePullSecrets` of the chart and whether the node reaches the registry",
            shorten(message, MESSAGE_MAX)
        )),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => PodState::Blocked(
            format!("pod `{name}` cannot start ({reason}: {})", shorten(message, MESSAGE_MAX)),
        ),
        _ => PodState::Waiting(format!("pod `{name}` is waiting ({reason})")),
    }
}

fn unscheduled(pod: &Pod) -> PodState {
    let name = pod.name_any();
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let scheduled = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "PodScheduled"));
    match scheduled {
        Some(no) if no.status == "False" && no.reason.as_deref() == Some("Unschedulable") => {
            let said = shorten(no.message.as_deref().unwrap_or_default(), MESSAGE_MAX);
            // The pod that has it is another job of the location, which ends.
            if said.contains("ReadWriteOncePod") {
                return PodState::Waiting(format!("pod `{name}` waits for its volume: {said}"));
            }
            let advice = if let Some(claim) = repository_claim(pod) {
                &format!(
                    "; the repository is on PersistentVolumeClaim `{claim}`: a master node has to be able to mount it{}",
                    pinned_to(pod).map_or_else(String::new, |node| format!(
                        ", and it was last mounted on node `{node}`"
                    ))
                )
            } else if pod.labels().get(label::TYPE).is_some_and(|type_| type_ == job_type::BACKUP) {
                "; a backup needs a node with the master label (`spec.options.master-node-label-name` of the policy, or \
                 `spec.nodeSelector` and `spec.tolerations` where it need not be a master) and room for its requests"
            } else {
                ""
            };
            PodState::Blocked(format!("no node can take pod `{name}`: {said}{advice}"))
        }
        Some(yes) if yes.status == "True" => {
            PodState::Waiting(format!("pod `{name}` is being set up on its node"))
        }
        _ => PodState::Waiting(format!("pod `{name}` has no node yet")),
    }
}

/// The claim that holds the repository, if a volume does.
fn repository_claim(pod: &Pod) -> Option<&str> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    let volume = volumes.iter().find(|volume| volume.name == REPOSITORY_VOLUME)?;
    Some(&volume.persistent_volume_claim.as_ref()?.claim_name)
}

/// The one node that the pod may run on.
fn pinned_to(pod: &Pod) -> Option<&str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let field = terms.first()?.match_fields.as_ref()?.first()?;
    field.values.as_ref()?.first().map(String::as_str)
}

fn why_ended(pod: &Pod, ended: &ContainerStateTerminated) -> String {
    let name = pod.name_any();
    if ended.reason.as_deref() == Some("OOMKilled") {
        let limit = memory_limit(pod).map_or_else(String::new, |limit| format!(" of `{limit}`"));
        return format!(
            "pod `{name}` was killed because it needed more memory than its limit{limit}; raise \
             `job.resources.limits.memory` of the chart (opening a repository alone takes 128 MiB)"
        );
    }
    let said = ended.message.as_deref().and_then(last_words);
    match (ended.exit_code, said) {
        (exit_code::REPORTING, said) => {
            let said = said.unwrap_or_else(|| format!("see the log of pod `{name}`"));
            let (done, advice) = unreported(pod);
            format!("{done}: {said}; check the rights of the job's service account{advice}")
        }
        (exit_code::TERMINATED, _) if pod.metadata.deletion_timestamp.is_some() => {
            format!("pod `{name}` was deleted before it had finished")
        }
        // The codes with which the job ends on purpose, having written one line of what is wrong.
        (2..=9, Some(said)) => said,
        (code, Some(said)) => format!("pod `{name}` ended with exit code {code}; its last words: {said}"),
        (137, None) => {
            format!("pod `{name}` was killed (exit code 137); the node may have run out of memory")
        }
        (code, None) => {
            let reason = ended.reason.as_deref().unwrap_or("Error");
            format!("pod `{name}` ended with exit code {code} ({reason}) and without a message; see its log")
        }
    }
}

/// What a job that could not report has done all the same, and what to know about that.
fn unreported(pod: &Pod) -> (&'static str, &'static str) {
    match pod.labels().get(label::TYPE).map(String::as_str) {
        Some(job_type::SYNC) => (
            "the API server did not let the repository be compared with the records",
            ". Nothing is lost: the next look does it again",
        ),
        Some(job_type::FORGET) => (
            "the API server did not take the report on deleted snapshots or reclaimed space",
            ". The next job finds what is deleted already and reports it",
        ),
        Some(job_type::INIT) => (
            "the repository is initialised, but the API server did not take the report",
            ". The next try finds it initialised",
        ),
        Some(job_type::RESTORE) => (
            "the data is on the volume and checked, but the API server did not take the report",
            ". It may be used",
        ),
        _ => (
            "the work is done and stored, but the API server did not take the report",
            ". `restic snapshots` shows the snapshot",
        ),
    }
}

fn evicted(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref()?;
    let message = status.message.as_deref().unwrap_or_default();
    Some(format!(
        "pod `{}` was ended by the node ({reason}: {})",
        pod.name_any(),
        shorten(message, MESSAGE_MAX)
    ))
}

/// The job's error is one line; where the kubelet took the end of the log instead, the last line tells most.
fn last_words(message: &str) -> Option<String> {
    // A panic ends with a note on backtraces.
    let tells = |line: &&str| !line.is_empty() && !line.starts_with("note:");
    let line = message.lines().rev().map(str::trim).find(tells)?;
    Some(shorten(&logged(line).unwrap_or_else(|| line.to_owned()), MESSAGE_MAX))
}

/// Message and error of a line of a JSON log.
fn logged(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| record.get(key)?.as_str();
    match (text("message"), text("error")) {
        (Some(message), Some(error)) => Some(format!("{message}: {error}")),
        (message, error) => message.or(error).map(str::to_owned),
    }
}

fn image(pod: &Pod) -> &str {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter(|c| c.name == CONTAINER).find_map(|c| c.image.as_deref()).unwrap_or("?")
}

fn memory_limit(pod: &Pod) -> Option<&str> {
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.as_str())
}
