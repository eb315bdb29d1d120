//! Builds the maintenance jobs of a location.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kubedr_api::BackupLocation;
use kubedr_api::names::{annotation, field_manager, job_type, label};
use kubedr_api::task::{ForgetTask, SyncTask};

use super::decide::{Due, Initialisation, MaintenanceJob, Task};
use crate::destination::Destination;
use crate::job_settings::JobSettings;
use crate::occasion::{job_name, short_hash};
use crate::owner::owned_by;
use crate::pod::{Privileges, container, pod_spec};

/// Finished jobs stay for fifteen minutes: longer than the longest time between two tries, of which the number is read from
/// the last Job.
const TTL_SECONDS: i32 = 900;

/// The job of this location for what is due. Two operators that see the same give it the same name.
#[must_use]
pub fn build_job(
    location: &BackupLocation,
    due: &Due,
    jobs: &[MaintenanceJob],
    settings: &JobSettings,
    cluster_uid: &str,
) -> Job {
    let name = location.name_any();
    let destination = Destination::of(location);
    let status = location.status.clone().unwrap_or_default();
    let Initialisation { generation, credentials_version } = Initialisation::of(&status);
    let repository = destination.task(cluster_uid);
    let repository_id = status.repository_id.unwrap_or_default();
    let type_ = job_type_of(&due.task);
    let variables = match &due.task {
        Task::Sync => SyncTask { repository, generation, repository_id }.variables(),
        Task::Forget { snapshots, prune } => {
            ForgetTask { repository, repository_id, snapshots: snapshots.clone(), prune: *prune }.variables()
        }
    };
    let mut labels = BTreeMap::from([
        (label::TYPE.to_owned(), type_.to_owned()),
        (label::LOCATION.to_owned(), name.clone()),
        (label::MANAGED_BY.to_owned(), field_manager::OPERATOR.to_owned()),
    ]);
    if matches!(due.task, Task::Forget { .. }) {
        labels.insert(label::SNAPSHOT_DELETION.to_owned(), "true".to_owned());
    }
    let annotations = BTreeMap::from([
        (annotation::GENERATION.to_owned(), generation.to_string()),
        (annotation::CREDENTIALS_VERSION.to_owned(), credentials_version),
        (annotation::ATTEMPT.to_owned(), due.attempt.to_string()),
    ]);
    let uid = location.uid().unwrap_or_default();
    // Each job that is known makes what follows it another occasion, and so does what a job that is gone has left.
    let (attempt, looked) = (due.attempt.to_string(), status.last_validation_time.unwrap_or_default());
    let mut parts = vec![uid.as_str(), type_, attempt.as_str(), looked.as_str()];
    if let Task::Forget { snapshots, .. } = &due.task {
        parts.extend(snapshots.iter().map(String::as_str));
    }
    let mut known: Vec<_> = jobs.iter().map(|job| job.uid.as_str()).collect();
    known.sort_unstable();
    parts.extend(known);
    let container = container(type_, variables, &destination, Privileges::None, settings);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(&name, type_, &short_hash(&parts))),
            namespace: location.namespace(),
            labels: Some(labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![owned_by(location)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(settings.deadline_with_locks(locks(&due.task))),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod_spec(container, &destination, settings)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Type, subcommand, and middle of the name, all in one word.
const fn job_type_of(task: &Task) -> &'static str {
    match task {
        Task::Sync => job_type::SYNC,
        Task::Forget { .. } => job_type::FORGET,
    }
}

/// How often the job may have to wait for others.
const fn locks(task: &Task) -> u8 {
    match task {
        Task::Sync => 0,
        // One to delete and reclaim, one to check after that.
        Task::Forget { .. } => 2,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn location(name: &str) -> BackupLocation {
        serde_norway::from_str(&format!(
            "apiVersion: kubedr.catalogicsoftware.com/v1alpha1\nkind: BackupLocation\nmetadata: {{name: {name}, namespace: \
             kubedr-system, uid: u-1, generation: 3}}\nspec: {{url: 'http://10.1.1.1:9000', \
             bucketName: backups, credentials: s3-creds}}\nstatus: {{observedGeneration: 3, credentialsVersion: '77', \
             repositoryId: r1}}"
        ))
        .unwrap()
    }

    fn job(name: &str, task: Task, known: &[MaintenanceJob]) -> Job {
        let settings =
            serde_json::from_str(r#"{"image": "r/job:1", "serviceAccountName": "kubedr-backup-job"}"#)
                .unwrap();
        let due = Due { at: Timestamp::UNIX_EPOCH, task, attempt: 2 };
        build_job(&location(name), &due, known, &settings, "cluster-1")
    }

    fn forget() -> Task {
        Task::Forget { snapshots: vec!["0a".repeat(32), "0b".repeat(32)], prune: true }
    }

    #[test]
    fn the_sync_job_is_what_it_was_when_somebody_last_looked() {
        insta::assert_yaml_snapshot!(job("s3", Task::Sync, &[]));
    }

    #[test]
    fn the_forget_job_is_what_it_was_when_somebody_last_looked() {
        insta::assert_yaml_snapshot!(job("s3", forget(), &[]));
    }

    #[test]
    fn what_a_job_was_told_is_read_from_it_again() {
        let read = MaintenanceJob::of(&job("s3", forget(), &[])).unwrap();
        assert_eq!((&read.task, read.attempt), (&forget(), 2));
        assert_eq!(read.initialisation, Initialisation { generation: 3, credentials_version: "77".into() });
        assert_eq!(MaintenanceJob::of(&job("s3", Task::Sync, &[])).unwrap().task, Task::Sync);
    }

    #[test]
    fn each_job_has_a_name_of_its_own_that_fits() {
        let long = "l".repeat(63);
        let first = job(&long, forget(), &[]);
        let mut known = MaintenanceJob::of(&first).unwrap();
        known.uid = "j-1".into();
        let names = [
            first.name_any(),
            job(&long, forget(), &[known]).name_any(),
            job(&long, Task::Sync, &[]).name_any(),
        ];
        assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
        assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2], "{names:?}");
    }

    #[test]
    fn a_thousand_snapshots_fit_into_a_variable() {
        // MAX_ARG_STRLEN of Linux, name and terminator included.
        let ids = vec!["0a".repeat(32); 1000];
        let job = job("s3", Task::Forget { snapshots: ids, prune: false }, &[]);
        let Some(Task::Forget { snapshots, .. }) = MaintenanceJob::of(&job).map(|job| job.task) else {
            panic!()
        };
        assert!(snapshots.len() == 1000 && snapshots.join(",").len() + 64 < 131_072);
    }
}
