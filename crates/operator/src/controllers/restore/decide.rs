//! What is to be done about a restore.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kubedr_api::names::{annotation, job_type, label};
use kubedr_api::{BackupLocation, MetadataBackupRecord, MetadataRestoreSpec, MetadataRestoreStatus, Phase};

use crate::destination::Destination;

/// A Job of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreJob {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of the restore that it works for.
    pub generation: i64,
    /// Whether it is being deleted.
    pub leaving: bool,
}

impl RestoreJob {
    /// What is to be known of this Job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let generation = job.annotations().get(annotation::GENERATION);
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            generation: generation.and_then(|text| text.parse().ok()).unwrap_or_default(),
            leaving: job.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it has ended.
    Settled,
    /// Wait for the Job.
    Follow,
    /// Delete a Job that works for what is no longer wanted.
    Abandon {
        /// Name of the Job.
        name: String,
    },
    /// Wait until a Job that is being deleted is gone.
    AwaitEnd,
    /// Tell that the Job went before it had reported.
    TellLost,
    /// Look whether it can be done, and create a Job.
    Begin,
}

/// What is to be done about a restore of this generation with this status and these Jobs.
#[must_use]
pub fn decide(generation: i64, status: &MetadataRestoreStatus, jobs: &[RestoreJob]) -> Action {
    let current = status.observed_generation == Some(generation);
    // A restore that KubeDR 0.x completed stays completed, whatever generation it noted.
    let done = status.restore_status == Some(Phase::Completed) && status.restore_job_uid.is_none();
    if done || (current && matches!(status.restore_status, Some(Phase::Completed | Phase::Failed))) {
        return Action::Settled;
    }
    if jobs.iter().any(|job| job.leaving) {
        return Action::AwaitEnd;
    }
    if let Some(old) = jobs.iter().find(|job| job.generation != generation) {
        return Action::Abandon { name: old.name.clone() };
    }
    match jobs {
        [] if current => Action::TellLost,
        [] => Action::Begin,
        _ => Action::Follow,
    }
}

/// What the cluster has of the things that a restore names.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The record.
    pub record: Option<&'a MetadataBackupRecord>,
    /// The record's location.
    pub location: Option<&'a BackupLocation>,
    /// The claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The pods of the namespace.
    pub pods: &'a [Pod],
}

/// A restore that can begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where the snapshot is.
    pub destination: Destination,
    /// Its id, in full if the record has it.
    pub snapshot: String,
    /// Identity of the repository, if the record has it.
    pub repository_id: Option<String>,
}

/// Why a restore does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another restore onto the same claim is about to end.
    OtherRestore,
    /// It cannot, for this reason; what to do about that is in it.
    Lasting(String),
}

/// How to do it, or why not.
pub fn plan(spec: &MetadataRestoreSpec, parts: Parts<'_>) -> Result<Plan, Obstacle> {
    let users: Vec<_> = parts.pods.iter().filter(|pod| uses(pod, &spec.pvc_name)).collect();
    let of_restore = |pod: &&Pod| pod.labels().get(label::TYPE).is_some_and(|kind| kind == job_type::RESTORE);
    if parts.claim.is_some() && !users.is_empty() && users.iter().all(of_restore) {
        return Err(Obstacle::OtherRestore);
    }
    find(spec, parts, users.first().copied()).map_err(Obstacle::Lasting)
}

fn find(spec: &MetadataRestoreSpec, parts: Parts<'_>, user: Option<&Pod>) -> Result<Plan, String> {
    const AGAIN: &str = "then delete this MetadataRestore and create it again";
    let Parts { record, location, claim, pods: _ } = parts;
    let (mbr, pvc) = (&spec.mbr_name, &spec.pvc_name);
    let Some(record) = record else {
        return Err(format!(
            "there is no MetadataBackupRecord `{mbr}` in this namespace; `kubectl get mbr` lists those there are; correct `spec.mbrName`"
        ));
    };
    let name = &record.spec.backuploc;
    let Some(location) = location else {
        return Err(format!(
            "BackupLocation `{name}`, which record `{mbr}` names, does not exist; create it with the bucket and the password it had, {AGAIN}"
        ));
    };
    let Some(claim) = claim else {
        return Err(format!(
            "there is no PersistentVolumeClaim `{pvc}` in this namespace; create it or correct `spec.pvcName`"
        ));
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!(
            "PersistentVolumeClaim `{pvc}` is being deleted; name another in `spec.pvcName`"
        ));
    }
    if let Some(pod) = user {
        return Err(format!(
            "PersistentVolumeClaim `{pvc}` is in use by pod `{}`; stop it, {AGAIN}, or name another claim in `spec.pvcName`",
            pod.name_any()
        ));
    }
    let destination = Destination::of(location);
    if destination.claim.as_ref() == Some(pvc) {
        return Err(format!(
            "PersistentVolumeClaim `{pvc}` holds the repository of BackupLocation `{name}`; name another claim in `spec.pvcName`"
        ));
    }
    let status = record.status.clone().unwrap_or_default();
    Ok(Plan {
        destination,
        snapshot: status.snapshot_id.unwrap_or_else(|| record.spec.snapshot_id.clone()),
        repository_id: status.repository_id,
    })
}

/// Whether a pod that has not ended has the claim mounted.
fn uses(pod: &Pod, claim: &str) -> bool {
    let ended = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let mut claims =
        volumes.into_iter().flatten().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    !ended && claims.any(|source| source.claim_name == claim)
}

#[cfg(test)]
mod tests {
    use kubedr_api::MetadataRestoreStatus;

    use super::*;

    fn job(generation: i64, leaving: bool) -> RestoreJob {
        RestoreJob { name: format!("j{generation}"), uid: "u".into(), generation, leaving }
    }

    fn status(phase: Phase, generation: i64) -> MetadataRestoreStatus {
        MetadataRestoreStatus {
            restore_status: Some(phase),
            observed_generation: Some(generation),
            restore_job_uid: Some("u".into()),
            ..MetadataRestoreStatus::default()
        }
    }

    #[test]
    fn a_restore_begins_once_and_ends_for_good() {
        assert_eq!(decide(1, &MetadataRestoreStatus::default(), &[]), Action::Begin);
        assert_eq!(decide(1, &status(Phase::Initializing, 1), &[job(1, false)]), Action::Follow);
        for end in [Phase::Completed, Phase::Failed] {
            assert_eq!(decide(1, &status(end, 1), &[]), Action::Settled);
        }
    }

    #[test]
    fn a_changed_specification_waits_for_the_end_of_the_old_job() {
        let old = status(Phase::Initializing, 1);
        assert_eq!(decide(2, &old, &[job(1, false)]), Action::Abandon { name: "j1".into() });
        assert_eq!(decide(2, &old, &[job(1, true)]), Action::AwaitEnd);
        assert_eq!(decide(2, &old, &[]), Action::Begin);
    }

    #[test]
    fn a_job_that_was_deleted_before_it_reported_is_told_and_not_repeated() {
        assert_eq!(decide(1, &status(Phase::Initializing, 1), &[]), Action::TellLost);
    }

    #[test]
    fn what_kubedr_restored_is_not_restored_again() {
        let old = MetadataRestoreStatus {
            restore_status: Some(Phase::Completed),
            ..MetadataRestoreStatus::default()
        };
        assert_eq!(decide(4, &old, &[]), Action::Settled);
    }

    fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
        serde_norway::from_str(yaml).unwrap()
    }

    #[test]
    fn each_thing_that_is_missing_is_named_with_what_to_do() {
        let spec = parse::<MetadataRestoreSpec>("{mbrName: mbr-1, pvcName: target}");
        let group = "apiVersion: kubedr.catalogicsoftware.com/v1alpha1";
        let record: MetadataBackupRecord = parse(&format!(
            "{{{group}, kind: MetadataBackupRecord, metadata: {{name: mbr-1}}, spec: {{backuploc: s3, policy: p, snapshotId: '01234567'}}}}"
        ));
        let location = |spec: &str| {
            parse::<BackupLocation>(&format!(
                "{{{group}, kind: BackupLocation, metadata: {{name: s3}}, spec: {spec}}}"
            ))
        };
        let bucket = location("{url: 'http://h', bucketName: b, credentials: c}");
        let same = location("{volume: {claimName: target}, credentials: c}");
        let claim: PersistentVolumeClaim = parse("{metadata: {name: target}}");
        let pod = |phase: &str| {
            parse::<Pod>(&format!(
                "{{metadata: {{name: db}}, spec: {{containers: [], volumes: [{{name: v, persistentVolumeClaim: {{claimName: target}}}}]}}, status: {{phase: {phase}}}}}"
            ))
        };
        let (running, ended) = ([pod("Pending")], [pod("Succeeded")]);
        let all = Parts { record: Some(&record), location: Some(&bucket), claim: Some(&claim), pods: &ended };
        assert_eq!(plan(&spec, all).unwrap().snapshot, "01234567");
        for (parts, named) in [
            (Parts { record: None, ..all }, "no MetadataBackupRecord `mbr-1`"),
            (Parts { location: None, ..all }, "BackupLocation `s3`"),
            (Parts { claim: None, ..all }, "no PersistentVolumeClaim `target`"),
            (Parts { pods: &running, ..all }, "in use by pod `db`"),
            (Parts { location: Some(&same), ..all }, "holds the repository"),
        ] {
            let Err(Obstacle::Lasting(message)) = plan(&spec, parts) else { panic!("{named}") };
            assert!(message.contains(named), "{message}");
        }
        let mut other = running[0].clone();
        other.labels_mut().insert(label::TYPE.into(), job_type::RESTORE.into());
        assert_eq!(plan(&spec, Parts { pods: &[other], ..all }), Err(Obstacle::OtherRestore));
    }
}
