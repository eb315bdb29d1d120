//! A namespace that does not admit what the operator makes. The one long wait is for a second try; hence the early name.

use anyhow::ensure;
use kubedr_e2e::{Run, case_with_operator, contains_all, seconds, until};
use serde_json::json;

#[test]
fn pods_that_the_namespace_does_not_admit_are_told() {
    case_with_operator("not-admitted", &[], |t| {
        t.set_up(json!({}))?;
        let namespace = format!("/api/v1/namespaces/{}", t.namespace());
        let level = |level: &str| json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
        t.api().merge(&namespace, &level("baseline"))?;
        let run = Run::start(t, "a")?;
        t.expect_failed(&run, seconds(40), &["PodSecurity", "pod-security.kubernetes.io/enforce"])?;
        t.expect_stored(0)?;
        t.api().merge(&namespace, &level("privileged"))?;

        let quota = json!({
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": { "name": "none" },
            "spec": { "hard": { "count/cronjobs.batch": "0" } },
        });
        t.api().apply(&t.path("resourcequotas", "none"), &quota)?;
        until("the quota is in force", seconds(20), || {
            let used = t.get("resourcequotas", "none")?;
            ensure!(used["status"]["used"]["count/cronjobs.batch"] == "1", "{used}");
            Ok(())
        })?;
        t.api().delete(&t.path("cronjobs", &t.cron_job_name()))?;
        let refused = until("the policy says that its CronJob is refused", seconds(30), || {
            let ready = kubedr_e2e::condition(&t.get("metadatabackuppolicies", t.name())?, "Ready")?;
            ensure!(ready["status"] == "False" && ready["reason"] == "CronJobRefused", "{ready}");
            Ok(ready["message"].to_string())
        })?;
        contains_all(&refused, &["quota"])?;
        until("the event", seconds(15), || {
            let events = t.events("MetadataBackupPolicy")?;
            ensure!(
                events.iter().any(|e| e.reason == "NotReady" && e.message.contains("quota")),
                "{events:?}"
            );
            Ok(())
        })?;
        t.api().delete(&t.path("resourcequotas", "none"))?;
        until("the CronJob is made", seconds(120), || t.cron_job().map(drop))
    });
}
