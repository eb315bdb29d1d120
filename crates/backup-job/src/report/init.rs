//! What becomes of an initialisation: the location's status, its annotation, an event.

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use kubedr_api::{
    BackupLocation, EventReason, EventSubject, InitOutcome, InitReport, init_status_patch, names::annotation,
};
use serde_json::json;

use super::kube_api::{ApiFailure, KubeApi, apply, call, persist};
use crate::{
    InitDone,
    drive::{Patience, Reporter, Word},
};

/// Reports about one init job of a location.
pub struct InitReporter {
    /// The API server.
    pub api: KubeApi,
    /// Name of the location.
    pub location: String,
    /// UID of the Job.
    pub job_uid: String,
    /// Generation of the location that the Job initialises.
    pub generation: i64,
    /// Resource version of the Secret that the Job uses.
    pub credentials_version: String,
    /// Node on which the Job runs, if all others have to run there too.
    pub volume_node: Option<String>,
}

impl Reporter<InitDone> for InitReporter {
    async fn tell(&self, word: &Word<InitDone>, patience: Patience) -> Result<(), String> {
        let outcome = match word {
            Word::Started => InitOutcome::Started,
            Word::Completed(done) => InitOutcome::Completed {
                repository_id: done.repository_id.clone(),
                volume_node: self.volume_node.clone(),
            },
            Word::Failed(message) => InitOutcome::Failed(message.clone()),
        };
        let what = format!("writing the status of location `{}`", self.location);
        persist(&what, patience, || self.write_status(&outcome)).await?;
        let (reason, message) = match word {
            Word::Started => return Ok(()),
            Word::Completed(done) => {
                (EventReason::InitSucceeded, format!("Repository {} is initialised", done.repository))
            }
            Word::Failed(message) => (EventReason::InitFailed, message.clone()),
        };
        let what = format!("annotating the location `{}`", self.location);
        persist(&what, patience, || self.annotate(matches!(word, Word::Completed(_)))).await?;
        let what = format!("creating the event `{}`", reason.as_str());
        persist(&what, patience, || self.create_event(reason, &message)).await
    }
}

impl InitReporter {
    async fn write_status(&self, outcome: &InitOutcome) -> Result<(), ApiFailure> {
        let Some(location) = self.location().await? else { return Ok(()) };
        let report = InitReport {
            job_uid: self.job_uid.clone(),
            generation: self.generation,
            credentials_version: self.credentials_version.clone(),
            outcome: outcome.clone(),
        };
        let Some(status) = report.merge(&location.status.clone().unwrap_or_default(), Timestamp::now())
        else {
            return Ok(());
        };
        let version = location.resource_version().unwrap_or_default();
        let patch = init_status_patch(&self.location, &version, &status);
        let (params, patch) = apply(&patch);
        call(self.api.objects::<BackupLocation>().patch_status(&self.location, &params, &patch))
            .await
            .map(drop)
    }

    /// The annotation speaks of the specification as it is: a job that was overtaken by a change leaves it alone.
    async fn annotate(&self, initialised: bool) -> Result<(), ApiFailure> {
        let Some(location) = self.location().await? else { return Ok(()) };
        if location.metadata.generation.is_some_and(|now| now != self.generation) {
            return Ok(());
        }
        let patch = json!({
            "apiVersion": BackupLocation::api_version(&()),
            "kind": BackupLocation::kind(&()),
            "metadata": {
                "name": self.location,
                "resourceVersion": location.resource_version(),
                "annotations": { annotation::INITIALIZED: initialised.to_string() },
            },
        });
        let (params, patch) = apply(&patch);
        call(self.api.objects::<BackupLocation>().patch(&self.location, &params, &patch)).await.map(drop)
    }

    async fn create_event(&self, reason: EventReason, message: &str) -> Result<(), ApiFailure> {
        let Some(location) = self.location().await? else { return Ok(()) };
        let subject = EventSubject {
            kind: "BackupLocation",
            namespace: location.namespace().unwrap_or_default(),
            name: location.name_any(),
            uid: location.uid().unwrap_or_default(),
        };
        self.api.event(&subject, reason, &self.job_uid, message).await
    }

    /// The location as it is now. One that was deleted meanwhile has nobody to be told.
    async fn location(&self) -> Result<Option<BackupLocation>, ApiFailure> {
        let found = call(self.api.objects::<BackupLocation>().get_opt(&self.location)).await?;
        if found.is_none() {
            tracing::warn!(location = self.location, "the location is gone: nobody to report to");
        }
        Ok(found)
    }
}
