//! `forget`, `prune` and `check` by hand, locks, and a restore that is ended, through the binary; stock restic makes the repositories and judges.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that tests share are tests, too")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::Duration,
};

use kubedr_repo::{Location, LockGuard, LockHolder, LockMode, LockOptions, Repository};
use kubedr_testing::{
    EmptyRepository, EtcdCluster, Restic, assert_success, command as tool, text, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";

static EMPTY: LazyLock<EmptyRepository> = LazyLock::new(|| {
    EmptyRepository::made_by(PASSWORD, |dir| {
        let _ = Restic::new(dir.to_str().unwrap(), PASSWORD).ok(&["init"]);
    })
});

/// A repository in a directory of its own, made by stock restic.
struct Place {
    dir: TempDir,
    restic: Restic,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let restic = Restic::new(dir.path().join("repository").to_str().unwrap(), PASSWORD);
        EMPTY.copy_to(&dir.path().join("repository"));
        Self { dir, restic }
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// Has restic back up a file of its own; the snapshot's full id.
    fn backup(&self, name: &str) -> String {
        let source = self.dir.path().join(name);
        fs::create_dir(&source).unwrap();
        let step = 7919 + name.len() as u64;
        let content: Vec<u8> = (0..100_000).flat_map(|n: u64| (n * step).to_le_bytes()).collect();
        fs::write(source.join("file"), content).unwrap();
        fs::write(source.join("name"), name.repeat(10_000)).unwrap();
        let _ = self.restic.ok(&["backup", "--quiet", source.to_str().unwrap()]);
        self.snapshots().last().unwrap()["id"].as_str().unwrap().to_owned()
    }

    fn snapshots(&self) -> Vec<Value> {
        self.restic.json(&["snapshots"]).as_array().cloned().unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubedr-backup-job"));
        command.env_clear().env("RESTIC_PASSWORD", PASSWORD).env("RESTIC_REPOSITORY", self.repository());
        command.args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the job to a success and returns its summary.
    fn ok(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert_success(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs the job to a failure with this exit code and returns its log.
    fn fails(&self, args: &[&str], exit_code: i32) -> String {
        let output = self.run(args);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{log}");
        assert!(output.stdout.is_empty(), "a failure has no summary: {}", text(&output.stdout));
        log
    }

    /// Locks the repository in somebody else's name.
    fn lock(&self, mode: LockMode) -> LockGuard {
        let repository = Repository::open(&Location::Local(self.repository()), &PASSWORD.into()).unwrap();
        let options = LockOptions {
            holder: LockHolder { hostname: "elsewhere".into(), username: "somebody".into() },
            mode,
            wait: Duration::ZERO,
            is_gone: &|_| false,
            waiting: &|_| {},
        };
        repository.lock(&options).unwrap()
    }
}

fn a_pack(repository: &Path) -> PathBuf {
    let dirs = fs::read_dir(repository.join("data")).unwrap().map(|entry| entry.unwrap().path());
    let mut packs: Vec<_> =
        dirs.flat_map(|dir| fs::read_dir(dir).unwrap()).map(|e| e.unwrap().path()).collect();
    packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
    packs.pop().unwrap()
}

#[test]
fn snapshots_go_by_their_ids_space_is_marked_and_restic_finds_nothing_wrong() {
    let place = Place::new();
    let ids = ["a", "bb", "ccc"].map(|name| place.backup(name));
    let both = ids[..2].join(",");
    let done = place.ok(&["forget", "--snapshot", &both, "--prune"]);
    assert_eq!(done["deleted"], serde_json::json!(ids[..2]));
    assert!(done["pruned"]["still_marked"]["bytes"].as_u64().unwrap() > 0, "{done}");
    assert_eq!(done["check"]["errors"], serde_json::json!([]));
    let left = place.snapshots();
    assert_eq!((left.len(), &left[0]["id"]), (1, &ids[2].as_str().into()));
    let _ = place.restic.ok(&["check", "--read-data"]);

    let again = place.ok(&["forget", "--snapshot", &ids[0]]);
    assert_eq!((&again["deleted"][0], &again["pruned"]), (&ids[0].as_str().into(), &Value::Null));
    let planned = place.ok(&["prune", "--dry-run"]);
    assert_eq!(planned["plan"]["deleted"]["packs"], 0, "marked packs stay for 23 hours");
    assert_eq!(place.ok(&["prune"])["deleted"], serde_json::json!([]));
    place.ok(&["check", "--read-data"]);
    let _ = place.restic.ok(&["check", "--read-data"]);
    assert_eq!(fs::read_dir(place.repository().join("locks")).unwrap().count(), 0, "no lock is left behind");
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_deleted() {
    let place = Place::new();
    let id = place.backup("a");
    for args in [
        vec!["forget"],
        vec!["forget", "--snapshot", &id[..8]],
        vec!["forget", "--snapshot", "latest"],
        vec!["forget", "--read-only", "--snapshot", &id],
        vec!["prune", "--read-only"],
        vec!["forget", "--snapshot", &id, "--lock-wait=soon"],
    ] {
        place.fails(&args, 2);
    }
    let other = "ab".repeat(32);
    let log = place.fails(&["forget", "--snapshot", &id, "--repository-id", &other], 4);
    assert!(log.contains("nothing is deleted"), "{log}");
    assert_eq!(place.snapshots().len(), 1);
}

#[test]
fn damage_is_found_and_is_a_failure() {
    let place = Place::new();
    place.backup("a");
    place.ok(&["check"]);
    let pack = a_pack(&place.repository());
    let mut permissions = fs::metadata(&pack).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "the file goes next")]
    permissions.set_readonly(false);
    fs::set_permissions(&pack, permissions).unwrap();
    let mut content = fs::read(&pack).unwrap();
    content[100] ^= 1;
    fs::write(&pack, content).unwrap();
    assert!(place.fails(&["check", "--read-data"], 4).contains("damaged"));
    fs::remove_file(&pack).unwrap();
    let log = place.fails(&["check"], 4);
    assert!(log.contains("damaged") && log.contains("restic check"), "{log}");
    assert!(place.fails(&["prune"], 4).contains("is damaged"));
}

#[test]
fn others_at_work_are_waited_for_and_named_when_they_do_not_end() {
    let place = Place::new();
    let id = place.backup("a");
    let guard = place.lock(LockMode::Shared);
    let log = place.fails(&["forget", "--snapshot", &id, "--lock-wait=1s"], 4);
    assert!(log.contains("waiting for a lock") && log.contains("`somebody` on `elsewhere`"), "{log}");
    place.ok(&["check"]);
    assert_eq!(place.snapshots().len(), 1);
    let waiting = place
        .command(&["forget", "--snapshot", &id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(place.snapshots().len(), 1, "still waiting");
    guard.release();
    assert_success(&waiting.wait_with_output().unwrap());
    assert_eq!(place.snapshots().len(), 0);
}

#[test]
fn a_backup_shares_with_backups_and_waits_for_a_prune() {
    let etcd = EtcdCluster::start();
    let place = Place::new();
    let files = etcd.client();
    let backup = |wait: &str| {
        let mut command = place.command(&["backup", "--lock-wait", wait]);
        command.env("ETCDCTL_ENDPOINTS", etcd.endpoints()).env("ETCDCTL_CACERT", &files.ca);
        command.env("ETCDCTL_CERT", &files.cert).env("ETCDCTL_KEY", &files.key);
        command.output().unwrap()
    };
    let prune = place.lock(LockMode::Exclusive);
    let refused = backup("1s");
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("an exclusive lock of `somebody`"), "{}", text(&refused.stderr));
    prune.release();
    let other = place.lock(LockMode::Shared);
    assert_success(&backup("1s"));
    other.release();
    assert_eq!(place.snapshots().len(), 1);
    assert_eq!(fs::read_dir(place.repository().join("locks")).unwrap().count(), 0);
}

#[test]
fn a_restore_that_sigterm_ends_leaves_nothing_on_its_volume_and_no_lock() {
    let place = Place::new();
    place.backup("a");
    // Whoever reads the pack waits for somebody to write into it: the restore does not come to its end.
    let pack = a_pack(&place.repository());
    fs::remove_file(&pack).unwrap();
    assert_success(&tool("mkfifo").arg(&pack).output().unwrap());
    let target = tempfile::tempdir().unwrap();
    let mut restore = place.command(&["restore", "--target", target.path().to_str().unwrap()]);
    let child = restore.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let files =
        target.path().join(".kubedr-restore").join(place.dir.path().strip_prefix("/").unwrap()).join("a");
    wait_until("it writes", Duration::from_secs(30), || {
        fs::read_dir(&files).is_ok_and(|mut files| files.next().is_some())
    });
    assert_success(&tool("kill").arg(child.id().to_string()).output().unwrap());
    let output = child.wait_with_output().unwrap();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{log}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "{log}");
    assert_eq!(fs::read_dir(place.repository().join("locks")).unwrap().count(), 0, "{log}");
}
