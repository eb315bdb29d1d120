//! `backup now`.

mod look;

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use jiff::Timestamp;
use k8s_openapi::{
    api::batch::v1::{CronJob, Job},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
};
use kubedr_api::{
    ConditionType, MetadataBackupPolicy, MetadataBackupPolicyStatus, MetadataBackupRecord,
    names::cron_job_name,
};
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    args::BackupNowArgs,
    cluster::{Cluster, code},
    failure::Failure,
    progress::Progress,
    terminal::plain,
};
use look::{Look, look};

/// What `kubectl create job --from` notes on its Jobs.
const MANUAL: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");
/// Between two looks at a backup that runs.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long an API server that does not answer is asked again.
const AWAY: Duration = Duration::from_mins(2);
/// For how long the operator may take to tell why a Job failed whose pod could not.
const REPORT: Duration = Duration::from_secs(30);

/// Takes a backup at once, and waits for its end if that is wanted.
pub async fn backup_now(args: &BackupNowArgs) -> Result<Answer, Failure> {
    let BackupNowArgs { cluster, policy, wait, timeout } = args;
    let progress = Progress::begin("starting the backup");
    let cluster = Cluster::connect(cluster).await?;
    let job = start(&cluster, policy).await?;
    if *wait {
        let patience = Patience { end: *timeout, report: REPORT };
        return await_end(&cluster, policy, &job, patience, &progress).await;
    }
    let (namespace, name) = (&cluster.namespace, job.name_any());
    let text = format!(
        "started job {name}; `kubectl -n {namespace} get metadatabackuppolicy {policy}` tells how it ends, or give `--wait`\n"
    );
    Answer::new(text, &json!({ "policy": policy, "namespace": namespace, "job": name }))
}

async fn start(cluster: &Cluster, policy: &str) -> Result<Job, Failure> {
    let name = cron_job_name(policy);
    let cron_job = match cluster.api::<CronJob>().get_opt(&name).await {
        Ok(Some(cron_job)) => cron_job,
        Ok(None) => return Err(why_there_is_none(cluster, policy).await?),
        Err(error) => return Err(cluster.failed(&format!("read the CronJob `{name}`"), &error)),
    };
    let job = job(&cron_job, policy, Timestamp::now());
    let created = cluster.api::<Job>().create(&PostParams::default(), &job).await;
    created.map_err(|error| cluster.failed(&format!("create the Job `{}`", job.name_any()), &error))
}

/// Why a policy has no CronJob.
async fn why_there_is_none(cluster: &Cluster, policy: &str) -> Result<Failure, Failure> {
    let policies = cluster.dynamic::<MetadataBackupPolicy>().list(&ListParams::default()).await;
    let policies = policies.map_err(|error| cluster.failed("list policies", &error))?.items;
    let namespace = &cluster.namespace;
    let Some(found) = policies.iter().find(|object| object.name_any() == policy) else {
        let names: Vec<_> = policies.iter().map(|object| format!("`{}`", object.name_any())).collect();
        let names = if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there is {}", names.join(", "))
        };
        return Ok(Failure::Configuration(format!(
            "no policy `{policy}` in namespace `{namespace}`: {names}"
        )));
    };
    let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == ConditionType::Ready.as_str());
    let reason = ready.and_then(|ready| ready["message"].as_str());
    let reason = reason.unwrap_or("the operator has not looked at it: look whether it runs");
    Ok(Failure::Unhealthy(format!(
        "the policy `{policy}` in namespace `{namespace}` has no CronJob yet: {reason}"
    )))
}

/// The Job that `kubectl create job --from=cronjob/…` would make, named after policy and time.
fn job(cron_job: &CronJob, policy: &str, now: Timestamp) -> Job {
    let template = cron_job.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let template_meta = template.metadata.unwrap_or_default();
    let mut annotations = template_meta.annotations.unwrap_or_default();
    annotations.insert(MANUAL.0.to_owned(), MANUAL.1.to_owned());
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{policy}-now-{}", now.strftime("%Y%m%d%H%M%S%3f"))),
            annotations: Some(annotations),
            labels: template_meta.labels,
            // As its controller, so that the CronJob's history counts it, and without blocking its deletion: as kubectl does.
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "CronJob".to_owned(),
                name: cron_job.name_any(),
                uid: cron_job.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// For how long a backup is waited for.
struct Patience {
    /// For its end.
    end: Duration,
    /// For somebody to tell why it failed.
    report: Duration,
}

async fn await_end(
    cluster: &Cluster,
    policy: &str,
    job: &Job,
    patience: Patience,
    progress: &Progress,
) -> Result<Answer, Failure> {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    progress.say(format!("job {name} runs"));
    let (begun, mut answered, mut told) = (Instant::now(), Instant::now(), None);
    let mut failed_since = None;
    loop {
        match ask(cluster, policy, &name).await {
            Err(error) if code(&error).is_some_and(|code| code < 500) || answered.elapsed() > AWAY => {
                return Err(cluster.failed(&format!("look after the Job `{name}`"), &error));
            }
            Err(_) => {}
            Ok((status, job)) => {
                answered = Instant::now();
                match look(&uid, &status, job.as_ref()) {
                    Look::Completed(record) => {
                        return completed(cluster, policy, &name, record, &status).await;
                    }
                    Look::Failed(message) => {
                        return Err(Failure::Unhealthy(format!(
                            "the backup of job `{name}` failed: {message}"
                        )));
                    }
                    Look::Running(Some(message)) if told.as_ref() != Some(&message) => {
                        tracing::warn!("the backup of job `{name}` cannot begin: {}", plain(&message));
                        told = Some(message);
                    }
                    Look::Running(_) => {}
                    Look::Unreported(words) => {
                        if failed_since.get_or_insert_with(Instant::now).elapsed() > patience.report {
                            return Err(unreported(&name, &words, &cluster.namespace));
                        }
                    }
                    Look::Overtaken(words) => {
                        return Err(overtaken(policy, &name, &words, &cluster.namespace));
                    }
                }
            }
        }
        if failed_since.is_none() && begun.elapsed() > patience.end {
            return Err(Failure::Unhealthy(format!(
                "job `{name}` has not ended within {} s; it goes on: `kubectl -n {} logs -f job/{name}`",
                patience.end.as_secs(),
                cluster.namespace
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What it means that a Job has failed and nobody says why.
fn unreported(job: &str, words: &str, namespace: &str) -> Failure {
    Failure::Unhealthy(format!(
        "job `{job}` has failed ({}), and nobody has said why: look whether the operator runs; `kubectl -n {namespace} describe \
         job/{job}` and `kubectl -n {namespace} logs job/{job}` tell what there is to know",
        plain(words)
    ))
}

/// What it means that a Job has failed and a later run has reported since: it may have stored its backup all the same.
fn overtaken(policy: &str, job: &str, words: &str, namespace: &str) -> Failure {
    Failure::Unhealthy(format!(
        "job `{job}` has failed ({}), and another run has reported since: `kubectl -n {namespace} get events --field-selector \
         involvedObject.name={policy}` tells what became of this one",
        plain(words)
    ))
}

async fn ask(
    cluster: &Cluster,
    policy: &str,
    job: &str,
) -> Result<(MetadataBackupPolicyStatus, Option<Job>), kube::Error> {
    // The Job first: a report that came in between is then seen.
    let job = cluster.api::<Job>().get_opt(job).await?;
    let policy = cluster.api::<MetadataBackupPolicy>().get(policy).await?;
    Ok((policy.status.unwrap_or_default(), job))
}

async fn completed(
    cluster: &Cluster,
    policy: &str,
    job: &str,
    record: Option<String>,
    status: &MetadataBackupPolicyStatus,
) -> Result<Answer, Failure> {
    let namespace = &cluster.namespace;
    let mut document = json!({ "policy": policy, "namespace": namespace, "job": job, "record": Value::Null });
    let Some(name) = record else {
        let text = format!(
            "job {job} has completed its backup; a later one has reported since: `kubectl -n {namespace} get \
             metadatabackuprecords` shows both\n"
        );
        return Answer::new(text, &document);
    };
    let record = cluster.api::<MetadataBackupRecord>().get_opt(&name).await;
    let record = record.map_err(|error| cluster.failed(&format!("read the record `{name}`"), &error))?;
    let details = record.map(|record| (record.spec, record.status.unwrap_or_default()));
    if let Some((spec, of_record)) = &details {
        document["record"] = json!({
            "name": name,
            "location": spec.backuploc,
            "snapshotId": of_record.snapshot_id.as_ref().unwrap_or(&spec.snapshot_id),
            "backupTime": of_record.backup_time,
            "totalBytesProcessed": of_record.total_bytes_processed,
            "certificates": of_record.certificates,
        });
    }
    let bytes = u64::try_from(status.total_bytes_processed).unwrap_or_default();
    let added = u64::try_from(status.data_added).unwrap_or_default();
    let location = details.map(|(spec, _)| format!(" in {}", spec.backuploc)).unwrap_or_default();
    let text = format!(
        "completed {name}{location}: {}, newly stored {}, in {} s\n",
        ByteSize(bytes),
        ByteSize(added),
        status
            .total_duration_secs
            .as_deref()
            .map_or("?", |text| text.split_once('.').map_or(text, |(whole, _)| whole))
    );
    Answer::new(text, &document)
}

#[cfg(test)]
mod tests {
    use kubedr_testing::FakeApi;

    use super::*;

    const POLICY: &str =
        "/apis/kubedr.catalogicsoftware.com/v1alpha1/namespaces/ns/metadatabackuppolicies/nightly";
    const CRON_JOB: &str = "/apis/batch/v1/namespaces/ns/cronjobs/nightly-backup-cronjob";
    const JOBS: &str = "/apis/batch/v1/namespaces/ns/jobs";

    fn cron_job() -> Value {
        json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": { "name": "nightly-backup-cronjob", "uid": "cron-uid", "annotations": { "of": "the CronJob" } },
            "spec": {
                "schedule": "0 1 * * *",
                "jobTemplate": {
                    "metadata": { "labels": { "kubedr.type": "backup" }, "annotations": { "a": "b" } },
                    "spec": { "backoffLimit": 0, "template": { "spec": { "containers": [], "restartPolicy": "Never" } } },
                },
            },
        })
    }

    #[test]
    fn the_job_is_the_one_that_kubectl_would_make() {
        let cron_job = serde_json::from_value(cron_job()).unwrap();
        let job = job(&cron_job, "nightly", "2026-03-02T12:00:05.25Z".parse().unwrap());
        assert_eq!(
            serde_json::to_value(job).unwrap(),
            json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "name": "nightly-now-20260302120005250",
                    "labels": { "kubedr.type": "backup" },
                    "annotations": { "a": "b", "cronjob.kubernetes.io/instantiate": "manual" },
                    "ownerReferences": [
                        {
                            "apiVersion": "batch/v1",
                            "kind": "CronJob",
                            "name": "nightly-backup-cronjob",
                            "uid": "cron-uid",
                            "controller": true,
                        },
                    ],
                },
                "spec": { "backoffLimit": 0, "template": { "spec": { "containers": [], "restartPolicy": "Never" } } },
            })
        );
    }

    #[test]
    fn the_longest_policy_name_gives_a_job_name_that_kubernetes_takes() {
        let cron_job = serde_json::from_value(cron_job()).unwrap();
        let name =
            job(&cron_job, &"p".repeat(kubedr_api::names::POLICY_NAME_MAX), Timestamp::now()).name_any();
        assert!(name.len() <= 63, "{name}");
    }

    #[tokio::test]
    async fn a_backup_is_started_from_the_cron_job_of_its_policy() {
        let api = FakeApi::default();
        api.put(CRON_JOB, cron_job());
        let cluster = Cluster::new(api.client(), "ns");
        let job = start(&cluster, "nightly").await.unwrap();
        let made = api.all(JOBS);
        assert_eq!((made.len(), made[0]["metadata"]["name"].as_str()), (1, job.metadata.name.as_deref()));
    }

    #[tokio::test]
    async fn a_job_that_failed_without_a_report_is_a_failed_backup_and_does_not_go_on() {
        let api = FakeApi::default();
        let job = json!({
            "metadata": { "name": "nightly-now-1", "uid": "ours" },
            "status": {
                "startTime": "2026-03-02T12:00:00Z",
                "conditions": [{ "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" }],
            },
        });
        api.put(&format!("{JOBS}/nightly-now-1"), job.clone());
        let policy = json!({ "metadata": { "name": "nightly" }, "spec": { "destination": "s3", "schedule": "@hourly" } });
        api.put(POLICY, policy.clone());
        let (cluster, job) = (Cluster::new(api.client(), "ns"), serde_json::from_value(job).unwrap());
        let end = async || {
            let patience = Patience { end: Duration::ZERO, report: Duration::ZERO };
            await_end(&cluster, "nightly", &job, patience, &Progress::begin("")).await.unwrap_err()
        };
        let failure = end().await;
        assert_eq!(failure.exit_code(), 8);
        let said = failure.to_string();
        assert!(said.starts_with("job `nightly-now-1` has failed (DeadlineExceeded: too long)"), "{said}");
        assert!(
            said.contains("`kubectl -n ns describe job/nightly-now-1`") && !said.contains("goes on"),
            "{said}"
        );

        let mut later = policy;
        later["status"] = json!({
            "backupStatus": "Completed",
            "lastRun": { "jobName": "j", "jobUID": "another", "startTime": "2026-03-02T13:00:00Z" },
        });
        api.put(POLICY, later);
        let failure = end().await;
        assert_eq!(failure.exit_code(), 8);
        let said = failure.to_string();
        assert!(
            said.contains("another run has reported since")
                && said.contains("`kubectl -n ns get events --field-selector involvedObject.name=nightly`"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_policy_that_is_not_there_is_told_with_those_that_are() {
        let api = FakeApi::default();
        let cluster = Cluster::new(api.client(), "ns");
        api.put(
            POLICY,
            json!({
                "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
                "kind": "MetadataBackupPolicy",
                "metadata": { "name": "nightly" },
                "spec": {},
                "status": { "conditions": [{ "type": "Ready", "status": "False", "message": "no BackupLocation `s3`" }] },
            }),
        );
        let failure = start(&cluster, "daily").await.unwrap_err();
        assert_eq!(failure.to_string(), "no policy `daily` in namespace `ns`: there is `nightly`");
        assert_eq!(failure.exit_code(), 2);
        let failure = start(&cluster, "nightly").await.unwrap_err();
        assert!(failure.to_string().ends_with("has no CronJob yet: no BackupLocation `s3`"), "{failure}");
        assert_eq!(failure.exit_code(), 8);
    }
}
