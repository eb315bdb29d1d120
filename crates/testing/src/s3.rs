//! An S3 server: versitygw over a directory.

use crate::process::{ServerProcess, free_port};
use crate::{Pki, Restic, assert_success, command, run};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Keys of an account on an [`S3Server`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

/// A versitygw on a free loopback port, with an account of its own for each server.
#[derive(Debug)]
pub struct S3Server {
    process: Option<ServerProcess>,
    port: u16,
    owner: Account,
    tls: Option<Tls>,
    dir: TempDir,
}

#[derive(Debug)]
struct Tls {
    pki: Pki,
    cert: PathBuf,
    key: PathBuf,
}

impl S3Server {
    /// Starts a server that speaks plain HTTP.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|_| None)
    }

    /// Starts a server that speaks HTTPS with a certificate of [`S3Server::ca_file`].
    #[must_use]
    pub fn start_tls() -> Self {
        Self::start_with(|dir| {
            let pki = Pki::new(&dir.join("pki"));
            let (cert, key) = pki.server("s3");
            Some(Tls { pki, cert, key })
        })
    }

    fn start_with(tls: impl FnOnce(&Path) -> Option<Tls>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for sub in ["data", "iam"] {
            fs::create_dir(dir.path().join(sub)).expect("a directory for the server");
        }
        let tls = tls(dir.path());
        let owner = Account { access_key: random_hex(10), secret_key: random_hex(20) };
        let mut server = Self { process: None, port: free_port(), owner, tls, dir };
        server.restart();
        server
    }

    /// Starts the server again after [`S3Server::kill`], on the same port and data; one that runs is killed first.
    pub fn restart(&mut self) {
        self.kill();
        let mut process = ServerProcess::start(&self.server_command(), &self.dir.path().join("log"));
        let port = self.port;
        process.wait_ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        self.process = Some(process);
    }

    /// Kills the server without warning; its port refuses connections from then on.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Freezes the server: requests hang.
    pub fn pause(&self) {
        self.running().pause();
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.running().resume();
    }

    /// The server's URL, `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The access key id of the server's owner, who may do everything.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.owner.access_key
    }

    /// The secret access key of the server's owner.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.owner.secret_key
    }

    /// The server's owner.
    #[must_use]
    pub fn owner(&self) -> &Account {
        &self.owner
    }

    /// The authority that signed the server's certificate, as PEM; `None` without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<String> {
        self.tls.as_ref().map(|tls| tls.pki.ca_pem())
    }

    /// The file with [`S3Server::ca_pem`].
    #[must_use]
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.tls.as_ref().map(|tls| tls.pki.ca_file())
    }

    /// Creates another account: it may create buckets, and sees nobody else's.
    #[must_use]
    pub fn create_account(&self) -> Account {
        let account = Account { access_key: random_hex(10), secret_key: random_hex(20) };
        let Account { access_key, secret_key } = &account;
        assert_success(&self.admin(&[
            "create-user",
            "--access",
            access_key,
            "--secret",
            secret_key,
            "--role",
            "userplus",
        ]));
        account
    }

    /// Creates a bucket that belongs to `owner`, an account of [`S3Server::create_account`].
    pub fn create_bucket_of(&self, owner: &Account, bucket: &str) {
        self.create_bucket(bucket);
        assert_success(&self.admin(&[
            "change-bucket-owner",
            "--bucket",
            bucket,
            "--owner",
            &owner.access_key,
        ]));
    }

    /// Creates an empty bucket of the server's owner.
    pub fn create_bucket(&self, bucket: &str) {
        fs::create_dir(self.bucket_dir(bucket)).expect("a new bucket");
    }

    /// The directory in which the server keeps a bucket's objects, one file per object.
    #[must_use]
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("data").join(bucket)
    }

    /// How often each operation was asked for on a bucket so far, by names such as `GetObject`.
    #[must_use]
    pub fn requests(&self, bucket: &str) -> BTreeMap<String, usize> {
        let log = fs::read_to_string(self.dir.path().join("access")).unwrap_or_default();
        let mut counted = BTreeMap::new();
        for line in log.lines() {
            // Owner, bucket, time of two words, address, account, request, operation.
            let words: Vec<_> = line.split(' ').take(8).collect();
            if let [_, of, .., operation] = words[..]
                && of == bucket
            {
                *counted.entry(operation.trim_start_matches("s3_").to_owned()).or_default() += 1;
            }
        }
        counted
    }

    /// Repository URL of a bucket in restic's notation.
    #[must_use]
    pub fn repository(&self, bucket: &str) -> String {
        format!("s3:{}/{bucket}", self.endpoint())
    }

    /// Stock restic on a bucket, with the keys of the server's owner.
    #[must_use]
    pub fn restic(&self, bucket: &str, password: &str) -> Restic {
        let restic = Restic::new(&self.repository(bucket), password)
            .with_keys(&self.owner.access_key, &self.owner.secret_key);
        match self.ca_file() {
            Some(ca) => restic.with_ca(&ca),
            None => restic,
        }
    }

    fn running(&self) -> &ServerProcess {
        self.process.as_ref().expect("the S3 server runs")
    }

    fn server_command(&self) -> std::process::Command {
        let mut server = command("versitygw");
        server
            .env("ROOT_ACCESS_KEY", &self.owner.access_key)
            .env("ROOT_SECRET_KEY", &self.owner.secret_key)
            .args(["--port", &format!("127.0.0.1:{}", self.port), "--quiet", "--keep-alive"])
            .arg("--iam-dir")
            .arg(self.dir.path().join("iam"))
            .arg("--access-log")
            .arg(self.dir.path().join("access"));
        if let Some(tls) = &self.tls {
            server.arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        }
        server.arg("posix").arg(self.dir.path().join("data"));
        server
    }

    fn admin(&self, args: &[&str]) -> std::process::Output {
        let mut admin = command("versitygw");
        admin
            .env("ADMIN_ACCESS_KEY", &self.owner.access_key)
            .env("ADMIN_SECRET_KEY", &self.owner.secret_key)
            .args(["admin", "--allow-insecure", "--endpoint-url", &self.endpoint()])
            .args(args);
        run(&mut admin)
    }
}

/// A key that no other server has, so that a test may grep for it.
fn random_hex(bytes: usize) -> String {
    use std::fmt::Write;
    use std::io::Read;
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .expect("random bytes");
    random.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
