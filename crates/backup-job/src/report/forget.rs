//! What becomes of a forget job: its snapshots' records may go, and the location says what was reclaimed and found.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use kubedr_api::{
    BackupLocation, BackupLocationStatus, CheckOutcome, CheckResult, ConditionReason, EventReason,
    MetadataBackupRecord, PruneResult, names::field_manager,
};
use kubedr_repo::{PruneReport, SnapshotId};
use serde_json::json;

use super::kube_api::{ApiFailure, KubeApi, call, persist};
use crate::{
    Failure, ForgetDone, Progress,
    drive::{Patience, Reporter, Word},
};

/// Reports about one forget job of a location.
pub struct ForgetReporter {
    /// The API server.
    pub api: KubeApi,
    /// Name of the location.
    pub location: String,
    /// UID of the Job.
    pub job_uid: String,
}

impl Reporter<ForgetDone> for ForgetReporter {
    /// What was done has been told step by step.
    async fn tell(&self, word: &Word<ForgetDone>, patience: Patience) -> Result<(), String> {
        match word {
            Word::Started | Word::Completed(_) => Ok(()),
            Word::Failed(message) => {
                self.create_event(EventReason::MaintenanceFailed, message, patience).await
            }
        }
    }
}

impl Progress for ForgetReporter {
    /// The records first: each waits for this word.
    async fn deleted(&self, repository_id: &str, snapshots: &[SnapshotId]) -> Result<(), Failure> {
        let deleted: BTreeSet<&str> = snapshots.iter().map(SnapshotId::as_str).collect();
        let records = self.records_of(repository_id, &deleted).await.map_err(Failure::Reporting)?;
        for record in records {
            let what = format!("writing the status of the record `{}`", record.name_any());
            let reason = ConditionReason::Deleted;
            let said = persist(&what, Patience::Full, || {
                self.api.snapshot_is_gone(&record, reason, "the snapshot was deleted from the repository")
            });
            said.await.map_err(Failure::Reporting)?;
        }
        let what = format!("taking deleted snapshots off the list of location `{}`", self.location);
        persist(&what, Patience::Full, || self.take_off(repository_id, &deleted))
            .await
            .map_err(Failure::Reporting)
    }

    async fn pruned(&self, report: &PruneReport) -> Result<(), Failure> {
        let result = PruneResult {
            time: Timestamp::now().to_string(),
            bytes_deleted: i64::try_from(report.deleted.bytes).unwrap_or(i64::MAX),
            bytes_marked: i64::try_from(report.still_marked.bytes).unwrap_or(i64::MAX),
        };
        let message = format!(
            "{} bytes were given back; {} bytes are marked, and go with the first prune from 23 hours after that on",
            result.bytes_deleted, result.bytes_marked
        );
        self.write_status("prune", |status| status.last_prune = Some(result.clone())).await?;
        self.create_event(EventReason::Pruned, &message, Patience::Full).await.map_err(Failure::Reporting)
    }

    async fn checked(&self, damage: Option<&str>) -> Result<(), Failure> {
        let result = CheckResult {
            time: Timestamp::now().to_string(),
            result: if damage.is_some() { CheckOutcome::Failed } else { CheckOutcome::Passed },
            message: damage.unwrap_or_default().to_owned(),
        };
        self.write_status("check", |status| status.last_check = Some(result.clone())).await?;
        match damage {
            None => Ok(()),
            Some(damage) => {
                let told = self.create_event(EventReason::CheckFailed, damage, Patience::Full);
                told.await.map_err(Failure::Reporting)
            }
        }
    }
}

impl ForgetReporter {
    /// Records of this location that stand for one of these snapshots.
    async fn records_of(
        &self,
        repository_id: &str,
        deleted: &BTreeSet<&str>,
    ) -> Result<Vec<MetadataBackupRecord>, String> {
        let all = self.api.objects::<MetadataBackupRecord>();
        let list = persist("listing the records", Patience::Full, || async {
            call(all.list(&ListParams::default())).await
        });
        let is_one = |record: &MetadataBackupRecord| {
            record.spec.backuploc == self.location
                && record.status.as_ref().is_some_and(|status| {
                    status.repository_id.as_deref() == Some(repository_id)
                        && status.snapshot_id.as_deref().is_some_and(|id| deleted.contains(id))
                })
        };
        Ok(list.await?.items.into_iter().filter(is_one).collect())
    }

    /// Takes these snapshots off the list of those that wait for their deletion. The operator adds to it meanwhile, hence the
    /// resource version.
    async fn take_off(&self, repository_id: &str, deleted: &BTreeSet<&str>) -> Result<(), ApiFailure> {
        let Some(location) = self.api.location(&self.location).await? else { return Ok(()) };
        let old = location.status.clone().unwrap_or_default().pending_deletions;
        let mut left = old.clone();
        left.retain(|pending| {
            pending.repository_id != repository_id || !deleted.contains(pending.snapshot_id.as_str())
        });
        if left == old {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": location.resource_version() },
            "status": { "pendingDeletions": left },
        });
        let params =
            PatchParams { field_manager: Some(field_manager::FORGET.to_owned()), ..PatchParams::default() };
        let locations = self.api.objects::<BackupLocation>();
        call(locations.patch_status(&self.location, &params, &Patch::Merge(&patch))).await.map(drop)
    }

    /// Writes what a forget job owns of the location's status, `change` applied to what is there.
    async fn write_status(
        &self,
        of: &str,
        change: impl Fn(&mut BackupLocationStatus) + Sync,
    ) -> Result<(), Failure> {
        let what = format!("writing the result of the {of} to the status of location `{}`", self.location);
        let write = persist(&what, Patience::Full, || async {
            let Some(location) = self.api.location(&self.location).await? else { return Ok(()) };
            let known = location.status.clone().unwrap_or_default();
            let mut status = BackupLocationStatus {
                last_prune: known.last_prune,
                last_check: known.last_check,
                // The rest has other writers.
                ..BackupLocationStatus::default()
            };
            change(&mut status);
            self.api.apply_location_status(&location, field_manager::FORGET, &status).await
        });
        write.await.map_err(Failure::Reporting)
    }

    async fn create_event(
        &self,
        reason: EventReason,
        message: &str,
        patience: Patience,
    ) -> Result<(), String> {
        self.api.location_event(&self.location, &self.job_uid, (reason, message), patience).await
    }
}
