//! Metrics and alerts, in a real Prometheus that watches a real operator.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Prometheus, Run, case_with_operator, dashboard_queries, seconds, until};
use serde_json::json;

/// KubeDR's five, as its users' queries spell them; of the histogram its count.
const FIVE: [&str; 5] = [
    "kubedr_backup_size_bytes",
    "kubedr_num_backups",
    "kubedr_num_successful_backups",
    "kubedr_num_failed_backups",
    "kubedr_backup_duration_seconds_count",
];

/// One metric of the case's policy.
fn of_policy(t: &Case, metric: &str) -> String {
    format!("{metric}{{policyName=\"{}\"}}", t.name())
}

/// Waits until the five are these.
fn expect_five(t: &Case, prometheus: &Prometheus, values: [f64; 5]) -> Result<()> {
    for (metric, value) in FIVE.iter().zip(values) {
        prometheus.await_value(&of_policy(t, metric), value)?;
    }
    Ok(())
}

/// A run that fails within seconds, since its Secret is not there.
fn fail(t: &Case, suffix: &str) -> Result<()> {
    let creds = |name: &str| {
        t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "etcdCreds": name } }))?;
        until("the CronJob follows", seconds(30), || {
            let spec = t.cron_job()?["spec"].to_string();
            ensure!(spec.contains(&format!("\"{name}\"")), "{spec}");
            Ok(())
        })
    };
    creds("no-such-secret")?;
    let run = Run::start(t, suffix)?;
    t.expect_failed(&run, seconds(60), &["no-such-secret"])?;
    creds("etcd-creds")
}

/// Pauses the policy or resumes it, and waits until the operator has noted since when.
fn suspend(t: &Case, suspend: bool) -> Result<()> {
    t.merge("metadatabackuppolicies", t.name(), &json!({ "spec": { "suspend": suspend } }))?;
    until("the operator has seen it", seconds(30), || {
        let active = t.policy_status()?["activeSchedule"].take();
        ensure!(active["suspend"] == suspend, "{active}");
        Ok(())
    })
}

#[test]
fn prometheus_sees_every_backup_once_and_the_alerts_fire_and_end() {
    case_with_operator("monitored", &[], |t| {
        let prometheus = Prometheus::watch(t)?;
        t.set_up(json!({}))?;
        expect_five(t, &prometheus, [0.0; 5])?;

        let (_, status) = Run::succeed(t, "a")?;
        let size = status["dataAdded"].as_f64().context("a size")?;
        expect_five(t, &prometheus, [size, 1.0, 1.0, 0.0, 1.0])?;
        prometheus.await_alerts(&[])?;

        fail(t, "b")?;
        expect_five(t, &prometheus, [size, 2.0, 1.0, 1.0, 1.0])?;
        prometheus.await_alerts(&["KubedrBackupFailed"])?;

        // Whoever pauses the policy knows.
        suspend(t, true)?;
        prometheus.await_alerts(&[])?;
        suspend(t, false)?;
        prometheus.await_alerts(&["KubedrBackupFailed"])?;

        // A schedule that is in force for years, whose last 29 February passed without a backup.
        let long_ago = json!({ "activeSchedule": { "since": "2020-01-01T00:00:00Z" },
            "lastRun": { "startTime": "2020-01-01T00:00:00Z" } });
        t.api().merge(
            &format!("{}/status", t.path("metadatabackuppolicies", t.name())),
            &json!({ "status": long_ago }),
        )?;
        prometheus.await_alerts(&["KubedrBackupFailed", "KubedrBackupOverdue"])?;

        // What another operator finds is what the last one left.
        let pod = t.release().operator_pods()?.pop().context("an operator")?;
        t.api().delete(&t.path("pods", &pod))?;
        until("another operator leads", seconds(60), || {
            let lease = t.get("leases", "kubedr-operator")?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            ensure!(!holder.is_empty() && !holder.contains(&pod), "`{holder}` does");
            Ok(())
        })?;
        expect_five(t, &prometheus, [size, 2.0, 1.0, 1.0, 1.0])?;

        let (_, status) = Run::succeed(t, "c")?;
        let size = status["dataAdded"].as_f64().context("a size")?;
        expect_five(t, &prometheus, [size, 3.0, 2.0, 1.0, 2.0])?;
        prometheus.await_alerts(&[])?;
        for counter in &FIVE[1..] {
            let resets = prometheus.value(&format!("resets({}[10m])", of_policy(t, counter)))?;
            ensure!(resets == 0.0, "{counter} fell {resets} times");
        }
        late_check(t, &prometheus)?;
        for (panel, query) in dashboard_queries(t.namespace())? {
            until(&format!("the panel `{panel}` has data"), seconds(15), || {
                let found = prometheus.query(&query)?;
                let has_data = !found.is_empty() && found.iter().all(|sample| sample.value.is_finite());
                ensure!(has_data, "`{query}` gives {found:?}");
                Ok(())
            })?;
        }

        t.api().delete(&t.path("metadatabackuppolicies", t.name()))?;
        until("the series of the policy are gone", seconds(30), || {
            let left = prometheus.query(&format!("{{policyName=\"{}\"}}", t.name()))?;
            ensure!(left.is_empty(), "{} are left", left.len());
            Ok(())
        })
    });
}

/// A repository that was found damaged long ago and not checked since: the operator has it checked, and it is well.
fn late_check(t: &Case, prometheus: &Prometheus) -> Result<()> {
    let check = json!({ "time": "2020-01-01T00:00:00Z", "result": "Failed", "message": "a pack is missing" });
    t.api().merge(
        &format!("{}/status", t.path("backuplocations", t.name())),
        &json!({ "status": { "lastCheck": check } }),
    )?;
    for alert in ["KubedrRepositoryDamaged", "KubedrRepositoryNotChecked"] {
        // The check that ends it is under way already.
        until(&format!("{alert} has fired"), seconds(30), || {
            let fired = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}[10m]");
            prometheus.value(&format!("count_over_time({fired})"))
        })?;
    }
    until("the repository is checked", seconds(90), || {
        let status = t.get("backuplocations", t.name())?["status"].take();
        ensure!(status["lastCheck"]["result"] == "Passed", "{}", status["lastCheck"]);
        Ok(())
    })?;
    prometheus.await_alerts(&[])
}
