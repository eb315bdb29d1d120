//! One test, with names of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context, Result, ensure};
use kubedr_testing::Restic;
use serde_json::{Value, json};

use crate::{
    ApiServer, Canary, Cluster, Event, Refused, Release, Run, evidence, resource, seconds, times::timed,
    until, volume,
};

/// One test: its names, its namespace, and what it can ask for.
///
/// Policy, location and bucket are named after the test; the Secret with the S3 keys is `<name>-s3`.
#[derive(Debug)]
pub struct Case {
    name: String,
    release: Release,
    cluster: &'static Cluster,
}

/// Runs a test beside others under the operator of [`crate::SHARED_NAMESPACE`].
pub fn case(name: &str, body: impl FnOnce(&Case) -> Result<()>) {
    let release = Release::shared().clone();
    conduct(&Case { name: unique(name), release, cluster: Cluster::get() }, body);
}

/// Runs a test in a namespace with a release of its own; `values` are arguments of Helm's `--set`.
pub fn case_with_operator(name: &str, values: &[&str], body: impl FnOnce(&Case) -> Result<()>) {
    let name = unique(name);
    let _crds = Release::shared();
    let release = Release::own(&name, values);
    conduct(&Case { name, release, cluster: Cluster::get() }, body);
}

/// Runs a test in a namespace of its own on a cluster without our CRDs and without a release; the test may install one, which brings
/// them. Nothing else that needs them may run beside it.
pub fn case_from_scratch(name: &str, body: impl FnOnce(&Case) -> Result<()>) {
    let name = unique(name);
    let release = Release::to_come(&name);
    conduct(&Case { name, release, cluster: Cluster::get() }, body);
}

/// A test may be run again on a cluster that was kept.
fn unique(name: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{name}-{:04x}", RandomState::new().hash_one(name) & 0xffff)
}

#[expect(clippy::panic, reason = "a panic is how a test fails")]
fn conduct(case: &Case, body: impl FnOnce(&Case) -> Result<()>) {
    let prepare = || timed("preparation", || case.prepare());
    let check = || timed("check of the repositories", || case.check_repositories());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        prepare().and_then(|()| timed("the test", || body(case))).and_then(|()| check())
    }));
    let leaks =
        timed("search for secrets", || Canary::new(case.cluster).and_then(|canary| canary.search(case)));
    if !matches!(outcome, Ok(Ok(()))) || leaks.is_err() {
        evidence::gather(case);
    }
    let cleaned = timed("cleaning up", || case.clean_up());
    match outcome {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(error)) => panic!("{}: {error:#}", case.name),
        Ok(Ok(())) => leaks.and(cleaned).unwrap_or_else(|error| panic!("{}: {error:#}", case.name)),
    }
}

impl Case {
    /// The name of policy, location and bucket.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace of everything in it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.release.namespace()
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// The API server.
    #[must_use]
    pub fn api(&self) -> &'static ApiServer {
        self.cluster.api()
    }

    /// The release whose operator serves this test.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    fn has_own_operator(&self) -> bool {
        self.release.namespace() == self.name
    }

    /// Whether something of this name belongs to this test.
    pub(crate) fn owns(&self, object: &Value) -> bool {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.has_own_operator()
            || name.starts_with(&self.name)
            || object["spec"]["policy"].as_str().is_some_and(|policy| policy.starts_with(&self.name))
    }

    /// Path of an object in this test's namespace.
    #[must_use]
    pub fn path(&self, plural: &str, name: &str) -> String {
        format!("{}/{name}", resource(self.namespace(), plural))
    }

    /// An object in this test's namespace.
    pub fn get(&self, plural: &str, name: &str) -> Result<Value> {
        self.api().get(&self.path(plural, name))
    }

    /// The objects of this kind that belong to this test.
    pub fn list(&self, plural: &str) -> Result<Vec<Value>> {
        let mut all = self.api().list(&resource(self.namespace(), plural), "")?;
        all.retain(|object| self.owns(object));
        Ok(all)
    }

    /// Merges a patch into an object.
    pub fn merge(&self, plural: &str, name: &str, patch: &Value) -> Result<Value> {
        self.api().merge(&self.path(plural, name), patch)
    }

    /// The repository's password. All passwords of a run begin with the one of `make -s env`, which [`Canary`] looks for.
    #[must_use]
    pub fn password(&self) -> String {
        format!("{}-{}", self.cluster.var("RESTIC_PASSWORD"), self.name)
    }

    /// Stock restic on this test's bucket.
    #[must_use]
    pub fn restic(&self) -> Restic {
        self.cluster.restic(&self.name, &self.password())
    }

    /// Creates or replaces a Secret.
    pub fn apply_secret(&self, name: &str, values: &Value) -> Result<()> {
        let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values });
        self.api().apply(&self.path("secrets", name), &object).map(drop)
    }

    /// The Secret with the right S3 keys and the password.
    pub fn apply_right_keys(&self) -> Result<()> {
        self.apply_secret(
            &format!("{}-s3", self.name),
            &json!({
                "access_key": self.cluster.var("AWS_ACCESS_KEY_ID"),
                "secret_key": self.cluster.var("AWS_SECRET_ACCESS_KEY"),
                "restic_repo_password": self.password(),
            }),
        )
    }

    /// Applies this test's location with these changes to it (RFC 7396).
    pub fn apply_location(&self, changes: Value) -> Result<Value> {
        let object = json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
            "kind": "BackupLocation",
            "metadata": { "name": self.name },
            "spec": {
                "url": self.cluster.var("S3_ENDPOINT"),
                "bucketName": self.name,
                "credentials": format!("{}-s3", self.name),
            },
        });
        self.apply_merged("backuplocations", object, changes)
    }

    /// Applies this test's policy with these changes to it. Its schedule is one that no test lives to see.
    pub fn apply_policy(&self, changes: Value) -> Result<Value> {
        let object = json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
            "kind": "MetadataBackupPolicy",
            "metadata": { "name": self.name },
            "spec": { "destination": self.name, "schedule": "0 0 29 2 *" },
        });
        self.apply_merged("metadatabackuppolicies", object, changes)
    }

    pub(crate) fn apply_merged(&self, plural: &str, mut object: Value, changes: Value) -> Result<Value> {
        merge(&mut object, changes);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.api().apply(&self.path(plural, &name), &object)
    }

    /// Waits until this test's location is initialised in its present form.
    pub fn await_initialised(&self) -> Result<Value> {
        until("the location is initialised", seconds(60), || {
            let location = self.get("backuplocations", &self.name)?;
            let (meta, status) = (&location["metadata"], &location["status"]);
            ensure!(status["initStatus"] == "Completed", "its status: {status}");
            ensure!(status["observedGeneration"] == meta["generation"], "an older one is");
            ensure!(condition(&location, "Ready")?["status"] == "True", "its status: {status}");
            Ok(location)
        })
    }

    /// Waits until the CronJob of this test's policy follows its present form.
    pub fn await_scheduled(&self) -> Result<Value> {
        until("the policy has its CronJob", seconds(60), || {
            let policy = self.get("metadatabackuppolicies", &self.name)?;
            let (meta, ready) = (&policy["metadata"], condition(&policy, "Ready")?);
            ensure!(ready["status"] == "True", "its condition: {ready}");
            ensure!(ready["observedGeneration"] == meta["generation"], "an older one has");
            self.cron_job()
        })
    }

    /// Name of the CronJob.
    #[must_use]
    pub fn cron_job_name(&self) -> String {
        format!("{}-backup-cronjob", self.name)
    }

    /// The CronJob.
    pub fn cron_job(&self) -> Result<Value> {
        self.get("cronjobs", &self.cron_job_name())
    }

    /// An initialised location, and a policy with these changes that has its CronJob.
    pub fn set_up(&self, policy: Value) -> Result<()> {
        self.apply_location(json!({}))?;
        self.apply_policy(policy)?;
        self.await_initialised()?;
        self.await_scheduled()?;
        Ok(())
    }

    /// The status of this test's policy.
    pub fn policy_status(&self) -> Result<Value> {
        Ok(self.get("metadatabackuppolicies", &self.name)?["status"].take())
    }

    /// The events on this test's policy or location.
    pub fn events(&self, kind: &str) -> Result<Vec<Event>> {
        self.events_on(kind, &self.name)
    }

    /// The events on an object in this test's namespace.
    pub fn events_on(&self, kind: &str, name: &str) -> Result<Vec<Event>> {
        let query = format!("fieldSelector=involvedObject.kind%3D{kind},involvedObject.name%3D{name}");
        let events = self.api().list(&resource(self.namespace(), "events"), &query)?;
        Ok(events.iter().map(Event::of).collect())
    }

    /// The records of this test's policy.
    pub fn records(&self) -> Result<Vec<Value>> {
        let mut all = self.api().list(&resource(self.namespace(), "metadatabackuprecords"), "")?;
        all.retain(|record| record["spec"]["policy"] == self.name.as_str());
        Ok(all)
    }

    /// Fails unless catalogue and bucket hold exactly so many backups.
    pub fn expect_stored(&self, backups: usize) -> Result<()> {
        self.expect_so_many(self.snapshots()?.len(), backups)
    }

    /// [`Case::expect_stored`] for a bucket elsewhere, as stock restic sees it.
    pub fn expect_stored_in(&self, restic: &Restic, backups: usize) -> Result<()> {
        self.expect_so_many(restic.json(&["snapshots"]).as_array().map_or(0, Vec::len), backups)
    }

    fn expect_so_many(&self, snapshots: usize, backups: usize) -> Result<()> {
        let records = self.records()?.len();
        ensure!(
            (records, snapshots) == (backups, backups),
            "{backups} backups expected: there are {records} records and {snapshots} snapshots"
        );
        Ok(())
    }

    /// Waits until the policy's status tells of the failure of this run, checks that the message has all `parts`, and that
    /// there is one event that says the same. The status must not have said anything of a success.
    pub fn expect_failed(&self, run: &Run, limit: std::time::Duration, parts: &[&str]) -> Result<String> {
        let message = until("the status says that the run failed", limit, || {
            let status = self.policy_status()?;
            ensure!(status["lastRun"]["jobUID"] == run.uid.as_str(), "it speaks of another run: {status}");
            ensure!(status["backupStatus"] == "Failed", "it says {status}");
            Ok(status["backupErrorMessage"].as_str().unwrap_or_default().to_owned())
        })?;
        contains_all(&message, parts)?;
        let event = until("the event", seconds(15), || self.only_event_of(run))?;
        ensure!(event.reason == "BackupFailed" && event.kind == "Warning", "the event: {event:?}");
        contains_all(&event.message, parts)?;
        Ok(message)
    }

    /// The one event that tells how this run ended.
    pub fn only_event_of(&self, run: &Run) -> Result<Event> {
        let mut events = self.events("MetadataBackupPolicy")?;
        // That it waited for a lock is no end.
        events.retain(|event| event.name.contains(&run.uid) && event.reason != "WaitingForLock");
        ensure!(events.len() == 1 && events[0].count == 1, "one event expected: {events:?}");
        events.pop().context("an event")
    }

    fn prepare(&self) -> Result<()> {
        if self.has_own_operator() {
            self.release.prepare()?;
        }
        self.apply_right_keys()
    }

    fn clean_up(&self) -> Result<()> {
        if self.has_own_operator() {
            // The hook takes its time; what it does is done here.
            self.cluster.helm(&["uninstall", "kubedr", "--namespace", &self.name, "--no-hooks"])?;
            self.delete_records()?;
            volume::clean_up(self)?;
            self.api().delete(&format!("/api/v1/namespaces/{}", self.name))?;
            return self.release.leave();
        }
        for plural in
            ["metadatabackuppolicies", "backuplocations", "metadatarestores", "secrets", "configmaps"]
        {
            for object in self.list(plural)? {
                self.api()
                    .delete(&self.path(plural, object["metadata"]["name"].as_str().unwrap_or_default()))?;
            }
        }
        self.delete_records()?;
        volume::clean_up(self)
    }

    /// Deletes the records of this test. Their finalizer goes after that, for there may be no operator left to take it off, and one
    /// that is there sets it again on records that stay.
    fn delete_records(&self) -> Result<()> {
        for record in self.list("metadatabackuprecords")? {
            let path =
                self.path("metadatabackuprecords", record["metadata"]["name"].as_str().unwrap_or_default());
            self.api().delete(&path)?;
            match self.api().merge(&path, &json!({ "metadata": { "finalizers": null } })) {
                Err(error) if error.downcast_ref::<Refused>().is_none_or(|refused| refused.code != 404) => {
                    return Err(error);
                }
                // Without a finalizer it was gone already.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Fails unless the text contains all parts.
pub fn contains_all(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "`{part}` is missing in: {text}");
    }
    Ok(())
}

/// A condition in an object's status.
pub fn condition(object: &Value, kind: &str) -> Result<Value> {
    let all =
        object["status"]["conditions"].as_array().with_context(|| format!("no conditions yet: {object}"))?;
    all.iter().find(|c| c["type"] == kind).cloned().with_context(|| format!("no condition {kind}: {all:?}"))
}

/// Merges a patch into a value as RFC 7396 says.
fn merge(value: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, change) in patch {
        if change.is_null() {
            value.as_object_mut().map(|object| object.remove(&key));
        } else {
            merge(&mut value[&key], change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_removes_and_the_rest_is_kept() {
        let mut value = json!({ "spec": { "a": 1, "b": 2 } });
        merge(&mut value, json!({ "spec": { "a": null, "c": { "d": 3 } } }));
        assert_eq!(value, json!({ "spec": { "b": 2, "c": { "d": 3 } } }));
    }
}
