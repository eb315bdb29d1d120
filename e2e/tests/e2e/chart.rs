//! The chart: what it refuses, what it installs, and what an admin sees of it.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Cluster, Release, Run, case, contains_all, seconds, until};
use serde_json::json;

/// What Helm says against a rendering of the chart with these arguments.
fn refused(args: &[&str]) -> Result<String> {
    let chart = Release::chart();
    let output = Cluster::get().helm(&[&["template", "kubedr", &chart], args].concat())?;
    ensure!(!output.status.success(), "Helm took {args:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_chart_refuses_what_it_does_not_know() {
    let image = ["--set", "image.registry=registry.example.com"];
    for (value, part) in [
        ("oprator.replicas=2", "oprator"),
        ("operator.replcas=2", "replcas"),
        ("job.resources.limts.memory=1Gi", "limts"),
        ("operator.replicas=two", "replicas"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
    ] {
        let said = refused(&[&image[..], &["--set", value]].concat()).unwrap();
        contains_all(&said, &[part]).unwrap();
    }
    contains_all(&refused(&[]).unwrap(), &["make images push IMAGE_REGISTRY="]).unwrap();
}

#[test]
fn the_operator_is_restricted_and_its_endpoints_answer() {
    case("restricted", |t| {
        let pod = t.release().operator_pods()?.pop().context("no operator")?;
        let spec = t.get("pods", &pod)?["spec"].take();
        let container = &spec["containers"][0];
        let (of_pod, own) = (&spec["securityContext"], &container["securityContext"]);
        contains_all(&format!("{of_pod}{own}"), &["\"runAsNonRoot\":true", "RuntimeDefault"])?;
        ensure!(own["readOnlyRootFilesystem"] == true && own["allowPrivilegeEscalation"] == false, "{own}");
        ensure!(
            own["capabilities"]["drop"] == json!(["ALL"]) && own["capabilities"]["add"].is_null(),
            "{own}"
        );
        ensure!(
            spec["hostNetwork"] != true && spec["volumes"].to_string().find("hostPath").is_none(),
            "{spec}"
        );
        let deployment = t.get("deployments", "kubedr-operator")?;
        ensure!(deployment["spec"]["replicas"] == 1, "{}", deployment["spec"]);
        for (path, part) in [("metrics", "kubedr_"), ("livez", ""), ("readyz", "")] {
            let path = t.path("services", &format!("kubedr-operator:metrics/proxy/{path}"));
            // On a machine that is too busy to renew a lease the operator may just be starting again.
            until("the endpoint answers", seconds(30), || contains_all(&t.api().text(&path)?, &[part]))?;
        }
        Ok(())
    });
}

#[test]
fn helm_test_starts_both_images() {
    case("helm-test", |t| {
        let output = t.cluster().helm(&["test", "kubedr", "--namespace", t.namespace(), "--timeout=60s"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    });
}

#[test]
fn kubectl_get_kubedr_answers_whether_it_works() {
    case("columns", |t| {
        t.set_up(json!({}))?;
        Run::succeed(t, "a")?;
        t.apply_restore(&restore(t))?;
        until("the restore is answered", seconds(30), || {
            let status = t.get("metadatarestores", t.name())?["status"].take();
            ensure!(status["restoreStatus"] == "Failed", "{status}");
            contains_all(
                status["restoreErrorMessage"].as_str().unwrap_or_default(),
                &["no MetadataBackupRecord `mbr-01234567`", "kubectl get mbr"],
            )
        })?;
        let events = until("the event", seconds(15), || {
            let events = t.events("MetadataRestore")?;
            ensure!(!events.is_empty(), "none");
            Ok(events)
        })?;
        ensure!(events.len() == 1 && events[0].reason == "RestoreFailed", "{events:?}");
        let shown = t.cluster().kubectl(&["--namespace", t.namespace(), "get", "kubedr"])?;
        let record = t.policy_status()?["mbrName"].as_str().context("no record")?.to_owned();
        let line = |of: &str| -> Result<String> {
            let line = shown.lines().find(|line| line.starts_with(of));
            Ok(line.with_context(|| format!("no line of {of}: {shown}"))?.to_owned())
        };
        contains_all(
            &line(&format!("backuplocation.kubedr.catalogicsoftware.com/{}", t.name()))?,
            &["True", "Completed"],
        )?;
        let policy = line(&format!("metadatabackuppolicy.kubedr.catalogicsoftware.com/{}", t.name()))?;
        contains_all(&policy, &["True", "Completed", &record, "0 0 29 2 *"])?;
        contains_all(
            &line(&format!("metadatabackuprecord.kubedr.catalogicsoftware.com/{record}"))?,
            &[t.name()],
        )?;
        contains_all(
            &line(&format!("metadatarestore.kubedr.catalogicsoftware.com/{}", t.name()))?,
            &["Failed"],
        )?;
        for short in ["bl", "mbp", "mbr", "mrs"] {
            t.cluster().kubectl(&["--namespace", t.namespace(), "get", short])?;
        }
        Ok(())
    });
}

fn restore(t: &Case) -> serde_json::Value {
    json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
        "kind": "MetadataRestore",
        "metadata": { "name": t.name() },
        "spec": { "mbrName": "mbr-01234567", "pvcName": "none" },
    })
}
