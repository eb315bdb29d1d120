//! Real etcd members with client certificates.

use crate::pki::{ClientFiles, KeyKind, Pki};
use crate::process::{ServerProcess, free_port, wait_until};
use crate::{assert_success, command, run, text};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// One or more etcd members that trust one certificate authority.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<EtcdServer>,
    client: ClientFiles,
    pki: Pki,
    dir: TempDir,
}

/// One etcd member.
#[derive(Debug)]
pub struct EtcdServer {
    process: Option<ServerProcess>,
    name: String,
    client_port: u16,
    peer_port: u16,
}

/// Whether a member founds a cluster or joins one.
#[derive(Clone, Copy)]
enum ClusterState {
    New,
    Existing,
}

impl EtcdCluster {
    /// Starts a single member.
    #[must_use]
    pub fn start() -> Self {
        Self::start_cluster(1)
    }

    /// Starts a cluster of `size` members and waits until all of them serve.
    #[must_use]
    pub fn start_cluster(size: usize) -> Self {
        let mut cluster = Self::prepare(size);
        for member in 0..size {
            cluster.launch(member, ClusterState::New);
        }
        cluster.wait_ready();
        cluster
    }

    /// Restores a snapshot file with stock etcdutl and starts a new member on it.
    #[must_use]
    pub fn start_from_snapshot(snapshot: &Path) -> Self {
        let mut cluster = Self::prepare(1);
        let member = &cluster.members[0];
        let mut restore = command("etcdutl");
        restore
            .args(["snapshot", "restore"])
            .arg(snapshot)
            .arg("--data-dir")
            .arg(cluster.dir.path().join(&member.name))
            .args(["--name", &member.name, "--initial-cluster", &cluster.initial_cluster()])
            .args(["--initial-advertise-peer-urls", &member.peer_url()]);
        assert_success(&run(&mut restore));
        cluster.launch(0, ClusterState::New);
        cluster.wait_ready();
        cluster
    }

    /// Adds a learner, which copies the data and has no vote.
    pub fn add_learner(&mut self) {
        let learner = EtcdServer::prepare(self.members.len());
        // etcd takes no new member before the others have been connected with each other for some seconds.
        wait_until("etcd takes a learner", Duration::from_secs(30), || {
            let peer = learner.peer_url();
            self.etcdctl(&["member", "add", &learner.name, "--learner", "--peer-urls", &peer])
                .status
                .success()
        });
        self.members.push(learner);
        self.launch(self.members.len() - 1, ClusterState::Existing);
        self.wait_ready();
    }

    /// A member by its number.
    #[must_use]
    pub fn member(&self, number: usize) -> &EtcdServer {
        &self.members[number]
    }

    /// A member by its number, to pause or kill it.
    pub fn member_mut(&mut self, number: usize) -> &mut EtcdServer {
        &mut self.members[number]
    }

    /// The number of the member that leads now.
    #[must_use]
    pub fn leader(&self) -> usize {
        let is_leader = |member: &EtcdServer| {
            let out = self.etcdctl_at(&member.endpoint(), &["endpoint", "status", "--write-out=json"]);
            let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
        };
        self.members.iter().position(is_leader).expect("a leader")
    }

    /// All endpoints, separated by commas.
    #[must_use]
    pub fn endpoints(&self) -> String {
        self.members.iter().map(EtcdServer::endpoint).collect::<Vec<_>>().join(",")
    }

    /// Files of a client that the cluster accepts.
    #[must_use]
    pub fn client(&self) -> &ClientFiles {
        &self.client
    }

    /// The authority that the cluster trusts, to make clients with other keys.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// An authority of which the cluster knows nothing.
    #[must_use]
    pub fn other_pki(&self) -> Pki {
        Pki::new(&self.dir.path().join("other-pki"))
    }

    /// Runs etcdctl against all members.
    #[must_use]
    pub fn etcdctl(&self, args: &[&str]) -> Output {
        self.etcdctl_at(&self.endpoints(), args)
    }

    /// Writes one key.
    pub fn put(&self, key: &str, value: &str) {
        assert_success(&self.etcdctl(&["put", "--", key, value]));
    }

    /// The value of one key; `None` when there is no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        let out = self.etcdctl(&["get", "--print-value-only", "--", key]);
        assert_success(&out);
        text(&out.stdout).strip_suffix('\n').map(str::to_owned)
    }

    /// How many keys begin with `prefix`.
    #[must_use]
    pub fn count(&self, prefix: &str) -> u64 {
        let out = self.etcdctl(&[
            "get",
            "--prefix",
            "--count-only",
            "--write-out=fields",
            "--limit=1",
            "--",
            prefix,
        ]);
        assert_success(&out);
        let fields = text(&out.stdout);
        let count = fields.lines().find_map(|line| line.strip_prefix("\"Count\" : "));
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {fields}"))
    }

    /// Writes the keys `{prefix}0` to `{prefix}{keys - 1}`, each with about `value_bytes` of text that hardly compresses.
    ///
    /// One transaction takes up to a thousand of them, so that a database of some 100 MB is a matter of seconds.
    pub fn fill(&self, prefix: &str, keys: usize, value_bytes: usize) {
        self.put_all(prefix, &(0..keys).collect::<Vec<_>>(), value_bytes);
    }

    /// Writes every `step`-th of the keys of [`EtcdCluster::fill`] anew, then lets etcd forget what they were before, as an API
    /// server does: pages all over the database change.
    pub fn churn(&self, prefix: &str, keys: usize, step: usize, value_bytes: usize) {
        self.put_all(prefix, &(0..keys).step_by(step).collect::<Vec<_>>(), value_bytes);
        let status = self.etcdctl(&["endpoint", "status", "--write-out=json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("etcdctl prints JSON");
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        assert_success(&self.etcdctl(&["compaction", "--physical", &revision]));
    }

    fn put_all(&self, prefix: &str, keys: &[usize], value_bytes: usize) {
        let per_transaction = (900_000 / (value_bytes + 64)).clamp(1, 1000);
        let mut noise =
            Noise(prefix.bytes().fold(keys.len() as u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)));
        for some in keys.chunks(per_transaction) {
            let mut transaction = String::from("\n");
            for key in some {
                transaction.extend(["put ", prefix, &key.to_string(), " ", &noise.text(value_bytes), "\n"]);
            }
            transaction += "\n\n";
            self.transaction(&transaction);
        }
    }

    fn transaction(&self, transaction: &str) {
        let mut etcdctl = self.etcdctl_command(&self.endpoints());
        let mut child = etcdctl
            .arg("txn")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl starts");
        child.stdin.take().expect("piped").write_all(transaction.as_bytes()).expect("etcdctl reads");
        assert_success(&child.wait_with_output().expect("etcdctl ends"));
    }

    fn etcdctl_at(&self, endpoints: &str, args: &[&str]) -> Output {
        run(self.etcdctl_command(endpoints).args(args))
    }

    fn etcdctl_command(&self, endpoints: &str) -> std::process::Command {
        let mut etcdctl = command("etcdctl");
        etcdctl
            .args(["--endpoints", endpoints, "--command-timeout=20s"])
            .arg("--cacert")
            .arg(&self.client.ca)
            .arg("--cert")
            .arg(&self.client.cert)
            .arg("--key")
            .arg(&self.client.key);
        etcdctl
    }

    fn prepare(size: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::new(&dir.path().join("pki"));
        let client = pki.client("client", KeyKind::EcP256);
        let members = (0..size).map(EtcdServer::prepare).collect();
        Self { members, client, pki, dir }
    }

    fn initial_cluster(&self) -> String {
        let member = |member: &EtcdServer| format!("{}={}", member.name, member.peer_url());
        self.members.iter().map(member).collect::<Vec<_>>().join(",")
    }

    fn launch(&mut self, number: usize, state: ClusterState) {
        let data = self.dir.path().join(&self.members[number].name);
        let log = self.dir.path().join(format!("{}.log", self.members[number].name));
        let (cert, key) = self.pki.server(&self.members[number].name);
        let mut etcd = command("etcd");
        self.members[number].configure(&mut etcd);
        etcd.arg("--data-dir").arg(data);
        let state = match state {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        };
        etcd.args(["--initial-cluster", &self.initial_cluster(), "--initial-cluster-state", state]);
        // Tests write big batches, and nobody needs their data after a power cut.
        etcd.args(["--max-txn-ops=2000", "--max-request-bytes=4194304", "--unsafe-no-fsync"]);
        etcd.args(["--quota-backend-bytes=4294967296", "--logger=zap", "--log-level=warn"]);
        etcd.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        for (option, file) in [
            ("--trusted-ca-file", self.pki.ca_file()),
            ("--cert-file", cert.clone()),
            ("--key-file", key.clone()),
            ("--peer-trusted-ca-file", self.pki.ca_file()),
            ("--peer-cert-file", cert),
            ("--peer-key-file", key),
        ] {
            etcd.arg(option).arg(file);
        }
        self.members[number].process = Some(ServerProcess::start(&etcd, &log));
    }

    fn serves(&self, member: &EtcdServer) -> bool {
        self.etcdctl_at(&member.endpoint(), &["endpoint", "status", "--command-timeout=2s"]).status.success()
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !self.members.iter().all(|member| self.serves(member)) {
            let logs = || self.members.iter().map(EtcdServer::log).collect::<String>();
            assert!(Instant::now() < deadline, "etcd did not become ready:\n{}", logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl EtcdServer {
    fn prepare(number: usize) -> Self {
        Self { process: None, name: format!("m{number}"), client_port: free_port(), peer_port: free_port() }
    }

    fn configure(&self, etcd: &mut std::process::Command) {
        etcd.args(["--name", &self.name])
            .args(["--listen-client-urls", &self.endpoint(), "--advertise-client-urls", &self.endpoint()])
            .args(["--listen-peer-urls", &self.peer_url()])
            .args(["--initial-advertise-peer-urls", &self.peer_url()]);
    }

    /// The member's URL for clients.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.client_port)
    }

    /// What the member has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(ServerProcess::log).unwrap_or_default()
    }

    /// Freezes the member: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.running().pause();
    }

    /// Lets a frozen member go on.
    pub fn resume(&self) {
        self.running().resume();
    }

    /// Kills the member without warning.
    pub fn kill(&mut self) {
        self.process = None;
    }

    fn running(&self) -> &ServerProcess {
        self.process.as_ref().expect("the etcd member runs")
    }

    fn peer_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.peer_port)
    }
}

/// Text that hardly compresses, the same in every run.
struct Noise(u64);

impl Noise {
    fn text(&mut self, bytes: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // xorshift64: any generator would do.
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            char::from(ALPHABET[usize::try_from(self.0 >> 58).unwrap_or_default()])
        };
        // The first character must not look like an option of etcdctl's `put`.
        std::iter::once('v').chain(std::iter::repeat_with(&mut next).take(bytes.saturating_sub(1))).collect()
    }
}
