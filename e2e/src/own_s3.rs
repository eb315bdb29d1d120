//! A second S3 server, which a test may freeze and kill.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kubedr_testing::{Restic, ServerProcess, command};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{done, text};
use crate::{Case, Cluster, seconds, until};

/// An S3 server of one test, at the address of the cluster's S3 server and a port of its own. It is the same program as that.
#[derive(Debug)]
pub struct OwnS3 {
    address: String,
    scheme: Scheme,
    process: Option<ServerProcess>,
    dir: TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl OwnS3 {
    /// Reserves an address at which nothing listens yet.
    pub fn down() -> Result<Self> {
        Self::reserve(Scheme::Http)
    }

    /// A server that runs.
    pub fn up() -> Result<Self> {
        let mut server = Self::down()?;
        server.start()?;
        Ok(server)
    }

    /// A server that runs and speaks HTTPS, with a certificate of an authority that nobody knows: [`OwnS3::ca_pem`].
    pub fn up_with_tls() -> Result<Self> {
        let mut server = Self::reserve(Scheme::Https)?;
        make_certificates(server.dir.path(), Cluster::get().s3_address()?)?;
        server.start()?;
        Ok(server)
    }

    fn reserve(scheme: Scheme) -> Result<Self> {
        let host = Cluster::get().s3_address()?;
        let port = (0..100)
            .map(|_| kubedr_testing::free_port())
            .find(|port| TcpListener::bind((host, *port)).is_ok())
            .context("no free port")?;
        let dir = tempfile::tempdir()?;
        for sub in ["data", "iam", CERTS] {
            std::fs::create_dir(dir.path().join(sub))?;
        }
        Ok(Self { address: format!("{host}:{port}"), scheme, process: None, dir })
    }

    /// Starts it; its keys are those of the cluster's S3 server.
    pub fn start(&mut self) -> Result<()> {
        let program = Cluster::get().s3_program()?;
        let server = if program.ends_with("minio") { self.minio(&program) } else { self.versitygw(&program) };
        let process = ServerProcess::start(&server, &self.dir.path().join("log"));
        until("the S3 server answers", seconds(20), || self.answers()).with_context(|| process.log())?;
        self.process = Some(process);
        Ok(())
    }

    fn versitygw(&self, program: &Path) -> Command {
        let cluster = Cluster::get();
        let mut server = Command::new(program);
        server
            .env("ROOT_ACCESS_KEY_ID", cluster.var("AWS_ACCESS_KEY_ID"))
            .env("ROOT_SECRET_ACCESS_KEY", cluster.var("AWS_SECRET_ACCESS_KEY"))
            .args(["--quiet", "--port", &self.address, "--iam-dir"])
            .arg(self.dir.path().join("iam"));
        if self.scheme == Scheme::Https {
            let certs = self.dir.path().join(CERTS);
            server.arg("--cert").arg(certs.join("public.crt")).arg("--key").arg(certs.join("private.key"));
        }
        server.arg("posix").arg(self.dir.path().join("data"));
        server
    }

    /// It speaks HTTPS if it finds a certificate.
    fn minio(&self, program: &Path) -> Command {
        let cluster = Cluster::get();
        let mut server = Command::new(program);
        server
            .env("MINIO_ROOT_USER", cluster.var("AWS_ACCESS_KEY_ID"))
            .env("MINIO_ROOT_PASSWORD", cluster.var("AWS_SECRET_ACCESS_KEY"))
            .envs([("MINIO_UPDATE", "off"), ("MINIO_BROWSER", "off")])
            .env("HOME", self.dir.path())
            .args(["server", "--quiet", "--address", &self.address, "--certs-dir"])
            .arg(self.dir.path().join(CERTS))
            .arg(self.dir.path().join("data"));
        server
    }

    /// Whether it answers, and not with a 503, as MinIO does until it is ready.
    fn answers(&self) -> Result<()> {
        let mut curl = command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "5", "--output", "/dev/null"]);
        curl.args(["--write-out", "%{http_code}", &self.url()]);
        if self.scheme == Scheme::Https {
            curl.arg("--cacert").arg(self.ca_file());
        }
        let code = text(&done(&mut curl)?);
        ensure!(!code.starts_with('5'), "HTTP status {code}");
        Ok(())
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.resume();
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Changes to a location so that it lies here. That it must trust an authority is not among them.
    #[must_use]
    pub fn location(&self) -> Value {
        json!({ "spec": { "url": self.url() } })
    }

    /// The authority that signed the certificate of a server of [`OwnS3::up_with_tls`], as PEM.
    pub fn ca_pem(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.ca_file())?)
    }

    fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// The directory of a bucket. In it, an object of the name `a/b` is a file `a/b` of versitygw's and a directory `a/b` of MinIO's.
    #[must_use]
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("data").join(bucket)
    }

    /// Stock restic on the bucket of a case.
    #[must_use]
    pub fn restic(&self, case: &Case) -> Restic {
        let cluster = Cluster::get();
        let restic = Restic::new(&format!("s3:{}/{}", self.url(), case.name()), &case.password())
            .with_keys(cluster.var("AWS_ACCESS_KEY_ID"), cluster.var("AWS_SECRET_ACCESS_KEY"));
        match self.scheme {
            Scheme::Http => restic,
            Scheme::Https => restic.with_ca(&self.ca_file()),
        }
    }
}

/// The directory in which MinIO looks for `public.crt` and `private.key`.
const CERTS: &str = "certs";

/// A new authority, and a certificate of it for this address.
fn make_certificates(dir: &Path, host: &str) -> Result<()> {
    let new = |cert: &str, key: &str, arguments: &[&str]| {
        let mut openssl = command("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-out", cert, "-keyout", key]).args(arguments).current_dir(dir);
        done(&mut openssl)
    };
    new("ca.crt", "ca.key", &["-subj", "/CN=own-s3-ca"])?;
    let (name, usage) = (format!("subjectAltName=IP:{host}"), "extendedKeyUsage=serverAuth");
    let signed = ["-subj", "/CN=own-s3", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", usage, "-addext", &name];
    new("certs/public.crt", "certs/private.key", &[signed, extensions].concat())?;
    Ok(())
}
