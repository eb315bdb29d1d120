//! What becomes of a backup: a record, the policy's status, an event.

use jiff::Timestamp;
use kube::{Resource, ResourceExt, api::PostParams};
use kubedr_api::{
    EventReason, EventSubject, MetadataBackupPolicy, MetadataBackupRecord, MetadataBackupRecordSpec,
    MetadataBackupRecordStatus, Origin, RunFigures, RunIdentity, RunOutcome, RunReport,
    names::{finalizer, label},
    record_name, run_status_patch, short_snapshot_id,
};
use serde_json::json;

use super::kube_api::{ApiFailure, KubeApi, apply, call, persist};
use crate::{
    BackupDone,
    drive::{Patience, Reporter, Word},
};

/// Reports about one run of a policy.
pub struct BackupReporter {
    /// The API server.
    pub api: KubeApi,
    /// Name of the policy.
    pub policy: String,
    /// Name of the location.
    pub location: String,
    /// The cluster, by the UID of its namespace kube-system.
    pub cluster: Option<String>,
    /// Which run it is.
    pub run: RunIdentity,
}

impl Reporter<BackupDone> for BackupReporter {
    /// In this order, so that whoever sees the event finds the status, and whoever sees the status finds the record.
    async fn tell(&self, word: &Word<BackupDone>, patience: Patience) -> Result<(), String> {
        if let Word::Completed(done) = word {
            let what = format!("posting the record `{}`", record_name(&done.snapshot_id));
            persist(&what, patience, || self.post_record(done)).await?;
        }
        let outcome = outcome(word);
        let what = format!("writing the status of policy `{}`", self.policy);
        persist(&what, patience, || self.write_status(&outcome)).await?;
        let (reason, message) = match word {
            Word::Started => return Ok(()),
            Word::Completed(done) => (
                EventReason::BackupSucceeded,
                format!("Backup completed, snapshot ID: {}", short_snapshot_id(&done.snapshot_id)),
            ),
            Word::Failed(message) => (EventReason::BackupFailed, message.clone()),
        };
        let what = format!("creating the event `{}`", reason.as_str());
        persist(&what, patience, || self.create_event(reason, &message)).await
    }
}

fn outcome(word: &Word<BackupDone>) -> RunOutcome {
    match word {
        Word::Started => RunOutcome::Started,
        Word::Failed(message) => RunOutcome::Failed(message.clone()),
        Word::Completed(done) => RunOutcome::Completed(RunFigures {
            snapshot_id: done.snapshot_id.clone(),
            files_new: done.files_new,
            files_changed: done.files_changed,
            data_added: done.data_added,
            total_bytes_processed: done.total_bytes_processed,
            duration: done.duration(),
        }),
    }
}

impl BackupReporter {
    async fn post_record(&self, done: &BackupDone) -> Result<(), ApiFailure> {
        let records = self.api.objects::<MetadataBackupRecord>();
        let record = self.record(done);
        let name = record.name_any();
        match call(records.create(&PostParams::default(), &record)).await {
            Err(error) if error.code() == Some(409) => {
                let found = call(records.get(&name)).await?;
                let known = found.status.and_then(|status| status.snapshot_id);
                if found.spec != record.spec || known.is_some_and(|id| id != done.snapshot_id) {
                    return Err(ApiFailure::Occupied(format!(
                        "`{name}` exists for another snapshot or location (location `{}`, policy `{}`); the backup is stored and \
                         checked but has no record of its own: take another one",
                        found.spec.backuploc, found.spec.policy
                    )));
                }
            }
            created => drop(created?),
        }
        let status = MetadataBackupRecordStatus {
            snapshot_id: Some(done.snapshot_id.clone()),
            repository_id: Some(done.repository_id.clone()),
            backup_time: Some(done.time.to_string()),
            total_bytes_processed: i64::try_from(done.total_bytes_processed).ok(),
            certificates: Some(done.certificates),
            origin: Some(Origin::Backup),
            cluster_uid: self.cluster.clone(),
            conditions: Vec::new(),
        };
        let patch = json!({
            "apiVersion": MetadataBackupRecord::api_version(&()),
            "kind": MetadataBackupRecord::kind(&()),
            "metadata": { "name": name },
            "status": status,
        });
        let (params, patch) = apply(&patch);
        call(records.patch_status(&name, &params, &patch)).await.map(drop)
    }

    fn record(&self, done: &BackupDone) -> MetadataBackupRecord {
        let spec = MetadataBackupRecordSpec {
            backuploc: self.location.clone(),
            policy: self.policy.clone(),
            snapshot_id: short_snapshot_id(&done.snapshot_id).to_owned(),
        };
        let mut record = MetadataBackupRecord::new(&record_name(&done.snapshot_id), spec);
        let labels = [(label::POLICY, &self.policy), (label::LOCATION, &self.location)];
        // The record stands for the snapshot: it does not go before the snapshot has gone.
        record.metadata.finalizers = Some(vec![finalizer::RECORD.to_owned()]);
        record.labels_mut().extend(labels.map(|(name, value)| (name.to_owned(), value.clone())));
        record
    }

    async fn write_status(&self, outcome: &RunOutcome) -> Result<(), ApiFailure> {
        let Some(policy) = self.policy().await? else { return Ok(()) };
        let report = RunReport { run: self.run.clone(), outcome: outcome.clone() };
        let Some(status) = report.merge(&policy.status.clone().unwrap_or_default(), Timestamp::now()) else {
            return Ok(());
        };
        let version = policy.resource_version().unwrap_or_default();
        let patch = run_status_patch(&self.policy, &version, &status);
        let (params, patch) = apply(&patch);
        let policies = self.api.objects::<MetadataBackupPolicy>();
        call(policies.patch_status(&self.policy, &params, &patch)).await.map(drop)
    }

    async fn create_event(&self, reason: EventReason, message: &str) -> Result<(), ApiFailure> {
        let Some(policy) = self.policy().await? else { return Ok(()) };
        let subject = EventSubject {
            kind: "MetadataBackupPolicy",
            namespace: policy.namespace().unwrap_or_default(),
            name: policy.name_any(),
            uid: policy.uid().unwrap_or_default(),
        };
        self.api.event(&subject, reason, &self.run.job_uid, message).await
    }

    /// The policy as it is now. One that was deleted while its backup ran has nobody to be told; its records stay.
    async fn policy(&self) -> Result<Option<MetadataBackupPolicy>, ApiFailure> {
        let found = call(self.api.objects::<MetadataBackupPolicy>().get_opt(&self.policy)).await?;
        if found.is_none() {
            tracing::warn!(policy = self.policy, "the policy is gone: nobody to report to");
        }
        Ok(found)
    }
}
