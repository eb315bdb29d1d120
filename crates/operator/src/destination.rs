//! Where a repository is, as a location says, and what a job's pod needs in order to get there.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume,
    VolumeMount,
};
use kubedr_api::task::{self, RepositoryTask};
use kubedr_api::{AccessMode, BackupLocation, BackupLocationSpec, CaCertKey, CaCertSource};
use serde::{Deserialize, Serialize};

const CA_VOLUME: &str = "ca-cert";
/// Name of the volume that holds a repository, in a pod.
pub const REPOSITORY_VOLUME: &str = "repository";

/// A location's repository and how to reach it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Name of the location.
    pub location: String,
    /// Repository URL.
    pub repository: String,
    /// Name of the location's Secret.
    pub credentials: String,
    /// Region of the S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Certificates that are trusted for the S3 service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<CaCertSource>,
    /// Whether any certificate of the S3 service will do.
    #[serde(default)]
    pub insecure_skip_tls_verify: bool,
    /// Whether the bucket stands in the path.
    pub force_path_style: bool,
    /// Whether anything may be written.
    #[serde(default)]
    pub access_mode: AccessMode,
    /// Claim of the volume that holds the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Node on which alone that volume can be mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Destination {
    /// The repository of this location, as its specification says now.
    #[must_use]
    pub fn of(location: &BackupLocation) -> Self {
        let BackupLocationSpec {
            // These three are in the repository's URL.
            url: _,
            bucket_name: _,
            prefix: _,
            volume,
            credentials,
            region,
            ca_cert,
            insecure_skip_tls_verify,
            force_path_style,
            access_mode,
            // When, not where.
            validation_frequency: _,
        } = &location.spec;
        Self {
            location: location.metadata.name.clone().unwrap_or_default(),
            repository: location.spec.repository_url(),
            credentials: credentials.clone(),
            region: region.clone(),
            ca_cert: ca_cert.clone(),
            insecure_skip_tls_verify: *insecure_skip_tls_verify,
            force_path_style: *force_path_style,
            access_mode: *access_mode,
            claim: volume.as_ref().map(|volume| volume.claim_name.clone()),
            node: volume.as_ref().and(location.status.as_ref()).and_then(|status| status.volume_node.clone()),
        }
    }

    /// Whether nothing may be written to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.access_mode == AccessMode::ReadOnly
    }

    /// What a job is told of it.
    #[must_use]
    pub fn task(&self, cluster_uid: &str) -> RepositoryTask {
        let Self {
            location,
            repository,
            credentials,
            region,
            ca_cert,
            insecure_skip_tls_verify,
            force_path_style,
            access_mode,
            // These two are the pod's.
            claim: _,
            node: _,
        } = self;
        RepositoryTask {
            repository: repository.clone(),
            location: location.clone(),
            credentials: credentials.clone(),
            region: region.clone(),
            ca_cert: ca_cert.clone(),
            insecure_skip_tls_verify: *insecure_skip_tls_verify,
            force_path_style: *force_path_style,
            access_mode: *access_mode,
            cluster_uid: cluster_uid.to_owned(),
        }
    }

    /// What a job's pod mounts for it.
    #[must_use]
    pub fn volumes(&self) -> Vec<(Volume, VolumeMount)> {
        let ca = self.ca_cert.as_ref().map(|source| (ca_volume(source), ca_mount()));
        let repository = self.claim.as_ref().map(|claim| {
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: None };
            let volume = Volume {
                name: REPOSITORY_VOLUME.to_owned(),
                persistent_volume_claim: Some(source),
                ..Volume::default()
            };
            let mount = VolumeMount {
                name: REPOSITORY_VOLUME.to_owned(),
                mount_path: task::volume_dir(claim),
                read_only: self.is_read_only().then_some(true),
                ..VolumeMount::default()
            };
            (volume, mount)
        });
        ca.into_iter().chain(repository).collect()
    }
}

/// Optional, so that the pod starts without it and the job can say what is missing.
fn ca_volume(source: &CaCertSource) -> Volume {
    let file = |key: &CaCertKey| KeyToPath { key: key.key.clone(), path: "ca.crt".to_owned(), mode: None };
    Volume {
        name: CA_VOLUME.to_owned(),
        secret: source.secret.as_ref().map(|key| SecretVolumeSource {
            secret_name: Some(key.name.clone()),
            items: Some(vec![file(key)]),
            optional: Some(true),
            default_mode: None,
        }),
        config_map: source.config_map.as_ref().map(|key| ConfigMapVolumeSource {
            name: key.name.clone(),
            items: Some(vec![file(key)]),
            optional: Some(true),
            default_mode: None,
        }),
        ..Volume::default()
    }
}

fn ca_mount() -> VolumeMount {
    let directory =
        task::CA_CERT_FILE.rsplit_once('/').map_or(task::CA_CERT_FILE, |(directory, _)| directory);
    VolumeMount {
        name: CA_VOLUME.to_owned(),
        mount_path: directory.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(spec: &str) -> Destination {
        let location = format!(
            "{{apiVersion: kubedr.catalogicsoftware.com/v1alpha1, kind: BackupLocation, metadata: {{name: s3}}, spec: {spec}}}"
        );
        Destination::of(&serde_norway::from_str(&location).unwrap())
    }

    #[test]
    fn a_bucket_needs_no_volume() {
        let plain = destination("{url: 'http://h:1', bucketName: b, credentials: c}");
        assert_eq!(plain.volumes(), []);
        assert_eq!(plain.task("u").variables().len(), 4, "nothing is said that is as it always was");
    }

    #[test]
    fn a_certificate_authority_is_mounted_where_the_job_is_told_it_is() {
        let from = |kind| {
            destination(&format!(
                "{{url: 'https://h', bucketName: b, credentials: c, caCert: {{{kind}: {{name: n, key: k}}}}}}"
            ))
        };
        for kind in ["secret", "configMap"] {
            let (volume, mount) = from(kind).volumes().remove(0);
            assert_eq!(mount.mount_path, "/etc/kubedr/ca");
            assert_eq!(
                (volume.secret.is_some(), volume.config_map.is_some()),
                (kind == "secret", kind == "configMap")
            );
            let told = from(kind).task("u").variables();
            assert!(told.contains(&("RESTIC_CACERT", "/etc/kubedr/ca/ca.crt".to_owned())), "{told:?}");
        }
    }

    #[test]
    fn a_claim_is_mounted_where_its_repository_is_said_to_be() {
        let volume = destination("{volume: {claimName: v}, prefix: p, credentials: c, accessMode: ReadOnly}");
        let (_, mount) = volume.volumes().remove(0);
        assert_eq!((volume.repository.as_str(), mount.mount_path.as_str()), ("/claim/v/p", "/claim/v"));
        assert_eq!(mount.read_only, Some(true));
    }
}
