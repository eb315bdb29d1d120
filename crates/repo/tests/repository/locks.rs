//! Locks between stock restic and us, both ways.

use std::{
    io::{self, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kubedr_repo::{
    CheckDepth, Error, InitOptions, Location, LockGuard, LockHolder, LockInfo, LockMode, LockOptions,
    Repository,
};
use kubedr_testing::{Restic, S3Server, command, open_at_once, text, wait_until};
use tempfile::TempDir;

use crate::fixture::{Interrupted, PASSWORD, bucket, database, in_bucket, local, request, source, sources};

fn options(mode: LockMode, wait: Duration) -> LockOptions<'static> {
    let holder =
        LockHolder { hostname: "backup-pod-7".to_owned(), username: "cluster/namespace/uid".to_owned() };
    LockOptions { holder, mode, wait, is_gone: &|_| false, waiting: &|_| () }
}

fn lock(repository: &Repository, mode: LockMode) -> LockGuard {
    repository.lock(&options(mode, Duration::from_secs(30))).unwrap()
}

/// restic in the middle of a backup: it holds a shared lock until its input ends, or it is killed.
struct BusyRestic(Child);

impl BusyRestic {
    fn start(repository: &Repository, restic: &Restic) -> Self {
        let before = repository.locks().unwrap().len();
        let mut command: Command = command("restic");
        command.args(["--no-cache", "--repo", restic.repository()]).args(["backup", "--stdin"]);
        command.envs(restic.environment().iter().cloned());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let busy = Self(child);
        wait_until("restic takes its lock", Duration::from_secs(20), || {
            repository.locks().unwrap().len() > before
        });
        busy
    }

    fn finish(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"the end").unwrap();
        assert!(self.0.wait().unwrap().success());
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for BusyRestic {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn assert_refused(restic: &Restic, args: &[&str]) {
    let output = restic.run(args);
    assert!(!output.status.success(), "restic {args:?} ignored our lock");
    let told = text(&output.stderr);
    assert!(told.contains("already locked"), "{told}");
    assert!(told.contains("backup-pod-7") && told.contains("cluster/namespace/uid"), "{told}");
}

fn assert_each_respects_the_other(repository: &Repository, restic: &Restic) {
    repository.backup(request(sources(&database(100, 1), b"tar"))).unwrap();
    assert_restic_respects_ours(repository, restic);
    assert_ours_respect_restics(repository, restic);
    assert!(repository.locks().unwrap().is_empty());
    let _ = restic.ok(&["check", "--read-data"]);
    assert!(repository.check(CheckDepth::ReadData).unwrap().is_ok());
}

fn assert_restic_respects_ours(repository: &Repository, restic: &Restic) {
    let exclusive = lock(repository, LockMode::Exclusive);
    assert_refused(restic, &["snapshots"]);
    assert_refused(restic, &["check"]);
    assert_what_restic_reads(repository, restic);
    let _ = restic.ok(&["unlock"]);
    assert_eq!(repository.locks().unwrap().len(), 1, "a fresh lock of another host is not stale for restic");
    drop(exclusive);
    let shared = lock(repository, LockMode::Shared);
    let _ = restic.ok(&["backup", "/etc/hostname"]);
    assert_refused(restic, &["check"]);
    drop(shared);
    let _ = restic.ok(&["check"]);
    let _exclusive = lock(repository, LockMode::Exclusive);
    let _ = restic.ok(&["unlock", "--remove-all"]);
    assert!(repository.locks().unwrap().is_empty());
}

fn assert_what_restic_reads(repository: &Repository, restic: &Restic) {
    let ours = repository.locks().unwrap().remove(0);
    assert_eq!(restic.ok(&["list", "locks", "--no-lock"]).trim(), ours.id);
    let read: serde_json::Value =
        serde_json::from_str(&restic.ok(&["cat", "lock", &ours.id, "--no-lock"])).unwrap();
    assert_eq!(read["exclusive"], true);
    assert_eq!(read["hostname"], "backup-pod-7");
    assert_eq!(read["pid"], std::process::id());
    let time: jiff::Timestamp = read["time"].as_str().unwrap().parse().unwrap();
    assert_eq!(time, ours.time);
}

fn assert_ours_respect_restics(repository: &Repository, restic: &Restic) {
    let mut busy = BusyRestic::start(repository, restic);
    let theirs = repository.locks().unwrap().remove(0);
    assert!(!theirs.exclusive);
    assert_eq!(theirs.pid, i64::from(busy.0.id()));
    drop(lock(repository, LockMode::Shared));
    let refused = repository.lock(&options(LockMode::Exclusive, Duration::from_millis(300))).unwrap_err();
    assert!(
        matches!(&refused, Error::Locked { holder, .. } if holder.contains(&theirs.hostname)),
        "{refused}"
    );

    let told = std::cell::RefCell::new(None);
    let exclusive = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            busy.finish();
        });
        let waiting = |lock: &LockInfo| drop(told.replace(Some(lock.clone())));
        let options =
            LockOptions { waiting: &waiting, ..options(LockMode::Exclusive, Duration::from_mins(1)) };
        repository.lock(&options).unwrap()
    });
    assert_eq!(told.into_inner().unwrap().pid, theirs.pid);
    assert_eq!(repository.locks().unwrap().len(), 1);
    drop(exclusive);
}

#[test]
fn in_a_bucket_restic_and_we_respect_each_other() {
    let server = S3Server::start();
    let repository = in_bucket(&server, "backups");
    assert_each_respects_the_other(&repository, &server.restic("backups", PASSWORD));
}

#[test]
fn in_repositories_of_both_versions_that_restic_made_too() {
    for version in ["1", "2"] {
        let directory = TempDir::new().unwrap();
        let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
        let _ = restic.ok(&["init", "--repository-version", version]);
        open_at_once(&restic, directory.path());
        let location = Location::Local(directory.path().to_owned());
        let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
        assert_each_respects_the_other(&repository, &restic);
    }
}

#[test]
fn what_a_killed_restic_leaves_goes_at_once_when_its_end_is_certain() {
    let (directory, repository) = local();
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let mut busy = BusyRestic::start(&repository, &restic);
    busy.kill();
    let pid = i64::from(busy.0.id());
    assert!(matches!(
        repository.lock(&options(LockMode::Exclusive, Duration::ZERO)),
        Err(Error::Locked { .. })
    ));
    let is_gone = |lock: &LockInfo| lock.pid == pid;
    let options = LockOptions { is_gone: &is_gone, ..options(LockMode::Exclusive, Duration::ZERO) };
    let begin = Instant::now();
    drop(repository.lock(&options).unwrap());
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(repository.locks().unwrap().is_empty());
}

#[test]
fn two_processes_worth_of_contenders_on_s3_are_never_two_and_both_get_theirs() {
    let server = S3Server::start();
    drop(in_bucket(&server, "backups"));
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let location = bucket(&server, "backups");
                let (repository, _) =
                    Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap();
                for _ in 0..3 {
                    let guard =
                        repository.lock(&options(LockMode::Exclusive, Duration::from_mins(1))).unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(guard);
                }
            });
        }
    });
}

#[test]
fn a_backup_whose_lock_is_lost_is_not_committed() {
    let (directory, repository) = local();
    let guard = std::sync::Arc::new(lock(&repository, LockMode::Shared));
    let held = repository.hold(&guard);
    held.backup(request(sources(b"db", b"tar"))).unwrap();
    let content = database(1000, 1);
    let lost = kubedr_repo::Source {
        size: content.len() as u64,
        reader: Box::new(Interrupted {
            inner: io::Cursor::new(content),
            after: 1_000_000,
            at: Some(move || {
                guard.release();
                Ok(())
            }),
        }),
        ..source("/data/etcd-snapshot.db", b"")
    };
    let error = held.backup(request(vec![lost])).unwrap_err();
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert_eq!(repository.snapshots().unwrap().len(), 1);
    let restic = Restic::new(&directory.path().display().to_string(), PASSWORD);
    let _ = restic.ok(&["check", "--read-data"]);
}
