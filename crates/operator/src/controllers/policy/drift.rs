//! What server-side apply leaves in a CronJob: what somebody else added to our lists, or set where we set nothing.
//!
//! A second container next to ours is what becomes of a CronJob of KubeDR 0.x, whose container had another name.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Value, json};

/// Whether a list of the pod has entries that are not wanted, or the CronJob has what a policy may leave out and has.
#[must_use]
pub fn has_foreign_entries(actual: &CronJob, wanted: &CronJob) -> bool {
    match (pod(actual), pod(wanted)) {
        (Some(a), Some(w)) => {
            sizes(a) != sizes(w) || timing(actual) != timing(wanted) || place(a) != place(w)
        }
        _ => true,
    }
}

/// A merge patch that replaces each list as a whole, and takes away what is not wanted at all.
#[must_use]
pub fn replacement(wanted: &CronJob) -> Value {
    let mut patch = json!(wanted);
    let optional = [
        ("/spec", &["timeZone", "startingDeadlineSeconds"][..]),
        (
            "/spec/jobTemplate/spec/template/spec",
            &["initContainers", "volumes", "imagePullSecrets", "nodeSelector", "affinity"],
        ),
    ];
    for (place, names) in optional {
        if let Some(Value::Object(object)) = patch.pointer_mut(place) {
            for name in names {
                object.entry(*name).or_insert(Value::Null);
            }
        }
    }
    patch
}

/// When runs begin, beside the schedule.
fn timing(cron_job: &CronJob) -> Option<(Option<&String>, Option<i64>)> {
    let spec = cron_job.spec.as_ref()?;
    Some((spec.time_zone.as_ref(), spec.starting_deadline_seconds))
}

/// Labels of the nodes, and whether more than these decide where the pod runs.
fn place(pod: &PodSpec) -> (Option<&BTreeMap<String, String>>, bool) {
    (pod.node_selector.as_ref().filter(|labels| !labels.is_empty()), pod.affinity.is_some())
}

fn pod(cron_job: &CronJob) -> Option<&PodSpec> {
    cron_job.spec.as_ref()?.job_template.spec.as_ref()?.template.spec.as_ref()
}

/// Entries of each list that is merged by name. Ours are among them, so the same number means the same entries.
fn sizes(pod: &PodSpec) -> [usize; 8] {
    let of = |list: Option<usize>| list.unwrap_or(0);
    let each = |count: fn(&Container) -> usize| pod.containers.iter().map(count).sum();
    [
        pod.containers.len(),
        of(pod.init_containers.as_ref().map(Vec::len)),
        of(pod.volumes.as_ref().map(Vec::len)),
        of(pod.image_pull_secrets.as_ref().map(Vec::len)),
        each(|container| container.env.as_ref().map_or(0, Vec::len)),
        each(|container| container.volume_mounts.as_ref().map_or(0, Vec::len)),
        each(|container| {
            container.resources.as_ref().and_then(|r| r.limits.as_ref()).map_or(0, BTreeMap::len)
        }),
        each(|container| {
            container.resources.as_ref().and_then(|r| r.requests.as_ref()).map_or(0, BTreeMap::len)
        }),
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
    #[test]
    fn what_a_policy_may_leave_out_and_somebody_else_set_is_noticed_and_taken_away() {
        let wanted = cron_job("{name: a, resources: {limits: {memory: 1Gi}}}");
        let mut zone = wanted.clone();
        zone.spec.get_or_insert_default().time_zone = Some("Asia/Tokyo".to_owned());
        assert!(has_foreign_entries(&zone, &wanted) && !has_foreign_entries(&zone, &zone));
        assert!(has_foreign_entries(
            &cron_job("{name: a, resources: {limits: {memory: 1Gi, cpu: 1}}}"),
            &wanted
        ));
        let patch = replacement(&wanted);
        for place in ["timeZone", "startingDeadlineSeconds", "jobTemplate/spec/template/spec/nodeSelector"] {
            assert_eq!(patch.pointer(&format!("/spec/{place}")), Some(&Value::Null), "{place}");
        }
        assert_eq!(replacement(&zone)["spec"]["timeZone"], "Asia/Tokyo");
    }
}
