//! Builds the CronJob of a policy.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kubedr_api::names::{annotation, cron_job_name, field_manager, job_type, label};
use kubedr_api::task::{self, BackupTask};
use kubedr_api::{MetadataBackupPolicy, MetadataBackupPolicySpec, OPTION_MASTER_NODE_LABEL};

use crate::destination::Destination;
use crate::job_settings::JobSettings;
use crate::owner::owned_by;
use crate::placement;
use crate::pod::{Privileges, container, pod_spec};

/// Ended Jobs that are kept, of each kind.
const HISTORY: i32 = 3;
const ETCD_VOLUME: &str = "etcd-credentials";
const CERTS_VOLUME: &str = "certificates";

/// The CronJob of this policy, with backups going to this destination.
#[must_use]
pub fn build_cron_job(
    policy: &MetadataBackupPolicy,
    destination: &Destination,
    settings: &JobSettings,
    cluster_uid: &str,
) -> CronJob {
    let name = policy.name_any();
    let labels = BTreeMap::from([
        (label::TYPE.to_owned(), job_type::BACKUP.to_owned()),
        (label::POLICY.to_owned(), name.clone()),
        (label::MANAGED_BY.to_owned(), field_manager::OPERATOR.to_owned()),
    ]);
    let labelled = || Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() });
    let pod = build_pod(policy, destination, settings, cluster_uid);
    CronJob {
        metadata: ObjectMeta {
            name: Some(cron_job_name(&name)),
            namespace: policy.namespace(),
            labels: Some(labels.clone()),
            annotations: serde_json::to_string(destination)
                .ok()
                .map(|text| BTreeMap::from([(annotation::DESTINATION.to_owned(), text)])),
            owner_references: Some(vec![owned_by(policy)]),
            ..ObjectMeta::default()
        },
        spec: Some(CronJobSpec {
            schedule: policy.spec.schedule.clone(),
            time_zone: policy.spec.time_zone.clone(),
            starting_deadline_seconds: policy.spec.starting_deadline_seconds,
            suspend: Some(policy.spec.suspend),
            concurrency_policy: Some("Forbid".to_owned()),
            successful_jobs_history_limit: Some(HISTORY),
            failed_jobs_history_limit: Some(HISTORY),
            job_template: JobTemplateSpec {
                metadata: labelled(),
                spec: Some(JobSpec {
                    backoff_limit: Some(0),
                    active_deadline_seconds: Some(
                        policy.spec.active_deadline_seconds.unwrap_or(settings.active_deadline_seconds),
                    ),
                    template: PodTemplateSpec { metadata: labelled(), spec: Some(pod) },
                    ..JobSpec::default()
                }),
            },
        }),
        status: None,
    }
}

fn build_pod(
    policy: &MetadataBackupPolicy,
    destination: &Destination,
    settings: &JobSettings,
    cluster_uid: &str,
) -> PodSpec {
    let MetadataBackupPolicySpec {
        // Where to, with the location's own fields, is in the destination.
        destination: _,
        certs_dir,
        etcd_endpoint,
        etcd_creds,
        // These are the CronJob's.
        schedule: _,
        time_zone: _,
        starting_deadline_seconds: _,
        active_deadline_seconds: _,
        suspend: _,
        // Records are the operator's to delete.
        retain_num_backups: _,
        retention: _,
        options,
        resources,
        node_selector,
        tolerations,
    } = &policy.spec;
    let task = BackupTask {
        repository: destination.task(cluster_uid),
        policy: policy.name_any(),
        etcd_endpoints: etcd_endpoint.clone(),
        etcd_credentials: etcd_creds.clone(),
        certs_dir: certs_dir.clone(),
    };
    let privileges = Privileges::Root(&settings.add_capabilities);
    let mut container = container("backup", task.variables(), destination, privileges, settings);
    let mut volumes = vec![etcd_volume(etcd_creds)];
    let mut mounts = container.volume_mounts.take().unwrap_or_default();
    mounts.push(mount(ETCD_VOLUME, task::ETCD_CREDENTIALS_DIR.to_owned()));
    if let Some(dir) = certs_dir {
        let dir = plain_path(dir);
        mounts.push(mount(CERTS_VOLUME, format!("{}{dir}", task::HOST_ROOT)));
        volumes.push(host_volume(dir));
    }
    container.volume_mounts = Some(mounts);
    if let Some(resources) = resources {
        container.resources = Some(resources.clone());
    }
    let pod = pod_spec(container, destination, settings);
    let master_label = options.get(OPTION_MASTER_NODE_LABEL);
    volumes.extend(pod.volumes.iter().flatten().cloned());
    PodSpec {
        volumes: Some(volumes),
        // etcd of a kubeadm cluster listens on the node itself.
        host_network: Some(true),
        dns_policy: Some("ClusterFirstWithHostNet".to_owned()),
        affinity: placement::of_backups(
            master_label.map(String::as_str),
            node_selector.is_some(),
            destination.node.as_deref(),
        ),
        node_selector: node_selector.clone(),
        tolerations: Some(tolerations.clone().unwrap_or_else(placement::tolerations)),
        ..pod
    }
}

/// Optional, so that the pod starts without the Secret and the job can say what is missing.
fn etcd_volume(secret: &str) -> Volume {
    const READABLE_BY_OWNER: i32 = 0o400;
    let secret = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        optional: Some(true),
        default_mode: Some(READABLE_BY_OWNER),
        items: None,
    };
    Volume { name: ETCD_VOLUME.to_owned(), secret: Some(secret), ..Volume::default() }
}

fn host_volume(dir: String) -> Volume {
    // `Directory`: a path that the node lacks is an error and not an empty directory.
    let host_path = HostPathVolumeSource { path: dir, type_: Some("Directory".to_owned()) };
    Volume { name: CERTS_VOLUME.to_owned(), host_path: Some(host_path), ..Volume::default() }
}

fn mount(volume: &str, path: String) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path, read_only: Some(true), ..VolumeMount::default() }
}

/// The path without doubled slashes, `.` and a slash at the end, which mounts refuse or show differently.
fn plain_path(dir: &str) -> String {
    dir.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .fold(String::new(), |path, part| path + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::super::decide::destination_of;
    use super::*;

    fn policy(spec: &str) -> MetadataBackupPolicy {
        serde_norway::from_str(&format!(
            "apiVersion: kubedr.catalogicsoftware.com/v1alpha1\nkind: MetadataBackupPolicy\nmetadata: {{name: daily, namespace: \
             kubedr-system, uid: u-1}}\nspec: {spec}"
        ))
        .unwrap()
    }

    fn settings() -> JobSettings {
        serde_json::from_str(
            r#"{"image": "r/job:1", "serviceAccountName": "kubedr-backup-job", "resources": {"limits": {"memory": "320Mi"}},
                "addCapabilities": ["DAC_READ_SEARCH"]}"#,
        )
        .unwrap()
    }

    fn build(spec: &str) -> CronJob {
        let destination = Destination {
            location: "s3".into(),
            repository: "s3:http://10.1.1.1:9000/backups".into(),
            credentials: "s3-creds".into(),
            region: None,
            ca_cert: None,
            insecure_skip_tls_verify: false,
            force_path_style: true,
            access_mode: kubedr_api::AccessMode::ReadWrite,
            claim: None,
            node: None,
        };
        build_cron_job(&policy(spec), &destination, &settings(), "cluster-1")
    }

    fn pod(cron_job: CronJob) -> PodSpec {
        cron_job.spec.unwrap().job_template.spec.unwrap().template.spec.unwrap()
    }

    #[test]
    fn the_shortest_policy_gives_this_cron_job() {
        insta::assert_yaml_snapshot!(build("{destination: s3, schedule: '@daily'}"));
    }

    #[test]
    fn every_field_of_a_policy_reaches_its_pod() {
        let full = "{destination: s3, schedule: '*/5 * * * *', suspend: true, certsDir: //etc/./kubernetes/pki/, etcdEndpoint: \
                    'https://10.0.0.1:2379,https://10.0.0.2:2379', etcdCreds: other, retainNumBackups: 3, options: \
                    {master-node-label-name: example.com/master}, timeZone: Europe/Berlin, startingDeadlineSeconds: 600, \
                    activeDeadlineSeconds: 7200, resources: {limits: {memory: 1Gi, cpu: 2}}, nodeSelector: {disk: ssd}, \
                    tolerations: [{key: etcd, operator: Exists}]}";
        insta::assert_yaml_snapshot!(build(full));
    }

    #[test]
    fn an_empty_list_of_tolerations_puts_up_with_nothing() {
        let of = |spec: &str| pod(build(spec)).tolerations.unwrap();
        assert_eq!(of("{destination: s3, schedule: '@daily'}"), placement::tolerations());
        assert_eq!(of("{destination: s3, schedule: '@daily', tolerations: []}"), vec![]);
    }

    #[test]
    fn without_a_directory_nothing_of_the_node_is_mounted() {
        let volumes = pod(build("{destination: s3, schedule: '@daily'}")).volumes.unwrap();
        assert!(volumes.iter().all(|volume| volume.host_path.is_none()), "{volumes:?}");
    }

    #[test]
    fn the_job_finds_the_directory_where_it_is_mounted() {
        let pod = pod(build("{destination: s3, schedule: '@daily', certsDir: /etc/kubernetes/pki}"));
        let mounts = pod.containers[0].volume_mounts.clone().unwrap();
        let mount = mounts.iter().find(|mount| mount.name == CERTS_VOLUME).unwrap();
        assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/host/etc/kubernetes/pki", Some(true)));
    }

    #[test]
    fn a_cron_job_tells_where_its_backups_go() {
        let mut cron_job = build("{destination: s3, schedule: '@daily'}");
        let noted = destination_of(&cron_job).unwrap();
        assert_eq!(noted.repository, "s3:http://10.1.1.1:9000/backups");
        assert_eq!((noted.location.as_str(), noted.credentials.as_str()), ("s3", "s3-creds"));
        cron_job.metadata.annotations = None;
        assert_eq!(destination_of(&cron_job).unwrap(), noted, "as one from before it was noted");
    }
}
