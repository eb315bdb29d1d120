//! What a failed test leaves for the reader.

use std::fmt::Write;

use anyhow::Result;
use serde_json::Value;

use crate::canary::logs;
use crate::cluster::checkout;
use crate::{Case, resource};

const KINDS: [&str; 9] = [
    "backuplocations",
    "metadatabackuppolicies",
    "metadatabackuprecords",
    "metadatarestores",
    "persistentvolumeclaims",
    "cronjobs",
    "jobs",
    "pods",
    "configmaps",
];
/// Lines of a log in the test's own output; the file has all.
const TAIL: usize = 15;

/// Writes objects, events and logs to `target/e2e/<case>/`, and prints events, statuses and the ends of the logs.
#[expect(clippy::print_stderr, reason = "libtest shows this with the failed test")]
pub(crate) fn gather(case: &Case) {
    let dir = checkout().join("target/e2e").join(case.name());
    let mut summary = format!("evidence of {} is in {}\n", case.name(), dir.display());
    if let Err(error) = collect(case, &dir, &mut summary) {
        let _ = writeln!(summary, "it is incomplete: {error:#}");
    }
    eprintln!("{summary}");
}

fn collect(case: &Case, dir: &std::path::Path, summary: &mut String) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for kind in KINDS {
        let mut objects = case.list(kind)?;
        for object in &mut objects {
            object["metadata"]["managedFields"].take();
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match kind {
                "configmaps" | "cronjobs" => {}
                "jobs" => writeln!(summary, "{kind}/{name}: {}", object["status"]["conditions"])?,
                "pods" => {
                    let container = &object["status"]["containerStatuses"][0]["state"];
                    writeln!(summary, "{kind}/{name}: {} {container}", object["status"]["phase"])?;
                    keep_log(dir, &name, &logs(object), summary)?;
                }
                _ => writeln!(summary, "{kind}/{name}: {}", object["status"])?,
            }
        }
        std::fs::write(dir.join(format!("{kind}.json")), serde_json::to_vec_pretty(&objects)?)?;
    }
    for pod in case.release().operator_pods()? {
        let pod = case.get("pods", &pod)?;
        keep_log(dir, pod["metadata"]["name"].as_str().unwrap_or("operator"), &logs(&pod), summary)?;
    }
    keep_events(case, dir, summary)
}

fn keep_log(dir: &std::path::Path, pod: &str, log: &str, summary: &mut String) -> Result<()> {
    let lines: Vec<_> = log.lines().collect();
    writeln!(summary, "the end of the log of {pod}:")?;
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        writeln!(summary, "    {line}")?;
    }
    Ok(std::fs::write(dir.join(format!("{pod}.log")), log)?)
}

fn keep_events(case: &Case, dir: &std::path::Path, summary: &mut String) -> Result<()> {
    let mut events = case.api().list(&resource(case.namespace(), "events"), "")?;
    let subject = |event: &Value| event["involvedObject"]["name"].as_str().unwrap_or_default().to_owned();
    events.retain(|event| case.namespace() == case.name() || subject(event).starts_with(case.name()));
    events.sort_by_key(|event| event["metadata"]["creationTimestamp"].to_string());
    for event in &events {
        let (at, kind) = (&event["metadata"]["creationTimestamp"], &event["involvedObject"]["kind"]);
        writeln!(summary, "{at} {kind} {}: {} {}", subject(event), event["reason"], event["message"])?;
    }
    Ok(std::fs::write(dir.join("events.json"), serde_json::to_vec_pretty(&events)?)?)
}
