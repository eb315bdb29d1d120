//! What server-side apply leaves in a CronJob: entries that somebody else added to our lists.
//!
//! A second container next to ours is what becomes of a CronJob of KubeDR 0.x, whose container had another name.

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

/// Whether a list of the pod has entries that are not wanted.
#[must_use]
pub fn has_foreign_entries(actual: &CronJob, wanted: &CronJob) -> bool {
    match (pod(actual), pod(wanted)) {
        (Some(actual), Some(wanted)) => sizes(actual) != sizes(wanted),
        _ => true,
    }
}

/// A merge patch that replaces each list as a whole, and takes away those that are not wanted at all.
#[must_use]
pub fn replacement(wanted: &CronJob) -> Value {
    let mut patch = json!(wanted);
    if let Some(Value::Object(pod)) = patch.pointer_mut("/spec/jobTemplate/spec/template/spec") {
        for list in ["initContainers", "volumes", "imagePullSecrets"] {
            pod.entry(list).or_insert(Value::Null);
        }
    }
    patch
}

fn pod(cron_job: &CronJob) -> Option<&PodSpec> {
    cron_job.spec.as_ref()?.job_template.spec.as_ref()?.template.spec.as_ref()
}

/// Entries of each list that is merged by name. Ours are among them, so the same number means the same entries.
fn sizes(pod: &PodSpec) -> [usize; 6] {
    let of = |list: Option<usize>| list.unwrap_or(0);
    let each =
        |count: fn(&k8s_openapi::api::core::v1::Container) -> usize| pod.containers.iter().map(count).sum();
    [
        pod.containers.len(),
        of(pod.init_containers.as_ref().map(Vec::len)),
        of(pod.volumes.as_ref().map(Vec::len)),
        of(pod.image_pull_secrets.as_ref().map(Vec::len)),
        each(|container| container.env.as_ref().map_or(0, Vec::len)),
        each(|container| container.volume_mounts.as_ref().map_or(0, Vec::len)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron_job(containers: &str) -> CronJob {
        serde_norway::from_str(&format!(
            "{{spec: {{schedule: '@daily', jobTemplate: {{spec: {{template: {{spec: {{containers: [{containers}]}}}}}}}}}}}}"
        ))
        .unwrap()
    }

    #[test]
    fn lists_that_are_not_wanted_are_taken_away() {
        let patch = replacement(&cron_job("{name: a}"));
        let pod = &patch["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert!(pod.get("initContainers").is_some_and(Value::is_null));
        assert_eq!(pod["containers"][0]["name"], "a");
    }

    #[test]
    fn a_container_or_a_variable_of_somebody_else_is_noticed() {
        let wanted = cron_job("{name: a, env: [{name: X}]}");
        assert!(!has_foreign_entries(&wanted, &wanted));
        assert!(has_foreign_entries(&cron_job("{name: a, env: [{name: X}]}, {name: kubedr}"), &wanted));
        assert!(has_foreign_entries(&cron_job("{name: a, env: [{name: X}, {name: Y}]}"), &wanted));
    }
}
