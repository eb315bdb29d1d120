//! Builds the init job of a location.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kubedr_api::BackupLocation;
use kubedr_api::names::{annotation, field_manager, job_type, label};
use kubedr_api::task::InitTask;
use std::collections::BTreeMap;

use super::decide::Wanted;
use super::volume::Reach;
use crate::destination::Destination;
use crate::job_settings::JobSettings;
use crate::occasion::{job_name, short_hash};
use crate::owner::owned_by;
use crate::placement::{on_masters_preferably, tolerations};
use crate::pod::{Privileges, container, pod_spec};

/// An init job talks to the storage for seconds; one that takes this long hangs.
const ACTIVE_DEADLINE_SECONDS: i64 = 600;
/// Finished init pods stay for fifteen minutes: longer than the longest time between two tries, of which the number is
/// read from the last Job.
const TTL_SECONDS: i32 = 900;

/// One of several tries to initialise a location.
#[derive(Clone, Copy, Debug)]
pub struct Try<'a> {
    /// What it initialises.
    pub wanted: &'a Wanted,
    /// Which one it is.
    pub attempt: u32,
    /// From where the storage can be reached.
    pub reach: Reach,
    /// The label of master nodes that the backups of this location go by, if it is not one of the usual.
    pub master_label: Option<&'a str>,
}

/// The init job of this location for this try.
#[must_use]
pub fn build_init_job(
    location: &BackupLocation,
    this: Try<'_>,
    settings: &JobSettings,
    cluster_uid: &str,
) -> Job {
    let Try { wanted, attempt, reach, master_label } = this;
    let name = location.name_any();
    // Where the volume is to be from now on, this job finds out.
    let destination = Destination { node: None, ..Destination::of(location) };
    let task = InitTask {
        repository: destination.task(cluster_uid),
        generation: wanted.generation,
        credentials_version: wanted.credentials_version.clone(),
        pin_node: reach == Reach::OneNode,
    };
    let labels = BTreeMap::from([
        (label::TYPE.to_owned(), job_type::INIT.to_owned()),
        (label::LOCATION.to_owned(), name.clone()),
        (label::MANAGED_BY.to_owned(), field_manager::OPERATOR.to_owned()),
    ]);
    let annotations = BTreeMap::from([
        (annotation::GENERATION.to_owned(), wanted.generation.to_string()),
        (annotation::CREDENTIALS_VERSION.to_owned(), wanted.credentials_version.clone()),
        (annotation::ATTEMPT.to_owned(), attempt.to_string()),
    ]);
    let uid = location.uid().unwrap_or_default();
    let (generation, attempt) = (wanted.generation.to_string(), attempt.to_string());
    let hash = short_hash(&[&uid, &generation, &wanted.credentials_version, &attempt]);
    let container = container("init", task.variables(), &destination, Privileges::None, settings);
    let mut pod = pod_spec(container, &destination, settings);
    if reach == Reach::OneNode {
        // Backups run on a master, so there has to be one that can mount it.
        let known = location.status.as_ref().and_then(|status| status.volume_node.as_deref());
        pod.affinity = Some(on_masters_preferably(master_label, known));
        pod.tolerations = Some(tolerations());
    }
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(&name, "init", &hash)),
            namespace: location.namespace(),
            labels: Some(labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![owned_by(location)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(ACTIVE_DEADLINE_SECONDS),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(name: &str) -> BackupLocation {
        serde_norway::from_str(&format!(
            "apiVersion: kubedr.catalogicsoftware.com/v1alpha1\nkind: BackupLocation\nmetadata: {{name: {name}, namespace: \
             kubedr-system, uid: u-1, generation: 3}}\nspec: {{url: 'http://10.1.1.1:9000', bucketName: backups, credentials: \
             s3-creds}}"
        ))
        .unwrap()
    }

    fn job(name: &str, attempt: u32) -> Job {
        let settings = serde_json::from_str(
            r#"{"image": "r/job:1", "serviceAccountName": "kubedr-backup-job", "imagePullSecrets": [{"name": "pull"}],
                "resources": {"limits": {"memory": "320Mi"}}, "env": [{"name": "HTTPS_PROXY", "value": "http://p"},
                {"name": "RESTIC_REPOSITORY", "value": "elsewhere"}], "priorityClassName": "high"}"#,
        )
        .unwrap();
        let wanted = Wanted { generation: 3, credentials_version: "77".into() };
        let this = Try { wanted: &wanted, attempt, reach: Reach::EveryNode, master_label: None };
        build_init_job(&location(name), this, &settings, "cluster-1")
    }

    #[test]
    fn the_job_of_a_volume_that_one_node_can_mount_looks_for_a_master_and_tells_which() {
        let location = serde_norway::from_str(
            "{apiVersion: kubedr.catalogicsoftware.com/v1alpha1, kind: BackupLocation, metadata: {name: disk, namespace: \
             kubedr-system, uid: u-1, generation: 3}, spec: {volume: {claimName: backups}, prefix: berlin, credentials: pw}, \
             status: {volumeNode: master-1}}",
        )
        .unwrap();
        let settings =
            serde_json::from_str(r#"{"image": "r/job:1", "serviceAccountName": "kubedr-backup-job"}"#)
                .unwrap();
        let wanted = Wanted { generation: 3, credentials_version: "77".into() };
        let this = Try { wanted: &wanted, attempt: 1, reach: Reach::OneNode, master_label: None };
        insta::assert_yaml_snapshot!(
            build_init_job(&location, this, &settings, "cluster-1").spec.unwrap().template.spec
        );
    }

    #[test]
    fn the_job_is_what_it_was_when_somebody_last_looked() {
        insta::assert_yaml_snapshot!(job("s3", 1));
    }

    #[test]
    fn each_try_has_a_name_of_its_own_that_fits() {
        let long = "l".repeat(63);
        let names = [job(&long, 1).name_any(), job(&long, 2).name_any()];
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() <= 63), "{names:?}");
    }
}
