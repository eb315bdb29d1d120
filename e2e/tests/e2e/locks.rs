//! restic's locks: an admin's restic and our jobs wait for one another, and nobody has to unlock.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Run, case, contains_all, seconds, until};
use serde_json::json;

/// Stock restic in the middle of a backup, which holds a shared lock until its input ends.
fn restic_at_work(t: &Case) -> Result<Child> {
    let restic = t.restic();
    let mut command = Command::new("restic");
    command.args(["--no-cache", "--repo", restic.repository(), "backup", "--stdin"]);
    command.envs(restic.environment().iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    until("restic holds its lock", seconds(30), || {
        ensure!(!t.locks()?.is_empty(), "there is none");
        Ok(())
    })?;
    Ok(child)
}

/// Ends the input, and with it the backup.
fn finish(mut restic: Child) -> Result<()> {
    restic.stdin.take().context("an input")?.write_all(b"what is backed up")?;
    ensure!(restic.wait()?.success(), "restic's own backup failed");
    Ok(())
}

#[test]
fn a_deletion_waits_for_an_admins_restic_and_says_so_and_a_backup_does_not() {
    case("wait", |t| {
        t.set_up(json!({}))?;
        let (_, first) = Run::succeed(t, "a")?;
        let record = first["mbrName"].as_str().context("a record")?.to_owned();
        let restic = restic_at_work(t)?;
        // A shared lock beside a shared one.
        Run::succeed(t, "b")?;
        t.api().delete(&t.path("metadatabackuprecords", &record))?;
        let event = until("the job says that it waits", seconds(90), || {
            let events = t.events("BackupLocation")?;
            events.into_iter().find(|event| event.reason == "WaitingForLock").context("no event")
        })?;
        contains_all(&event.message, &["lock"])?;
        ensure!(t.get("metadatabackuprecords", &record).is_ok(), "the record went before its snapshot");
        finish(restic)?;
        until("the record is gone", seconds(90), || {
            ensure!(t.get("metadatabackuprecords", &record).is_err(), "it is there");
            Ok(())
        })?;
        until("no lock is left", seconds(90), || {
            let left = t.locks()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    });
}

#[test]
fn a_lock_that_a_lost_pod_left_keeps_nobody_waiting() {
    case("lost", |t| {
        t.set_up(json!({}))?;
        let (_, first) = Run::succeed(t, "a")?;
        let record = first["mbrName"].as_str().context("a record")?.to_owned();
        // An etcd that takes connections and says nothing: the backup holds its lock and waits.
        let silent = std::net::TcpListener::bind((t.cluster().s3_address()?, 0))?;
        let endpoint = format!("https://{}", silent.local_addr()?);
        t.apply_policy(json!({ "spec": { "etcdEndpoint": endpoint } }))?;
        until("the CronJob asks there", seconds(30), || {
            let cron_job = t.get("cronjobs", &format!("{}-backup-cronjob", t.name()))?;
            ensure!(cron_job.to_string().contains(&endpoint), "{cron_job}");
            Ok(())
        })?;
        let run = Run::start(t, "b")?;
        until("the backup holds its lock", seconds(60), || {
            ensure!(!t.locks()?.is_empty(), "there is none");
            Ok(())
        })?;
        // Killed without a chance to take its lock away.
        let kill = "for p in /proc/[0-9]*; do
            if tr '\\0' '\\n' < $p/environ 2> /dev/null | grep -qx \"KUBEDR_JOB_NAME=$0\"; then kill -9 ${p#/proc/}; fi; done";
        t.cluster().node(&["bash", "-c", kill, &format!("{}-b", t.name())])?;
        run.await_end(t, "Failed", seconds(60))?;
        ensure!(!t.locks()?.is_empty(), "the pod took its lock away");
        t.api().delete(&t.path("metadatabackuprecords", &record))?;
        until("the record is gone, as if there were no lock", seconds(120), || {
            ensure!(
                t.get("metadatabackuprecords", &record).is_err(),
                "it is there, with locks {:?}",
                t.locks()?
            );
            Ok(())
        })
    });
}
