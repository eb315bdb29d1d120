//! What the tests of this crate share.

use std::{
    io::{self, Read},
    sync::LazyLock,
};

use kubedr_repo::{BackupRequest, InitOptions, Location, Repository, S3Options, Secret, Source, TlsTrust};
use kubedr_testing::{EmptyRepository, S3Server};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

pub const PASSWORD: &str = "correct horse battery staple";

static EMPTY: LazyLock<EmptyRepository> = LazyLock::new(|| {
    EmptyRepository::made_by(PASSWORD, |directory| {
        let location = Location::Local(directory.to_owned());
        drop(Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap());
    })
});

/// A new repository in a directory.
pub fn local() -> (TempDir, Repository) {
    let directory = TempDir::new().unwrap();
    EMPTY.copy_to(directory.path());
    let location = Location::Local(directory.path().to_owned());
    let repository = Repository::open(&location, &PASSWORD.into()).unwrap();
    (directory, repository)
}

/// A bucket of the server, with the keys of its owner and trust in its authority.
pub fn bucket(server: &S3Server, name: &str) -> Location {
    bucket_with(server, name, server.access_key(), server.secret_key())
}

/// A bucket of the server, with these keys.
pub fn bucket_with(server: &S3Server, name: &str, access_key: &str, secret_key: &str) -> Location {
    let mut options = S3Options::new(Secret::new(access_key), Secret::new(secret_key));
    if let Some(pem) = server.ca_pem() {
        options.tls = TlsTrust::Authorities(pem.into_bytes());
    }
    Location::parse(&server.repository(name), Some(options)).unwrap()
}

/// A new repository in a bucket.
pub fn in_bucket(server: &S3Server, name: &str) -> Repository {
    EMPTY.copy_to(&server.bucket_dir(name));
    Repository::open(&bucket(server, name), &PASSWORD.into()).unwrap()
}

/// Bytes that look like a database: random pages between empty ones.
pub fn database(pages: usize, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; pages * 4096];
    for page in bytes.chunks_mut(4096).step_by(2) {
        random.fill_bytes(&mut page[..3000]);
    }
    bytes
}

/// A source with this content.
pub fn source(path: &str, content: &[u8]) -> Source {
    Source {
        path: path.to_owned(),
        size: content.len() as u64,
        mode: 0o600,
        reader: Box::new(io::Cursor::new(content.to_vec())),
    }
}

/// A backup of these sources.
pub fn request(sources: Vec<Source>) -> BackupRequest {
    BackupRequest {
        time: jiff::Timestamp::now(),
        host: "master-1".to_owned(),
        tags: vec!["cluster=c0ffee".to_owned(), "policy=nightly".to_owned()],
        path: "/data".to_owned(),
        sources,
    }
}

/// Database and certificates.
pub fn sources(database: &[u8], certificates: &[u8]) -> Vec<Source> {
    vec![source("/data/etcd-snapshot.db", database), source("/data/certificates.tar", certificates)]
}

/// A reader that calls `at` once after `after` bytes, and goes on with its verdict.
pub struct Interrupted<R, F> {
    pub inner: R,
    pub after: u64,
    pub at: Option<F>,
}

impl<R: Read, F: FnOnce() -> io::Result<()>> Read for Interrupted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.after == 0
            && let Some(at) = self.at.take()
        {
            at()?;
        }
        let count = self.inner.read(buffer)?;
        self.after = self.after.saturating_sub(count as u64);
        Ok(count)
    }
}
