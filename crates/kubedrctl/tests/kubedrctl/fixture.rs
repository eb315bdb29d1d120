//! What the tests of this crate share.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use kubedr_repo::{BackupRequest, InitOptions, Location, Repository, S3Options, Secret, SnapshotId, Source};
use kubedr_testing::{EmptyRepository, S3Server, assert_success, text};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub const PASSWORD: &str = "correct-horse-battery";
pub const CLUSTER: &str = "3f6c1f5e-0000-4000-8000-000000000000";

static EMPTY: LazyLock<EmptyRepository> = LazyLock::new(|| {
    EmptyRepository::made_by(PASSWORD, |directory| {
        let location = Location::Local(directory.to_owned());
        drop(Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap());
    })
});

/// The binary under its second name, too.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubedrctl"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A repository with backups, and the environment to reach it.
pub struct Ctl {
    pub directory: TempDir,
    pub variables: Vec<(String, String)>,
    pub ids: Vec<SnapshotId>,
    /// What differs from run to run, and what stands for it.
    names: Vec<(String, String)>,
}

impl Ctl {
    /// A directory with a repository of two backups of `nightly`, the second one with certificates, and a snapshot that is no backup.
    pub fn local() -> Self {
        let directory = TempDir::new().unwrap();
        let place = directory.path().join("repository");
        EMPTY.copy_to(&place);
        let location = Location::Local(place.clone());
        let mut ctl = Self::empty(directory, &place.display().to_string());
        ctl.fill(&location);
        ctl
    }

    /// The same in a bucket.
    pub fn in_bucket(server: &S3Server) -> Self {
        let url = server.repository("backups");
        let options = S3Options::new(Secret::new(server.access_key()), Secret::new(server.secret_key()));
        let location = Location::parse(&url, Some(options)).unwrap();
        let mut ctl = Self::empty(TempDir::new().unwrap(), &url);
        ctl.set("AWS_ACCESS_KEY_ID", server.access_key());
        ctl.set("AWS_SECRET_ACCESS_KEY", server.secret_key());
        ctl.names.push((server.endpoint(), "ENDPOINT".to_owned()));
        EMPTY.copy_to(&server.bucket_dir("backups"));
        ctl.fill(&location);
        ctl
    }

    /// Nothing yet at this place.
    pub fn empty(directory: TempDir, repository: &str) -> Self {
        let names = vec![(directory.path().display().to_string(), "DIR".to_owned())];
        let mut ctl = Self { directory, variables: Vec::new(), ids: Vec::new(), names };
        ctl.set("RESTIC_REPOSITORY", repository);
        ctl.set("RESTIC_PASSWORD", PASSWORD);
        ctl
    }

    fn fill(&mut self, location: &Location) {
        let repository = Repository::open(location, &PASSWORD.into()).unwrap();
        self.names.push((repository.id().to_owned(), "REPOSITORY-ID".to_owned()));
        let tags = |policy: &str| {
            ["cluster", "location", "namespace", "policy"]
                .into_iter()
                .zip([CLUSTER, "s3", "kubedr-system", policy])
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        let (database, archive) = (database(), certificates());
        let both = [("/data/etcd-snapshot.db", &database), ("/data/certificates.tar", &archive)];
        for (time, tags, files) in [
            ("2026-03-01T01:00:07Z", tags("nightly"), &both[..1]),
            ("2026-03-02T01:00:05Z", tags("nightly"), &both[..]),
            ("2026-03-03T00:00:00Z", Vec::new(), &both[1..]),
        ] {
            let source = |(path, content): &(&str, &Vec<u8>)| Source {
                path: (*path).to_owned(),
                size: content.len() as u64,
                mode: 0o600,
                reader: Box::new(io::Cursor::new((*content).clone())),
            };
            let request = BackupRequest {
                time: time.parse().unwrap(),
                host: "master-1".to_owned(),
                tags,
                path: "/data".to_owned(),
                sources: files.iter().map(source).collect(),
            };
            let id = repository.backup(request).unwrap().snapshot_id;
            let number = self.ids.len() + 1;
            self.names.push((id.to_string(), format!("FULL-ID-{number}")));
            self.names.push((id.short().to_owned(), format!("ID-{number:05}")));
            self.ids.push(id);
        }
    }

    /// So many more backups in the directory.
    pub fn add(&mut self, count: usize) {
        self.add_tagged(count, &[]);
    }

    /// So many more with these tags.
    pub fn add_tagged(&mut self, count: usize, tags: &[&str]) {
        let location = Location::Local(self.path("repository"));
        let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
        for number in 0..count {
            let content = number.to_string();
            let source = Source {
                path: "/data/etcd-snapshot.db".to_owned(),
                size: content.len() as u64,
                mode: 0o600,
                reader: Box::new(io::Cursor::new(content)),
            };
            let request = BackupRequest {
                time: "2026-03-04T00:00:00Z".parse().unwrap(),
                host: "master-1".to_owned(),
                tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
                path: "/data".to_owned(),
                sources: vec![source],
            };
            self.ids.push(repository.backup(request).unwrap().snapshot_id);
        }
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.envs(self.variables.iter().cloned()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it to a success; what it printed, with what differs from run to run replaced.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_success(&output);
        assert_eq!(text(&output.stderr), "", "a pipe gets no progress");
        self.stable(&text(&output.stdout))
    }

    /// Runs it with `--output json` to a success.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--output", "json"]].concat());
        assert_success(&output);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs it to a failure with this exit code; what it said, with what differs from run to run replaced.
    pub fn fails(&self, exit_code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{said}");
        self.stable(&said)
    }

    pub fn stable(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Bytes with the hash behind them that etcd puts there.
fn database() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..250_000_u32).flat_map(u32::to_le_bytes).collect();
    let hash = Sha256::digest(&bytes);
    bytes.extend_from_slice(&hash);
    bytes
}

fn certificates() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(11);
    header.set_mtime(1_700_000_000);
    let (uid, gid) = ids_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    header.set_uid(uid);
    header.set_gid(gid);
    archive.append_data(&mut header, "ca.crt", &b"certificate"[..]).unwrap();
    archive.into_inner().unwrap()
}

fn ids_of(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let about = path.metadata().unwrap();
    (about.uid().into(), about.gid().into())
}
