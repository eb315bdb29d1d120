//! The job as a CI pipeline runs it: through its binary, against real servers, without any cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that tests share are tests, too")]

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use kubedr_repo::{InitOptions, Location, Repository};
use kubedr_testing::{EmptyRepository, EtcdCluster, Restic, S3Server, assert_success, open_at_once, text};
use serde_json::Value;

const PASSWORD: &str = "correct-horse-battery";

static EMPTY: LazyLock<EmptyRepository> = LazyLock::new(|| {
    EmptyRepository::made_by(PASSWORD, |dir| {
        let location = Location::Local(dir.to_owned());
        drop(Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap());
    })
});

/// A repository of its own, and the environment to reach it and etcd.
struct Job {
    restic: Restic,
    variables: Vec<(String, String)>,
}

impl Job {
    fn new(s3: &S3Server, etcd: &EtcdCluster) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("bucket-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let restic = s3.restic(&bucket, PASSWORD);
        let files = etcd.client();
        let shown = |path: &Path| path.display().to_string();
        let mut job = Self { variables: restic.environment().to_vec(), restic };
        let repository = job.restic.repository().to_owned();
        job.set("RESTIC_REPOSITORY", &repository);
        job.set("ETCDCTL_ENDPOINTS", &etcd.endpoints());
        job.set("ETCDCTL_CACERT", &shown(&files.ca));
        job.set("ETCDCTL_CERT", &shown(&files.cert));
        job.set("ETCDCTL_KEY", &shown(&files.key));
        job
    }

    /// With a repository that is there already.
    fn initialised(s3: &S3Server, etcd: &EtcdCluster) -> Self {
        let job = Self::new(s3, etcd);
        EMPTY.copy_to(&s3.bucket_dir(job.bucket()));
        job
    }

    fn bucket(&self) -> &str {
        self.restic.repository().rsplit('/').next().unwrap()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubedr-backup-job"));
        command.env_clear().envs(self.variables.iter().cloned()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs the job; whatever comes of it, no secret is in what it prints.
    fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for (name, value) in &self.variables {
            if ["AWS_SECRET_ACCESS_KEY", "RESTIC_PASSWORD"].contains(&name.as_str()) && !value.is_empty() {
                assert!(!printed.contains(value), "{name} is in the output: {printed}");
            }
        }
        output
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

    fn snapshots(&self) -> Vec<Value> {
        self.restic.json(&["snapshots"]).as_array().cloned().unwrap_or_default()
    }
}

fn servers() -> (S3Server, EtcdCluster) {
    let etcd = EtcdCluster::start();
    etcd.fill("/registry/marker/", 500, 400);
    (S3Server::start(), etcd)
}

fn certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etcd")).unwrap();
    fs::write(dir.path().join("etcd/ca.crt"), "certificate").unwrap();
    std::os::unix::fs::symlink("etcd/ca.crt", dir.path().join("link.crt")).unwrap();
    dir
}

#[test]
fn a_backup_is_what_restic_and_etcd_say_it_is_and_comes_back_whole() {
    let (s3, etcd) = servers();
    let (job, pki) = (Job::new(&s3, &etcd), certificates());
    let certs_dir = format!("--certs-dir={}", pki.path().display());
    assert_eq!(job.ok(&["init"])["outcome"], "created");
    assert_eq!(job.ok(&["init"])["outcome"], "attached");

    let first = job.ok(&["backup", &certs_dir, "--host=master-1", "--cluster=uid"]);
    assert_eq!((&first["filesNew"], &first["filesChanged"]), (&2.into(), &0.into()));
    let second = job.ok(&["backup", &certs_dir, "--host=master-1", "--cluster=uid"]);
    assert_eq!((&second["filesNew"], &second["filesChanged"]), (&0.into(), &2.into()));

    let snapshots = job.snapshots();
    assert_eq!(snapshots.len(), 2);
    assert_eq!(snapshots[1]["id"], second["snapshotId"]);
    assert_eq!(snapshots[1]["paths"], serde_json::json!(["/data"]));
    assert_eq!(
        (&snapshots[1]["hostname"], &snapshots[1]["tags"][0]),
        (&"master-1".into(), &"cluster=uid".into())
    );
    let _ = job.restic.ok(&["check", "--read-data"]);

    let target = tempfile::tempdir().unwrap();
    let restored = job.ok(&["restore", "--target", target.path().to_str().unwrap()]);
    assert_eq!(restored["snapshotId"], second["snapshotId"]);
    let data = target.path().join("data");
    assert_eq!(fs::read_to_string(data.join("certificates/link.crt")).unwrap(), "certificate");
    assert_eq!(fs::read_link(data.join("certificates/link.crt")).unwrap(), Path::new("etcd/ca.crt"));
    let copy = EtcdCluster::start_from_snapshot(&data.join("etcd-snapshot.db"));
    assert_eq!(copy.count("/registry/marker/"), 500);
    assert_eq!(restored["tags"], serde_json::json!(["cluster=uid"]));
    let message = job.fails(&["restore", "--target=/nowhere", "--tag=cluster=other"], 2);
    assert!(message.contains("`cluster=other`"), "{message}");
    let message = job.fails(&["restore", "--target", target.path().to_str().unwrap()], 2);
    assert!(message.contains("nothing is overwritten"), "{message}");
}

#[test]
fn each_kind_of_failure_has_its_exit_code_and_leaves_no_snapshot() {
    let (mut s3, etcd) = servers();
    let job = Job::new(&s3, &etcd);
    let message = job.fails(&["backup"], 4);
    assert!(message.contains("no repository") || message.contains("does not exist"), "{message}");
    job.ok(&["init"]);
    open_at_once(&job.restic, &s3.bucket_dir(job.bucket()));

    let mut wrong = Job { variables: job.variables.clone(), restic: job.restic.clone() };
    wrong.set("RESTIC_PASSWORD", "another-one");
    assert!(wrong.fails(&["backup"], 4).contains("wrong password"));
    assert!(wrong.fails(&["init"], 4).contains("wrong password"));
    wrong.set("RESTIC_PASSWORD", "");
    assert!(wrong.fails(&["backup"], 2).contains("`RESTIC_PASSWORD` is not set"));

    let dead = "--etcd-endpoints=https://127.0.0.1:1";
    assert!(job.fails(&["backup", dead], 3).contains("https://127.0.0.1:1"));
    assert!(job.fails(&["backup", "--certs-dir=/none"], 6).contains("`/none`"));
    assert!(job.fails(&["backup", "--etcd-key=/none"], 2).contains("`/none`"));
    let other = etcd.other_pki().ca_file();
    let message = job.fails(&["backup", &format!("--etcd-cacert={}", other.display())], 3);
    assert!(message.contains("authority"), "{message}");
    job.fails(&["backup", "--no-such-flag"], 2);
    assert!(job.fails(&["backup", "--policy=daily"], 2).contains("`--namespace` is missing"));
    assert_eq!(job.snapshots().len(), 0);

    s3.kill();
    let message = job.fails(&["backup"], 4);
    assert!(message.contains(&s3.endpoint()), "{message}");
}

#[test]
fn line_ends_in_secrets_do_no_harm() {
    let (s3, etcd) = servers();
    let mut job = Job::initialised(&s3, &etcd);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RESTIC_PASSWORD"] {
        let value = job.variables.iter().find(|(known, _)| known == name).unwrap().1.clone();
        job.set(name, &format!("{value}\r\n"));
    }
    let output = job.command(&["backup"]).output().unwrap();
    assert_success(&output);
}

#[test]
fn sigterm_ends_a_job_that_waits_for_etcd_within_seconds() {
    let (s3, etcd) = servers();
    let job = Job::initialised(&s3, &etcd);
    etcd.member(0).pause();
    let mut child = job.command(&["backup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Time to open the repository; then the job waits for etcd, which says nothing.
    thread::sleep(Duration::from_millis(1500));
    let begun = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(status.code(), Some(143), "{log}");
    assert!(log.contains("SIGTERM"), "{log}");
    etcd.member(0).resume();
    assert_eq!(job.restic.ok(&["list", "locks"]).trim(), "", "the lock is given back");
    assert_eq!(job.snapshots().len(), 0);
}

#[test]
fn the_error_is_left_where_the_kubelet_finds_it() {
    let (s3, etcd) = servers();
    let job = Job::new(&s3, &etcd);
    let note = tempfile::NamedTempFile::new().unwrap();
    job.fails(&["backup", "--termination-log", note.path().to_str().unwrap()], 4);
    let said = fs::read_to_string(note.path()).unwrap();
    assert!(said.lines().count() == 1 && said.contains("initialise"), "{said}");
}

/// A proxy that refuses: it says what was asked.
fn refusing_proxy() -> (String, thread::JoinHandle<String>) {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut connection, _) = proxy.accept().unwrap();
        let mut request = [0; 200];
        let count = connection.read(&mut request).unwrap();
        text(&request[..count])
    });
    (url, asked)
}

/// A proxy that connects: it says whereto, each time.
fn connecting_proxy() -> (String, mpsc::Receiver<String>) {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let (say, asked) = mpsc::channel();
    thread::spawn(move || {
        for mut client in proxy.incoming().flatten() {
            let mut request = [0; 1000];
            let count = client.read(&mut request).unwrap();
            let request = text(&request[..count]);
            let mut server = TcpStream::connect(request.split(' ').nth(1).unwrap()).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let _ = say.send(request);
            let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from_server, &mut to_client));
            thread::spawn(move || io::copy(&mut client, &mut server));
        }
    });
    (url, asked)
}

#[test]
fn the_proxy_of_the_environment_is_asked_for_the_s3_server() {
    let (s3, etcd) = servers();
    let ask = |path_style, expected| {
        let mut job = Job::new(&s3, &etcd);
        job.set("RESTIC_REPOSITORY", "s3:http://s3.example.invalid:9000/bucket");
        job.set("KUBEDR_FORCE_PATH_STYLE", path_style);
        let (proxy, asked) = refusing_proxy();
        job.set("HTTP_PROXY", &proxy);
        job.fails(&["init"], 4);
        let request = asked.join().unwrap();
        assert!(request.starts_with(expected), "{request}");
    };
    // Both at once: each tries again for seconds.
    thread::scope(|scope| {
        scope.spawn(|| ask("true", "GET http://s3.example.invalid:9000/bucket"));
        scope.spawn(|| ask("false", "GET http://bucket.s3.example.invalid:9000/?"));
    });
}

#[test]
fn a_certificate_is_trusted_by_its_authority_or_not_checked_at_all_also_behind_a_proxy() {
    let (s3, etcd) = (S3Server::start_tls(), EtcdCluster::start());
    let mut job = Job::new(&s3, &etcd);
    let message = job.fails(&["init"], 4);
    assert!(message.contains("`caCert`") && message.contains("`--cacert`"), "{message}");
    let no_pem = tempfile::NamedTempFile::new().unwrap();
    let message = job.fails(&["init", &format!("--cacert={}", no_pem.path().display())], 2);
    assert!(message.contains("`--cacert ") && message.contains("no PEM"), "{message}");
    let (proxy, asked) = connecting_proxy();
    job.set("HTTPS_PROXY", &proxy);
    job.ok(&["init", &format!("--cacert={}", s3.ca_file().unwrap().display())]);
    let connect = format!("CONNECT {} ", s3.endpoint().replace("https://", ""));
    assert!(asked.try_iter().all(|request| request.starts_with(&connect)));
    job.set("KUBEDR_INSECURE_TLS", "true");
    job.ok(&["backup"]);
    assert!(asked.try_iter().next().unwrap().starts_with(&connect));
}
