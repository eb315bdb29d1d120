//! An upgrade from the first chart of this project, which is kept packaged, to today's.

use std::path::Path;

use anyhow::{Result, ensure};
use kubedr_e2e::{Case, Release, Run, case_from_scratch, seconds, until};
use serde_json::json;

use crate::alone;

/// The chart as it was when it first backed up a cluster: no retention, no restores, no finalizer on records.
const FIRST: &str = "charts/kubedr-0.1.0-first.tgz";

/// The first chart with today's images, and what it left: a location, a policy with its CronJob, a backup with its record.
///
/// Today's operator lacks the rights for much of what it does now; it is not waited for.
fn leave_the_first_release(t: &Case) -> Result<String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIRST).display().to_string();
    let images = Release::images();
    let mut args = vec!["install", "kubedr", &chart, "--namespace", t.namespace()];
    args.extend(images.iter().map(String::as_str));
    let installed = t.cluster().helm(&args)?;
    ensure!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    until("the CRDs are served", seconds(30), || t.list("metadatabackuprecords"))?;

    let snapshot = t.back_up_as_kubedr(2)?;
    t.apply_location(json!({ "metadata": { "annotations": {
        "initialized.annotations.kubedr.catalogicsoftware.com": "true" } } }))?;
    let initialised = json!({
        "observedGeneration": 1,
        "initStatus": "Completed",
        "initErrorMessage": "",
        "initTime": "2026-11-22T10:43:00Z",
    });
    t.merge("backuplocations", &format!("{}/status", t.name()), &json!({ "status": initialised }))?;
    t.apply_policy(json!({}))?;
    t.await_scheduled()?;
    t.apply_record_of_kubedr(&snapshot)
}

fn upgrade(t: &Case) -> Result<()> {
    let record = leave_the_first_release(t)?;
    let all = [
        ("backuplocations", t.name().to_owned()),
        ("metadatabackuppolicies", t.name().to_owned()),
        ("metadatabackuprecords", record),
        ("cronjobs", t.cron_job_name()),
    ];
    let uids = || {
        let uid = |(plural, name): &(&str, String)| Ok(t.get(plural, name)?["metadata"]["uid"].clone());
        all.iter().map(uid).collect::<Result<Vec<_>>>()
    };
    let before = uids()?;
    t.release().upgrade(&[])?;
    t.await_initialised()?;
    t.await_scheduled()?;
    Run::succeed(t, "a")?;
    ensure!(uids()? == before, "before: {before:?}, after: {:?}", uids()?);
    t.expect_stored(2)
}

#[test]
fn an_upgrade_from_the_first_chart_keeps_cronjobs_and_records() {
    let _alone = alone();
    case_from_scratch("upgrade", upgrade);
}
