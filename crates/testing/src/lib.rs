//! Real servers for tests, and the stock tools that judge what this project writes.
//!
//! A mock of etcd or of S3 would agree with whatever we believed when we wrote it, so tests talk to the real programs: etcd
//! with client certificates, versitygw as the S3 server, and restic, etcdctl and etcdutl as independent readers. Every
//! server listens on a free port of the loopback interface, keeps its data in a directory of its own, and ends with the test,
//! even when the test process is killed.
//!
//! Two things cannot be had from a real server: an API server that refuses, fails and conflicts just when a test wants it,
//! and the endpoints by which AWS gives roles to those who run there. For these there are [`FakeApi`] and [`RoleServer`].
//!
//! Nothing here is skipped: a missing tool ends the test with the command that builds it. As in any test code, what goes wrong
//! panics with the cause.
#![allow(clippy::panic, reason = "only tests use this crate, and there a panic is the failure report")]
#![allow(clippy::missing_panics_doc, reason = "every function panics when its tool or server fails")]

mod etcd;
mod fake_api;
mod key;
mod many_backups;
mod pki;
mod process;
mod question;
mod restic;
mod role_server;
mod s3;
mod tool;

pub use etcd::{EtcdCluster, EtcdServer};
pub use fake_api::FakeApi;
pub use key::{EmptyRepository, key_file, open_at_once};
pub use many_backups::{ManyBackups, age_marks};
pub use pki::{ClientFiles, KeyKind, Pki};
pub use process::{ServerProcess, free_port, wait_until};
pub use restic::{Restic, assert_success, text};
pub use role_server::{CONTAINER_TOKEN, ROLE_ARN, RoleServer, WEB_IDENTITY_TOKEN};
pub use s3::{Account, S3Server};
pub use tool::{command, prometheus_tool, run, tool};
