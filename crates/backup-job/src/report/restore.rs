//! What becomes of a restore: its status, its annotation, an event.

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use kubedr_api::{
    EventReason, EventSubject, MetadataRestore, RestoreFigures, RestoreOutcome, RestoreReport,
    names::annotation, restore_status_patch, short_snapshot_id,
};
use serde_json::json;

use super::kube_api::{ApiFailure, KubeApi, apply, call, persist};
use crate::{
    RestoreDone,
    drive::{Patience, Reporter, Word},
};

/// Reports about one job of a restore.
pub struct RestoreReporter {
    /// The API server.
    pub api: KubeApi,
    /// Name of the restore.
    pub restore: String,
    /// UID of the Job.
    pub job_uid: String,
    /// Generation of the restore that the Job works for.
    pub generation: i64,
}

impl Reporter<RestoreDone> for RestoreReporter {
    async fn tell(&self, word: &Word<RestoreDone>, patience: Patience) -> Result<(), String> {
        let outcome = match word {
            Word::Started => RestoreOutcome::Started,
            Word::Completed(done) => RestoreOutcome::Completed(RestoreFigures {
                snapshot_id: done.snapshot_id.clone(),
                bytes: done.bytes,
                message: done.warning(),
            }),
            Word::Failed(message) => RestoreOutcome::Failed(message.clone()),
        };
        // The annotation first: whoever sees the status finds it.
        if matches!(word, Word::Completed(_)) {
            let what = format!("annotating the restore `{}`", self.restore);
            persist(&what, patience, || self.annotate()).await?;
        }
        let what = format!("writing the status of restore `{}`", self.restore);
        persist(&what, patience, || self.write_status(&outcome)).await?;
        let (reason, message) = match word {
            Word::Started => return Ok(()),
            Word::Completed(done) => {
                let id = short_snapshot_id(&done.snapshot_id);
                (EventReason::RestoreSucceeded, format!("Restore from snapshot {id} completed"))
            }
            Word::Failed(message) => (EventReason::RestoreFailed, message.clone()),
        };
        if let Word::Completed(done) = word {
            let warning = done.warning();
            if !warning.is_empty() {
                let (reason, what) = (EventReason::OwnersNotRestored, "creating the warning");
                persist(what, patience, || self.create_event(reason, &warning)).await?;
            }
        }
        let what = format!("creating the event `{}`", reason.as_str());
        persist(&what, patience, || self.create_event(reason, &message)).await
    }
}

impl RestoreReporter {
    async fn write_status(&self, outcome: &RestoreOutcome) -> Result<(), ApiFailure> {
        let Some(restore) = self.restore().await? else { return Ok(()) };
        let report = RestoreReport {
            job_uid: Some(self.job_uid.clone()),
            generation: self.generation,
            outcome: outcome.clone(),
        };
        let Some(status) = report.merge(&restore.status.clone().unwrap_or_default(), Timestamp::now()) else {
            return Ok(());
        };
        let version = restore.resource_version().unwrap_or_default();
        let patch = restore_status_patch(&self.restore, &version, &status);
        let (params, patch) = apply(&patch);
        call(self.api.objects::<MetadataRestore>().patch_status(&self.restore, &params, &patch))
            .await
            .map(drop)
    }

    async fn annotate(&self) -> Result<(), ApiFailure> {
        let Some(restore) = self.restore().await? else { return Ok(()) };
        let patch = json!({
            "apiVersion": MetadataRestore::api_version(&()),
            "kind": MetadataRestore::kind(&()),
            "metadata": {
                "name": self.restore,
                "resourceVersion": restore.resource_version(),
                "annotations": { annotation::RESTORED: "true" },
            },
        });
        let (params, patch) = apply(&patch);
        call(self.api.objects::<MetadataRestore>().patch(&self.restore, &params, &patch)).await.map(drop)
    }

    async fn create_event(&self, reason: EventReason, message: &str) -> Result<(), ApiFailure> {
        let Some(restore) = self.restore().await? else { return Ok(()) };
        let subject = EventSubject {
            kind: "MetadataRestore",
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            uid: restore.uid().unwrap_or_default(),
        };
        self.api.event(&subject, reason, &self.job_uid, message).await
    }

    /// The restore as it is now. One that was deleted meanwhile has nobody to be told.
    async fn restore(&self) -> Result<Option<MetadataRestore>, ApiFailure> {
        let found = call(self.api.objects::<MetadataRestore>().get_opt(&self.restore)).await?;
        if found.is_none() {
            tracing::warn!(restore = self.restore, "the restore is gone: nobody to report to");
        }
        Ok(found)
    }
}
