//! Restores onto volumes.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Case, Event, contains_all, resource, seconds, until};

const RESTORES: &str = "metadatarestores";
/// Annotation of a restore whose data is on the volume.
const RESTORED: &str = "restored.annotations.kubedr.catalogicsoftware.com";

impl Case {
    /// Applies the restore `<case>-<suffix>` of a record onto a claim, with these changes to it (RFC 7396); gives back its name.
    pub fn start_restore(&self, suffix: &str, record: &str, claim: &str, changes: Value) -> Result<String> {
        let name = format!("{}-{suffix}", self.name());
        let object = json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
            "kind": "MetadataRestore",
            "metadata": { "name": name },
            "spec": { "mbrName": record, "pvcName": claim },
        });
        self.apply_merged(RESTORES, object, changes)?;
        Ok(name)
    }

    /// Applies a restore.
    pub fn apply_restore(&self, object: &Value) -> Result<Value> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.api().apply(&self.path(RESTORES, name), object)
    }

    /// The restores of this test.
    pub fn restores(&self) -> Result<Vec<Value>> {
        self.list(RESTORES)
    }

    /// The status of a restore.
    pub fn restore_status(&self, name: &str) -> Result<Value> {
        Ok(self.get(RESTORES, name)?["status"].take())
    }

    /// Waits until a restore in its present form is `Completed` or `Failed`, and gives it back.
    pub fn await_restore(&self, name: &str) -> Result<Value> {
        until("the restore ends", seconds(120), || {
            let restore = self.get(RESTORES, name)?;
            let (meta, status) = (&restore["metadata"], &restore["status"]);
            let outcome = status["restoreStatus"].as_str().unwrap_or_default();
            ensure!(matches!(outcome, "Completed" | "Failed"), "its status: {status}");
            ensure!(status["observedGeneration"] == meta["generation"], "an older one has: {status}");
            Ok(restore)
        })
    }

    /// Waits for the end of a restore, which must be a success and be told once; gives it back.
    pub fn expect_restored(&self, name: &str) -> Result<Value> {
        let restore = self.await_restore(name)?;
        let status = &restore["status"];
        ensure!(status["restoreStatus"] == "Completed", "{status}");
        ensure!(status["restoreErrorMessage"].as_str().unwrap_or_default().is_empty(), "{status}");
        status["restoreTime"].as_str().context("no time")?.parse::<Timestamp>()?;
        let annotations = &restore["metadata"]["annotations"];
        ensure!(annotations[RESTORED] == "true", "its annotations: {annotations}");
        let record = restore["spec"]["mbrName"].as_str().unwrap_or_default();
        let record = self.get("metadatabackuprecords", record)?;
        let snapshot = record["spec"]["snapshotId"].as_str().context("a snapshot")?;
        let event = until("the event", seconds(15), || self.only_event_of_restore(name, "RestoreSucceeded"))?;
        ensure!(event.kind == "Normal", "{event:?}");
        ensure!(event.message == format!("Restore from snapshot {snapshot} completed"), "{event:?}");
        Ok(restore)
    }

    /// Waits for the end of a restore, which must be a failure whose message has all `parts`; the event must say the same, once.
    pub fn expect_restore_failed(&self, name: &str, parts: &[&str]) -> Result<String> {
        let restore = self.await_restore(name)?;
        let status = &restore["status"];
        ensure!(status["restoreStatus"] == "Failed", "{status}");
        status["restoreTime"].as_str().context("no time")?.parse::<Timestamp>()?;
        let message = status["restoreErrorMessage"].as_str().context("no message")?.to_owned();
        contains_all(&message, parts)?;
        let annotations = &restore["metadata"]["annotations"];
        ensure!(annotations[RESTORED] != "true", "its annotations: {annotations}");
        let event = until("the event", seconds(15), || self.only_event_of_restore(name, "RestoreFailed"))?;
        ensure!(event.kind == "Warning", "{event:?}");
        contains_all(&event.message, parts)?;
        Ok(message)
    }

    /// The events on a restore.
    pub fn restore_events(&self, name: &str) -> Result<Vec<Event>> {
        self.events_on("MetadataRestore", name)
    }

    /// The one event that tells how a restore ended; it has this reason.
    fn only_event_of_restore(&self, name: &str, reason: &str) -> Result<Event> {
        let mut events = self.restore_events(name)?;
        events.retain(|event| matches!(event.reason.as_str(), "RestoreSucceeded" | "RestoreFailed"));
        ensure!(events.len() == 1 && events[0].count == 1, "one event expected: {events:?}");
        let event = events.pop().context("an event")?;
        ensure!(event.reason == reason, "{event:?}");
        Ok(event)
    }

    /// The pods of a restore, by the labels that an admin's scripts look for and by the Job that the restore owns.
    pub fn restore_pods(&self, name: &str) -> Result<Vec<Value>> {
        let restore = self.get(RESTORES, name)?;
        let record = restore["spec"]["mbrName"].as_str().unwrap_or_default();
        let jobs = self.api().list(&resource(self.namespace(), "jobs"), "")?;
        let of_restore = |object: &Value, owner: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| owners.iter().any(|o| o["uid"] == owner["metadata"]["uid"]))
        };
        let query = format!("labelSelector=kubedr.type%3Drestore,kubedr.restore-mbr%3D{record}");
        let mut pods = self.api().list(&resource(self.namespace(), "pods"), &query)?;
        pods.retain(|pod| jobs.iter().any(|job| of_restore(job, &restore) && of_restore(pod, job)));
        Ok(pods)
    }

    /// The pod of a restore; never more than one, since a restore is not tried again.
    pub fn restore_pod(&self, name: &str) -> Result<Value> {
        let mut pods = self.restore_pods(name)?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        pods.pop().context("a pod")
    }
}
