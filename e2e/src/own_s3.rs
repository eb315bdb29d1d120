//! A second S3 server, which a test may freeze and kill.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kubedr_testing::{Restic, ServerProcess, command};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Case, Cluster, seconds, until};

/// An S3 server of one test, at the address of the cluster's S3 server and a port of its own.
#[derive(Debug)]
pub struct OwnS3 {
    address: String,
    process: Option<ServerProcess>,
    dir: TempDir,
}

impl OwnS3 {
    /// Reserves an address at which nothing listens yet.
    pub fn down() -> Result<Self> {
        let host = Cluster::get().s3_address()?;
        let port = (0..100)
            .map(|_| kubedr_testing::free_port())
            .find(|port| TcpListener::bind((host, *port)).is_ok())
            .context("no free port")?;
        let dir = tempfile::tempdir()?;
        for sub in ["data", "iam"] {
            std::fs::create_dir(dir.path().join(sub))?;
        }
        Ok(Self { address: format!("{host}:{port}"), process: None, dir })
    }

    /// A server that runs.
    pub fn up() -> Result<Self> {
        let mut server = Self::down()?;
        server.start()?;
        Ok(server)
    }

    /// Starts it; its keys are those of the cluster's S3 server.
    pub fn start(&mut self) -> Result<()> {
        let cluster = Cluster::get();
        let mut server = command("versitygw");
        server
            .env("ROOT_ACCESS_KEY_ID", cluster.var("AWS_ACCESS_KEY_ID"))
            .env("ROOT_SECRET_ACCESS_KEY", cluster.var("AWS_SECRET_ACCESS_KEY"))
            .args(["--quiet", "--port", &self.address, "--iam-dir"])
            .arg(self.dir.path().join("iam"))
            .arg("posix")
            .arg(self.dir.path().join("data"));
        let process = ServerProcess::start(&server, &self.dir.path().join("log"));
        until("the S3 server listens", seconds(20), || Ok(std::net::TcpStream::connect(&self.address)?))
            .with_context(|| process.log())?;
        self.process = Some(process);
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
        format!("http://{}", self.address)
    }

    /// Changes to a location so that it lies here.
    #[must_use]
    pub fn location(&self) -> Value {
        json!({ "spec": { "url": self.url() } })
    }

    /// The directory of a bucket.
    #[must_use]
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("data").join(bucket)
    }

    /// Stock restic on the bucket of a case.
    #[must_use]
    pub fn restic(&self, case: &Case) -> Restic {
        let cluster = Cluster::get();
        Restic::new(&format!("s3:{}/{}", self.url(), case.name()), &case.password())
            .with_keys(cluster.var("AWS_ACCESS_KEY_ID"), cluster.var("AWS_SECRET_ACCESS_KEY"))
    }
}
