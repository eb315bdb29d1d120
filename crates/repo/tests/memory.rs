//! What a backup costs in memory. Alone in its process, whose peak is what is measured.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "the functions that tests share are tests, too")]

use std::{fs, io, io::Read};

use kubedr_repo::{BackupRequest, InitOptions, Location, Repository, S3Options, Secret, Source};
use kubedr_testing::S3Server;

/// The project promises 160 MiB for the whole job, of which scrypt takes 128 for a moment.
const LIMIT_MIB: u64 = 155;

/// The size of etcd's database in the project's measurements.
const SIZE: u64 = 290_000_000;

/// A stream that looks like a database: pages of cheap random text with empty space at their ends.
struct Pages {
    state: u64,
    page: Vec<u8>,
    at: usize,
}

impl Pages {
    fn turn(&mut self) {
        for word in self.page[..2400].chunks_mut(8) {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Seven bits of eight: compressible, but not for nothing.
            word.copy_from_slice(&((self.state ^ (self.state >> 29)) & 0x7f3f_1f7f_3f1f_7f3f).to_le_bytes());
        }
        self.at = 0;
    }
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.page.len() {
            self.turn();
        }
        let count = buffer.len().min(self.page.len() - self.at);
        buffer[..count].copy_from_slice(&self.page[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

#[test]
fn a_backup_of_290_mb_stays_within_the_memory_that_is_promised() {
    let server = S3Server::start();
    let keys = S3Options::new(Secret::new(server.access_key()), Secret::new(server.secret_key()));
    let location = Location::parse(&server.repository("backups"), Some(keys)).unwrap();
    let (repository, _) = Repository::init(&location, &"password".into(), &InitOptions::default()).unwrap();
    for (round, seed) in [(1, 7), (2, 8)] {
        let begin = std::time::Instant::now();
        let pages = Pages { state: seed, page: vec![0; 4096], at: 4096 };
        let backup = repository
            .backup(BackupRequest {
                time: jiff::Timestamp::now(),
                host: "master-1".to_owned(),
                tags: Vec::new(),
                path: "/data".to_owned(),
                sources: vec![Source {
                    path: "/data/etcd-snapshot.db".to_owned(),
                    size: SIZE,
                    mode: 0o600,
                    reader: Box::new(pages.take(SIZE)),
                }],
            })
            .unwrap();
        let stored = backup.data_added_packed / 1_000_000;
        println!("round {round}: {:.1?}, {stored} MB stored, peak {} MiB", begin.elapsed(), peak_mib());
    }
    let peak = peak_mib();
    assert!(peak < LIMIT_MIB, "peak {peak} MiB, limit {LIMIT_MIB} MiB");
}
