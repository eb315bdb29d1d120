//! The one cluster that all tests of a run share.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use kubedr_testing::{Restic, ServerProcess, command, tool};
use tempfile::TempDir;

use crate::{ApiServer, seconds, until};

/// The cluster's name if the environment has no `E2E_ID`.
const DEFAULT_ID: &str = "kubedr-test";

/// The test cluster: its API server, its node, its S3 server.
#[derive(Debug)]
pub struct Cluster {
    variables: BTreeMap<String, String>,
    kubeconfig: String,
    api: ApiServer,
    buckets: PathBuf,
    _proxy: ServerProcess,
    _dir: TempDir,
}

impl Cluster {
    /// The cluster; connects to it at the first call. What the environment says of clusters is ignored, except for
    /// `E2E_ID` and the variables that `e2e/cluster` reads.
    ///
    /// # Panics
    /// When it is not up.
    #[must_use]
    #[expect(clippy::panic, reason = "without its cluster no test has anything to say")]
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            Self::connect().unwrap_or_else(|error| {
                panic!("no cluster to test on: {error:#}. Run `make e2e`, which makes one and removes it afterwards")
            })
        })
    }

    fn connect() -> Result<Self> {
        let kubeconfig = text(&done(script("env").arg("kubeconfig"))?);
        let variables = variables()?;
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("api");
        let mut proxy = command("kubectl");
        proxy.args(["--kubeconfig", &kubeconfig, "proxy", "--unix-socket"]).arg(&socket);
        let proxy = ServerProcess::start(&proxy, &dir.path().join("log"));
        let api = ApiServer::new(socket);
        until("the API server answers", seconds(20), || api.get("/version")).context(proxy.log())?;
        let buckets = text(&done(script("s3").arg("buckets"))?).into();
        Ok(Self { variables, kubeconfig, api, buckets, _proxy: proxy, _dir: dir })
    }

    /// The API server.
    #[must_use]
    pub fn api(&self) -> &ApiServer {
        &self.api
    }

    /// What `make -s env` prints under this name, or the image tags that `e2e/cluster/image env` prints.
    ///
    /// # Panics
    /// When neither does.
    #[must_use]
    #[expect(clippy::panic, reason = "the test names a variable that does not exist")]
    pub fn var(&self, name: &str) -> &str {
        match self.variables.get(name) {
            Some(value) => value,
            None => panic!("neither `e2e/cluster/env` nor `e2e/cluster/image env` prints {name}"),
        }
    }

    /// All of these variables.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Path of the kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Runs `kubectl ARGS` and gives back what it printed; an error holds what it complained of.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        Ok(text(&done(self.kubectl_command().args(args))?))
    }

    /// Runs `kubectl ARGS` with this on its standard input, whatever comes of it.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut kubectl = self.kubectl_command();
        let mut child = kubectl
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        Ok(child.wait_with_output()?)
    }

    /// Runs `helm ARGS`, whatever comes of it.
    pub fn helm(&self, args: &[&str]) -> Result<Output> {
        let mut helm = command("helm");
        helm.args(["--kubeconfig", &self.kubeconfig]).args(args).output().context("helm")
    }

    /// Runs a command in the node, as its root.
    pub fn node(&self, args: &[&str]) -> Result<String> {
        Ok(text(&done(script("ctl").arg("exec").args(args))?))
    }

    /// A path of the node, as this machine sees it while the node is up; what is mounted in the node only is seen, too.
    pub fn in_node(&self, path: &str) -> Result<PathBuf> {
        let file = Path::new(&self.kubeconfig).with_file_name("node.pid");
        let noted = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let pid = noted.split(' ').next().unwrap_or_default();
        Ok(format!("/proc/{pid}/root{path}").into())
    }

    /// The node's `/etc/kubernetes/pki`, as this machine sees it.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        Path::new(self.var("ETCD_CA")).ancestors().nth(2).map(Path::to_owned).unwrap_or_default()
    }

    /// Writes keys into the cluster's etcd, beside what Kubernetes has there.
    pub fn put_keys(&self, keys: impl Iterator<Item = (String, String)>) -> Result<()> {
        // etcd takes up to 128 operations at once
        let puts: Vec<_> = keys.map(|(key, value)| format!("put {key} {value}\n")).collect();
        for some in puts.chunks(100) {
            let mut txn = tempfile::tempfile()?;
            write!(txn, "\n{}\n\n", some.concat())?;
            txn.rewind()?;
            done(self.etcdctl().arg("txn").stdin(txn))?;
        }
        Ok(())
    }

    /// Deletes the keys that begin so.
    pub fn delete_keys(&self, prefix: &str) -> Result<()> {
        done(self.etcdctl().args(["del", "--prefix", prefix])).map(drop)
    }

    pub(crate) fn etcdctl(&self) -> Command {
        let mut etcdctl = command("etcdctl");
        for (flag, name) in [
            ("--endpoints", "ETCD_ENDPOINT"),
            ("--cacert", "ETCD_CA"),
            ("--cert", "ETCD_CERT"),
            ("--key", "ETCD_KEY"),
        ] {
            etcdctl.args([flag, self.var(name)]);
        }
        etcdctl
    }

    /// Address of the S3 server on this machine, which pods and the node reach too.
    pub fn s3_address(&self) -> Result<&str> {
        let url = self.var("S3_ENDPOINT");
        url.strip_prefix("http://")
            .and_then(|rest| rest.rsplit_once(':'))
            .map(|(host, _)| host)
            .context("no host in S3_ENDPOINT")
    }

    /// Program of the S3 server: `versitygw`, or `minio` under `make e2e S3=minio`.
    pub fn s3_program(&self) -> Result<PathBuf> {
        Ok(text(&done(script("s3").arg("program"))?).into())
    }

    /// The directory of a bucket of the S3 server. In it, an object of the name `a/b` is a file `a/b` of versitygw's and a directory
    /// `a/b` of MinIO's.
    #[must_use]
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.buckets.join(bucket)
    }

    /// The directory with a directory for each bucket.
    pub(crate) fn buckets(&self) -> &Path {
        &self.buckets
    }

    /// The job of this checkout, as `make images` compiled it, to be run on this machine.
    #[must_use]
    pub fn job_command(&self) -> Command {
        let mut job = Command::new(programs().join("kubedr-backup-job"));
        job.stdin(Stdio::null());
        job
    }

    /// Runs one of versitygw's admin commands on the S3 server.
    pub fn s3_admin(&self, args: &[&str]) -> Result<String> {
        Ok(text(&done(script("s3").arg("admin").args(args))?))
    }

    /// Stock restic on a bucket of the S3 server.
    #[must_use]
    pub fn restic(&self, bucket: &str, password: &str) -> Restic {
        Restic::new(&format!("s3:{}/{bucket}", self.var("S3_ENDPOINT")), password)
            .with_keys(self.var("AWS_ACCESS_KEY_ID"), self.var("AWS_SECRET_ACCESS_KEY"))
    }

    fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(tool("kubectl"));
        kubectl.args(["--kubeconfig", &self.kubeconfig, "--request-timeout=60s"]).stdin(Stdio::null());
        kubectl
    }
}

/// The root of the checkout.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The directory of the programs that cargo compiles.
fn programs() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| checkout().join("target"), PathBuf::from)
        .join("release")
}

fn script(name: &str) -> Command {
    let mut script = Command::new(checkout().join("e2e/cluster").join(name));
    if std::env::var_os("E2E_ID").is_none() {
        script.env("E2E_ID", DEFAULT_ID);
    }
    script.env_remove("KUBECONFIG").stdin(Stdio::null());
    script
}

/// What the scripts print as assignments, read by a shell, for which they are quoted.
fn variables() -> Result<BTreeMap<String, String>> {
    let assignments = text(&done(script("env").arg(""))?) + "\n" + &text(&done(script("image").arg("env"))?);
    let mut shell = Command::new("env");
    shell.args(["-i", "bash", "-c", "set -a; eval \"$0\"; env -0", &assignments]);
    let set = done(&mut shell)?.stdout;
    let all = set.split(|byte| *byte == 0).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let all: BTreeMap<_, _> =
        all.filter(|(name, _)| !matches!(name.as_str(), "PWD" | "SHLVL" | "_")).collect();
    ensure!(all.contains_key("S3_ENDPOINT"), "`e2e/cluster/env` prints no S3_ENDPOINT: {assignments}");
    Ok(all)
}

/// Runs a command to its end; an error holds what it printed.
pub(crate) fn done(command: &mut Command) -> Result<Output> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    bail!(
        "{} failed, {}: {}",
        command.get_program().display(),
        output.status,
        String::from_utf8_lossy(&said).trim()
    )
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}
