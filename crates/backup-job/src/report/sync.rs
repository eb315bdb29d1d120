//! What becomes of a look at a repository: records are made, completed and removed; the location's status says what was seen.

mod verdict;

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use kubedr_api::{
    BackupLocation, BackupLocationStatus, ConditionReason, EventReason, MetadataBackupRecord,
    MetadataBackupRecordSpec, MetadataBackupRecordStatus,
    names::{field_manager, finalizer, label},
    record_name,
};
use serde_json::json;

use super::{
    Subject,
    kube_api::{ApiFailure, KubeApi, apply_as, call, persist},
};
use crate::{
    SyncDone,
    drive::{Patience, Reporter, Word},
    sync::{Creation, Known, Removal, Taken, stands_for},
};
use verdict::{Verdict, available, unavailable};

/// Reports about one sync job of a location.
pub struct SyncReporter {
    /// The API server.
    pub api: KubeApi,
    /// Name of the location.
    pub location: String,
    /// UID of the Job.
    pub job_uid: String,
    /// Generation of the location that the Job looks at.
    pub generation: i64,
}

impl Reporter<SyncDone> for SyncReporter {
    /// The records, then the status that says that they are complete.
    async fn tell(&self, word: &Word<SyncDone>, patience: Patience) -> Result<(), String> {
        match word {
            Word::Started => Ok(()),
            Word::Failed(message) => {
                self.conclude(patience, |status| unavailable(status, message, self.generation)).await
            }
            Word::Completed(done) => {
                let what = format!("reading location `{}`", self.location);
                if persist(&what, patience, || self.current_location()).await?.is_none() {
                    return Ok(());
                }
                let taken = self.carry_out(done, patience).await?;
                self.conclude(patience, |status| available(status, done, &taken, self.generation)).await
            }
        }
    }
}

/// What became of a record that was to be made.
enum Made {
    Created,
    /// It was there already.
    Known,
    /// Its name belongs to a record of this location.
    Taken(String),
}

impl SyncReporter {
    /// What the cluster knows; to be read before the repository is. Snapshots that wait for their deletion come second: their
    /// records go only when they are on that list.
    pub async fn known(&self) -> Result<Known, String> {
        let records = persist("listing the records", Patience::Full, || async {
            call(self.api.objects::<MetadataBackupRecord>().list(&ListParams::default())).await
        });
        let records = records.await?.items;
        let what = format!("reading location `{}`", self.location);
        let location = persist(&what, Patience::Full, || self.api.location(&self.location)).await?;
        let status = location.and_then(|location| location.status).unwrap_or_default();
        let pending = status.pending_deletions.into_iter().map(|p| (p.repository_id, p.snapshot_id));
        Ok(Known { records, pending: pending.collect::<BTreeSet<_>>() })
    }

    /// Does what the plan says; the names that turned out to be taken join those that the plan knew of.
    async fn carry_out(&self, done: &SyncDone, patience: Patience) -> Result<Vec<Taken>, String> {
        let mut taken = done.plan.taken.clone();
        let mut created = 0;
        for creation in &done.plan.create {
            let record = record_name(creation.snapshot_id.as_str());
            let what = format!("posting the record `{record}`");
            match persist(&what, patience, || self.create(creation, &done.repository_id)).await? {
                Made::Created => created += 1,
                Made::Known => {}
                Made::Taken(location) => {
                    let snapshot_id = creation.snapshot_id.to_string();
                    taken.push(Taken { record, snapshot_id, location });
                }
            }
        }
        for completion in &done.plan.complete {
            let what = format!("writing the status of the record `{}`", completion.record);
            persist(&what, patience, || self.complete(&completion.record, &completion.status)).await?;
        }
        for removal in &done.plan.remove {
            let what = format!("removing the record `{}`", removal.record);
            persist(&what, patience, || self.remove(removal, done)).await?;
        }
        for record in &done.plan.revive {
            let what = format!("taking back what the record `{record}` says of its snapshot");
            persist(&what, patience, || self.revive(record, &done.repository_id)).await?;
        }
        if created > 0 {
            let message = format!(
                "{created} backups without a record were found in {} and have one now",
                done.repository
            );
            self.create_event(EventReason::BackupDiscovered, &message, patience).await?;
        }
        Ok(taken)
    }

    async fn create(&self, creation: &Creation, repository_id: &str) -> Result<Made, ApiFailure> {
        let records = self.api.objects::<MetadataBackupRecord>();
        let record = self.record(creation);
        let name = record.name_any();
        let (found, made) = match call(records.create(&PostParams::default(), &record)).await {
            Err(error) if error.code() == Some(409) => match call(records.get_opt(&name)).await? {
                Some(found) => (found, Made::Known),
                // It went meanwhile, and its snapshot is as good as gone.
                None => return Ok(Made::Known),
            },
            created => (created?, Made::Created),
        };
        if !stands_for(&found, &self.location, repository_id, creation.snapshot_id.as_str()) {
            return Ok(Made::Taken(found.spec.backuploc));
        }
        self.fill(&found, &creation.status).await?;
        Ok(made)
    }

    async fn complete(&self, name: &str, status: &MetadataBackupRecordStatus) -> Result<(), ApiFailure> {
        match call(self.api.objects::<MetadataBackupRecord>().get_opt(name)).await? {
            Some(found) => self.fill(&found, status).await,
            None => Ok(()),
        }
    }

    /// Writes the status of a record that has none. If it has changed since it was read, its backup job may have got through
    /// first, whose word counts: the conflict makes us read it once more.
    async fn fill(
        &self,
        found: &MetadataBackupRecord,
        status: &MetadataBackupRecordStatus,
    ) -> Result<(), ApiFailure> {
        if found.status.as_ref().is_some_and(|known| known.snapshot_id.is_some()) {
            return Ok(());
        }
        let name = found.name_any();
        let patch = json!({
            "apiVersion": MetadataBackupRecord::api_version(&()),
            "kind": MetadataBackupRecord::kind(&()),
            "metadata": { "name": name, "resourceVersion": found.resource_version() },
            "status": status,
        });
        let (params, patch) = apply_as(field_manager::SYNC, &patch);
        let records = self.api.objects::<MetadataBackupRecord>();
        call(records.patch_status(&name, &params, &patch)).await.map(drop)
    }

    /// Says why, then deletes; the operator takes the finalizer off because of what is said.
    async fn remove(&self, removal: &Removal, done: &SyncDone) -> Result<(), ApiFailure> {
        let records = self.api.objects::<MetadataBackupRecord>();
        let Some(record) = call(records.get_opt(&removal.record)).await? else { return Ok(()) };
        let still_the_one = stands_for(&record, &self.location, &done.repository_id, &removal.snapshot_id);
        if !still_the_one || record.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let message = format!(
            "snapshot {} is not in the repository any more ({}, id {}): somebody deleted it there, and its record goes too",
            removal.snapshot_id, done.repository, done.repository_id
        );
        self.api.snapshot_is_gone(&record, ConditionReason::Missing, &message).await?;
        let subject = Subject::Record(removal.record.clone());
        self.api.event_on(&subject, EventReason::SnapshotMissing, &self.job_uid, &message).await?;
        let preconditions = Preconditions { uid: record.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match call(records.delete(&removal.record, &params)).await {
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
            deleted => deleted.map(drop),
        }
    }

    /// Takes back that the snapshot is gone, unless the record is on its way: its snapshot, found again, gets a new one.
    async fn revive(&self, name: &str, repository_id: &str) -> Result<(), ApiFailure> {
        let Some(record) = call(self.api.objects::<MetadataBackupRecord>().get_opt(name)).await? else {
            return Ok(());
        };
        let snapshot = record.status.as_ref().and_then(|status| status.snapshot_id.clone());
        let still_the_one =
            snapshot.is_some_and(|id| stands_for(&record, &self.location, repository_id, &id));
        if !still_the_one || record.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        self.api.snapshot_is_there(&record).await
    }

    fn record(&self, creation: &Creation) -> MetadataBackupRecord {
        let spec = MetadataBackupRecordSpec {
            backuploc: self.location.clone(),
            policy: creation.policy.clone(),
            snapshot_id: creation.snapshot_id.short().to_owned(),
        };
        let mut record = MetadataBackupRecord::new(&record_name(creation.snapshot_id.as_str()), spec);
        let labels = [(label::POLICY, &creation.policy), (label::LOCATION, &self.location)];
        // The record stands for the snapshot: it does not go before the snapshot has gone.
        record.metadata.finalizers = Some(vec![finalizer::RECORD.to_owned()]);
        record.labels_mut().extend(labels.map(|(name, value)| (name.to_owned(), value.clone())));
        record
    }

    /// Writes the status that `judge` makes of the known one, then the events that go with it.
    async fn conclude(
        &self,
        patience: Patience,
        judge: impl Fn(&BackupLocationStatus) -> Verdict + Sync,
    ) -> Result<(), String> {
        let what = format!("writing the status of location `{}`", self.location);
        let events = persist(&what, patience, || async {
            let Some(location) = self.current_location().await? else { return Ok(Vec::new()) };
            let Verdict { conditions, snapshots, bytes, events } =
                judge(&location.status.clone().unwrap_or_default());
            let status = BackupLocationStatus {
                last_validation_time: Some(Timestamp::now().to_string()),
                snapshots,
                repository_bytes: bytes,
                conditions,
                // The rest has other writers.
                ..BackupLocationStatus::default()
            };
            self.api.apply_location_status(&location, field_manager::SYNC, &status).await?;
            Ok(events)
        });
        for (reason, message) in events.await? {
            self.create_event(reason, &message, patience).await?;
        }
        Ok(())
    }

    async fn create_event(
        &self,
        reason: EventReason,
        message: &str,
        patience: Patience,
    ) -> Result<(), String> {
        self.api.location_event(&self.location, &self.job_uid, (reason, message), patience).await
    }

    /// The location, unless it is gone or was changed since the job was made: what was seen is of another place then.
    async fn current_location(&self) -> Result<Option<BackupLocation>, ApiFailure> {
        let found = self.api.location(&self.location).await?;
        let current = |location: &BackupLocation| {
            location.metadata.generation.is_none_or(|generation| generation == self.generation)
        };
        let found = found.filter(current);
        if found.is_none() {
            tracing::warn!(location = self.location, "the location is gone or changed: nothing to report");
        }
        Ok(found)
    }
}
