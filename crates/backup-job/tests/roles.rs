//! Jobs without keys: the role comes from where AWS, or what stands in for it, gives it to those who run there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that tests share are tests, too")]

use std::{
    fs,
    process::{Command, Output},
};

use jiff::{SignedDuration, Timestamp};
use kubedr_testing::{
    CONTAINER_TOKEN, EtcdCluster, ROLE_ARN, RoleServer, S3Server, WEB_IDENTITY_TOKEN, assert_success,
    open_at_once, text,
};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";
/// The server's accounts are lasting ones: it refuses their keys when a session token comes with them.
const NO_TOKEN: &str = "";
const NEVER: &str = "2100-01-01T00:00:00Z";

/// A job in a place with a role, and without keys.
struct Job<'a> {
    s3: &'a S3Server,
    bucket: &'static str,
    variables: Vec<(&'static str, String)>,
}

impl<'a> Job<'a> {
    fn new(s3: &'a S3Server, bucket: &'static str) -> Self {
        let variables = vec![
            ("RESTIC_REPOSITORY", s3.repository(bucket)),
            ("RESTIC_PASSWORD", PASSWORD.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            // Where no metadata service is meant to be, none of the machine's own must answer.
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1".to_owned()),
        ];
        Self { s3, bucket, variables }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    fn with_etcd(mut self, etcd: &EtcdCluster) -> Self {
        let files = etcd.client();
        self.variables.push(("ETCDCTL_ENDPOINTS", etcd.endpoints()));
        for (name, path) in
            [("ETCDCTL_CACERT", &files.ca), ("ETCDCTL_CERT", &files.cert), ("ETCDCTL_KEY", &files.key)]
        {
            self.variables.push((name, path.display().to_string()));
        }
        self
    }

    /// With a web identity whose token is `token`.
    fn with_web_identity(self, sts: &RoleServer, dir: &TempDir, token: &str) -> Self {
        let file = dir.path().join("token");
        fs::write(&file, token).unwrap();
        self.with("AWS_WEB_IDENTITY_TOKEN_FILE", &file.display().to_string())
            .with("AWS_ROLE_ARN", ROLE_ARN)
            .with("AWS_ENDPOINT_URL_STS", sts.endpoint())
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_kubedr-backup-job"))
            .env_clear()
            .envs(self.variables.iter().cloned())
            .args(args)
            .output()
            .unwrap();
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        for secret in [self.s3.secret_key(), PASSWORD, WEB_IDENTITY_TOKEN] {
            assert!(!printed.contains(secret), "a secret is in the output: {printed}");
        }
        output
    }

    fn ok(&self, args: &[&str]) {
        assert_success(&self.run(args));
    }

    fn fails(&self, args: &[&str], exit_code: i32) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(exit_code), "{}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Initialises and backs up; stock restic, with the account's own keys, says whether it is there.
    fn backs_up(&self) {
        self.ok(&["init"]);
        let restic = self.s3.restic(self.bucket, PASSWORD);
        open_at_once(&restic, &self.s3.bucket_dir(self.bucket));
        self.ok(&["backup"]);
        assert_eq!(restic.json(&["snapshots"]).as_array().unwrap().len(), 1);
        let _ = restic.ok(&["check", "--read-data"]);
    }
}

#[test]
fn a_web_identity_backs_up_and_its_keys_are_renewed_before_they_expire() {
    let (s3, etcd, dir) = (S3Server::start(), EtcdCluster::start(), TempDir::new().unwrap());
    // So short that whoever did not renew them would fail, and whoever does has to for each request.
    let soon = Timestamp::now() + SignedDuration::from_secs(5);
    let sts = RoleServer::start(s3.owner(), NO_TOKEN, &soon.to_string());
    Job::new(&s3, "web").with_etcd(&etcd).with_web_identity(&sts, &dir, WEB_IDENTITY_TOKEN).backs_up();
    let asked = sts.asked();
    assert!(asked.len() > 5 && asked.iter().all(|question| question == "POST /"), "{asked:?}");
}

#[test]
fn an_instance_profile_backs_up_and_no_proxy_is_asked_for_it() {
    let (s3, etcd) = (S3Server::start(), EtcdCluster::start());
    let metadata = RoleServer::start(s3.owner(), NO_TOKEN, NEVER);
    Job::new(&s3, "imds")
        .with_etcd(&etcd)
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint())
        .backs_up();
    assert_eq!(
        metadata.asked().iter().filter(|question| question.starts_with("PUT")).count(),
        2,
        "one a job"
    );

    let behind_a_proxy = Job::new(&s3, "imds")
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint())
        .with("HTTP_PROXY", "http://127.0.0.1:1");
    let message = behind_a_proxy.fails(&["init"], 4);
    assert!(message.contains("nothing answers"), "{message}");
    assert_eq!(metadata.asked().iter().filter(|question| question.starts_with("PUT")).count(), 3);
}

#[test]
fn a_containers_credentials_back_up() {
    let (s3, etcd, dir) = (S3Server::start(), EtcdCluster::start(), TempDir::new().unwrap());
    let place = RoleServer::start(s3.owner(), NO_TOKEN, NEVER);
    let token = dir.path().join("token");
    fs::write(&token, CONTAINER_TOKEN).unwrap();
    Job::new(&s3, "container")
        .with_etcd(&etcd)
        .with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/container", place.endpoint()))
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token.display().to_string())
        .backs_up();
    assert_eq!(place.asked(), ["GET /container"; 2]);
}

#[test]
fn without_keys_and_role_the_keys_are_missed_first_and_then_what_was_tried_is_told() {
    let s3 = S3Server::start();
    let message = Job::new(&s3, "none").fails(&["init"], 2);
    for part in [
        "`AWS_ACCESS_KEY_ID` is not set",
        "web identity",
        "AWS_WEB_IDENTITY_TOKEN_FILE was not set",
        "container credentials",
        "instance profile",
        "annotate their service account",
    ] {
        assert!(message.contains(part), "`{part}` is missing: {message}");
    }
    let nothing = Job::new(&s3, "none").with("RESTIC_PASSWORD", "");
    assert!(nothing.fails(&["init"], 2).ends_with("`AWS_ACCESS_KEY_ID` is not set\n"));
    for (given, lacking) in [
        ("AWS_ACCESS_KEY_ID", "`AWS_SECRET_ACCESS_KEY` is not set"),
        ("AWS_SECRET_ACCESS_KEY", "`AWS_ACCESS_KEY_ID` is not set"),
    ] {
        let message = Job::new(&s3, "none").with(given, "half").fails(&["init"], 2);
        assert!(message.contains(lacking), "{message}");
    }
}

#[test]
fn a_role_that_is_refused_is_told_with_the_refusal() {
    let (s3, dir) = (S3Server::start(), TempDir::new().unwrap());
    let sts = RoleServer::start(s3.owner(), NO_TOKEN, NEVER);
    let message = Job::new(&s3, "refused").with_web_identity(&sts, &dir, "another-token").fails(&["init"], 4);
    for part in ["web identity", "InvalidIdentityToken", "the token is not known here", "trusts"] {
        assert!(message.contains(part), "`{part}` is missing: {message}");
    }
    assert!(!message.contains("another-token") && !message.contains("AWS_ACCESS_KEY_ID"), "{message}");
    let no_file = Job::new(&s3, "refused")
        .with_web_identity(&sts, &dir, "")
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/none/token");
    let message = no_file.fails(&["init"], 4);
    assert!(message.contains("web identity") && message.contains("No such file"), "{message}");
}
