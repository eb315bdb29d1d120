//! Builds the Job of a restore.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kubedr_api::MetadataRestore;
use kubedr_api::names::{annotation, field_manager, job_type, label};
use kubedr_api::task::{self, RestoreTask};

use super::decide::Plan;
use crate::context::Context;
use crate::job_settings::JobSettings;
use crate::occasion::{job_name, short_hash};
use crate::owner::owned_by;
use crate::pod::{Privileges, container, pod_spec};

/// Finished restore pods stay for fifteen minutes.
const TTL_SECONDS: i32 = 900;
/// What giving files their owners and modes takes, on a volume whose directories may belong to anybody.
const CAPABILITIES: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];
const VOLUME: &str = "target";

/// The Job of this restore.
#[must_use]
pub fn build_restore_job(restore: &MetadataRestore, plan: Plan, ctx: &Context) -> Job {
    build(restore, plan, &ctx.settings, &ctx.cluster_uid)
}

fn build(restore: &MetadataRestore, plan: Plan, settings: &JobSettings, cluster_uid: &str) -> Job {
    let name = restore.name_any();
    let Plan { destination, snapshot, repository_id } = plan;
    let generation = restore.metadata.generation.unwrap_or_default();
    let task = RestoreTask {
        repository: destination.task(cluster_uid),
        restore: name.clone(),
        generation,
        snapshot,
        repository_id,
        overwrite: restore.spec.overwrite,
    };
    let capabilities = CAPABILITIES.map(str::to_owned);
    let privileges = Privileges::Root(&capabilities);
    let mut container = container("restore", task.variables(), &destination, privileges, settings);
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: task::TARGET_DIR.to_owned(),
        ..VolumeMount::default()
    });
    let mut pod = pod_spec(container, &destination, settings);
    pod.volumes.get_or_insert_default().push(Volume {
        name: VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: restore.spec.pvc_name.clone(),
            read_only: None,
        }),
        ..Volume::default()
    });
    let labels = BTreeMap::from([
        (label::TYPE.to_owned(), job_type::RESTORE.to_owned()),
        (label::RESTORE.to_owned(), name.clone()),
        (label::RESTORE_RECORD.to_owned(), label_value(&restore.spec.mbr_name)),
        (label::MANAGED_BY.to_owned(), field_manager::OPERATOR.to_owned()),
    ]);
    let generation = generation.to_string();
    let hash = short_hash(&[&restore.uid().unwrap_or_default(), &generation]);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(&name, "restore", &hash)),
            namespace: restore.namespace(),
            labels: Some(labels.clone()),
            annotations: Some(BTreeMap::from([(annotation::GENERATION.to_owned(), generation)])),
            owner_references: Some(vec![owned_by(restore)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(settings.deadline_with_locks(1)),
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

/// A label takes 63 characters; the name of an object may have more.
fn label_value(name: &str) -> String {
    name[..name.floor_char_boundary(63)].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Destination;

    #[test]
    fn the_job_is_what_it_was_when_somebody_last_looked() {
        let restore: MetadataRestore = serde_norway::from_str(
            "{apiVersion: kubedr.catalogicsoftware.com/v1alpha1, kind: MetadataRestore, metadata: {name: back, namespace: \
             kubedr-system, uid: u-1, generation: 2}, spec: {mbrName: mbr-01234567, pvcName: target}}",
        )
        .unwrap();
        let location = serde_norway::from_str(
            "{apiVersion: kubedr.catalogicsoftware.com/v1alpha1, kind: BackupLocation, metadata: {name: s3}, spec: {url: \
             'http://10.1.1.1:9000', bucketName: backups, credentials: s3-creds}}",
        )
        .unwrap();
        let settings =
            serde_json::from_str(r#"{"image": "r/job:1", "serviceAccountName": "kubedr-backup-job"}"#)
                .unwrap();
        let plan = Plan {
            destination: Destination::of(&location),
            snapshot: "ab".repeat(32),
            repository_id: Some("cd".repeat(32)),
        };
        insta::assert_yaml_snapshot!(build(&restore, plan, &settings, "cluster-1"));
    }
}
