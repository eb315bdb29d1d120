//! `kubedrctl` with a cluster: how the backups stand, and a backup at once.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Run, case_with_operator, contains_all, seconds, until};
use serde_json::{Value, json};

fn kubedrctl(t: &Case, args: &[&str]) -> Result<Output> {
    let mut kubedrctl = Command::new(t.cluster().var("KUBEDRCTL"));
    kubedrctl.env_clear().env("KUBECONFIG", t.cluster().kubeconfig());
    kubedrctl.args(args).args(["--namespace", t.namespace()]).output().context("kubedrctl")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The status as a document, with this exit code.
fn status(t: &Case, code: i32) -> Result<Value> {
    let output = kubedrctl(t, &["status", "--output=json"])?;
    ensure!(output.status.code() == Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn the_status_tells_what_is_wrong_and_a_backup_now_is_one_like_any_other() {
    case_with_operator("ctl", &[], |t| {
        let nothing = status(t, 8)?;
        contains_all(&nothing["problems"].to_string(), &["nothing is backed up"])?;
        t.set_up(json!({}))?;
        let new = until("all is well", seconds(30), || status(t, 0))?;
        ensure!(new["policies"][0]["state"] == "new" && new["operator"] == "ready", "{new}");

        let output = kubedrctl(t, &["backup", "now", t.name(), "--wait", "--output=json"])?;
        ensure!(output.status.success(), "{}", text(&output.stderr));
        let done: Value = serde_json::from_slice(&output.stdout)?;
        let run = Run::of(t, done["job"].as_str().context("a Job")?)?;
        let told = t.policy_status()?;
        ensure!(
            told["lastRun"]["jobUID"] == run.uid.as_str() && done["record"]["name"] == told["mbrName"],
            "{done} {told}"
        );
        ensure!(t.only_event_of(&run)?.reason == "BackupSucceeded", "the event of the run");
        t.expect_stored(1)?;
        expect_kubectls_job(t, &run)?;

        let good = status(t, 0)?;
        ensure!(good["policies"][0]["state"] == "ok" && good["policies"][0]["records"] == 1, "{good}");
        ensure!(good["policies"][0]["nextRun"].is_string(), "{good}");

        t.apply_policy(json!({ "spec": { "etcdEndpoint": "https://127.0.0.1:1" } }))?;
        until("the CronJob follows", seconds(30), || {
            contains_all(&t.cron_job()?.to_string(), &["https://127.0.0.1:1"])
        })?;
        let output = kubedrctl(t, &["backup", "now", t.name(), "--wait"])?;
        ensure!(output.status.code() == Some(8), "{}", text(&output.stdout));
        contains_all(&text(&output.stderr), &["failed:", "https://127.0.0.1:1"])?;
        let bad = status(t, 8)?;
        ensure!(bad["policies"][0]["state"] == "failed", "{bad}");
        contains_all(&bad["policies"][0]["problems"].to_string(), &["https://127.0.0.1:1"])?;
        let screen = text(&kubedrctl(t, &["status"])?.stdout);
        contains_all(&screen, &["POLICY", "FAILED", "LOCATION", "operator: ready"])?;
        wrong_input(t)
    });
}

/// Labels, annotations, owner and specification are those that kubectl gives.
fn expect_kubectls_job(t: &Case, run: &Run) -> Result<()> {
    let from = format!("--from=cronjob/{}", t.cron_job_name());
    let wanted =
        ["--namespace", t.namespace(), "create", "job", "any", &from, "--dry-run=server", "--output=json"];
    let mut wanted: Value = serde_json::from_str(&t.cluster().kubectl(&wanted)?)?;
    let mut made = t.get("jobs", &run.job)?;
    for job in [&mut wanted, &mut made] {
        // The server's own: a number, and labels and selector with the Job's UID and name.
        for key in [
            "controller-uid",
            "job-name",
            "batch.kubernetes.io/controller-uid",
            "batch.kubernetes.io/job-name",
        ] {
            for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
                job.pointer_mut(labels).and_then(Value::as_object_mut).map(|all| all.remove(key));
            }
        }
        job["spec"]["selector"] = Value::Null;
    }
    ensure!(made["spec"] == wanted["spec"], "{} is not {}", made["spec"], wanted["spec"]);
    for part in ["labels", "annotations", "ownerReferences"] {
        let (made, wanted) = (&made["metadata"][part], &wanted["metadata"][part]);
        ensure!(made == wanted, "{part}: {made} is not {wanted}");
    }
    Ok(())
}

fn wrong_input(t: &Case) -> Result<()> {
    for (args, code, parts) in [
        (&["backup", "now", "nosuch"][..], 2, &["no policy `nosuch`", t.name()][..]),
        (&["status", "--context=nosuch"], 9, &["nosuch", "--kubeconfig"]),
    ] {
        let output = kubedrctl(t, args)?;
        ensure!(output.status.code() == Some(code), "{args:?}: {}", text(&output.stderr));
        contains_all(&text(&output.stderr), parts)?;
    }
    let mut plugin = kubedr_testing::command("kubectl");
    let target = std::path::Path::new(t.cluster().var("KUBEDRCTL")).parent().context("a directory")?;
    let path = format!("{}:{}", target.display(), std::env::var("PATH")?);
    plugin.env("PATH", path).env("KUBECONFIG", t.cluster().kubeconfig());
    let output = plugin.args(["kubedr", "status", "--namespace", t.namespace()]).output()?;
    ensure!(output.status.code() == Some(8), "kubectl kubedr: {}", text(&output.stderr));
    contains_all(&text(&output.stdout), &["FAILED"])
}
