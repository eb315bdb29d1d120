//! Lock files: restic's own form, which any restic reads.

use std::{fmt, fs, os::unix::fs::MetadataExt, process, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use rustic_core::Id;
use serde::{Deserialize, Serialize};

use super::{LockHolder, LockMode};
use crate::seal::{SealError, Sealer};

/// The age from which on restic, too, takes a lock for left behind.
pub(super) const STALE_AFTER: Duration = Duration::from_mins(30);

/// What a lock in the repository says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockInfo {
    /// Name of its file: 64 hex digits. Each refresh gives another.
    pub id: String,
    /// When it was taken or last refreshed, by its holder's clock.
    pub time: Timestamp,
    /// Whether it excludes all others.
    pub exclusive: bool,
    /// Host of its holder.
    pub hostname: String,
    /// User of its holder.
    pub username: String,
    /// Process of its holder, on its host.
    pub pid: i64,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.exclusive { "an exclusive lock" } else { "a lock" };
        let Self { username, hostname, pid, .. } = self;
        write!(f, "{kind} of `{username}` on `{hostname}` (process {pid}), refreshed {:.0}", self.time)
    }
}

impl LockInfo {
    /// Whether restic's rule takes it for left behind. One from the future is not.
    pub(super) fn is_stale(&self, now: Timestamp) -> bool {
        Duration::try_from(now.duration_since(self.time)).is_ok_and(|age| age > STALE_AFTER)
    }

    /// Whether it keeps one of this mode away.
    pub(super) fn excludes(&self, mode: LockMode) -> bool {
        self.exclusive || mode == LockMode::Exclusive
    }
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct LockFile {
    time: Timestamp,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    gid: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(id: &u32) -> bool {
    *id == 0
}

/// Why a lock file says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockFileError {
    /// It cannot be encrypted or decrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is no lock.
    #[error("it is no lock: {0}")]
    Content(#[from] serde_json::Error),
}

/// A lock of this process.
pub(super) fn compose(
    sealer: &Sealer,
    holder: &LockHolder,
    mode: LockMode,
    time: Timestamp,
) -> Result<(Id, Bytes), LockFileError> {
    let (uid, gid) = fs::metadata("/proc/self").map_or((0, 0), |process| (process.uid(), process.gid()));
    let content = LockFile {
        time,
        exclusive: mode == LockMode::Exclusive,
        hostname: holder.hostname.clone(),
        username: holder.username.clone(),
        pid: process::id().into(),
        uid,
        gid,
    };
    Ok(sealer.seal(&serde_json::to_vec(&content)?)?)
}

/// What a lock file says.
pub(super) fn parse(sealer: &Sealer, id: &Id, content: &[u8]) -> Result<LockInfo, LockFileError> {
    let LockFile { time, exclusive, hostname, username, pid, uid: _, gid: _ } =
        serde_json::from_slice(&sealer.open(content)?)?;
    Ok(LockInfo { id: id.to_hex().as_str().to_owned(), time, exclusive, hostname, username, pid })
}

#[cfg(test)]
mod tests {
    use rustic_core::repofile::MasterKey;

    use super::*;

    fn lock(time: &str) -> LockInfo {
        LockInfo {
            id: "00".repeat(32),
            time: time.parse().unwrap(),
            exclusive: true,
            hostname: "pod-7".to_owned(),
            username: "kubedr".to_owned(),
            pid: 1,
        }
    }

    #[test]
    fn what_is_composed_is_what_is_parsed() {
        let sealer = Sealer::new(&MasterKey::new(), 2);
        let holder = LockHolder { hostname: "pod-7".to_owned(), username: "kubedr".to_owned() };
        let now = Timestamp::now();
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            let (id, content) = compose(&sealer, &holder, mode, now).unwrap();
            let info = parse(&sealer, &id, &content).unwrap();
            assert_eq!(info.id, id.to_hex().as_str());
            assert_eq!((info.time, info.exclusive), (now, mode == LockMode::Exclusive));
            assert_eq!((info.hostname.as_str(), info.username.as_str()), ("pod-7", "kubedr"));
            assert_eq!(info.pid, i64::from(process::id()));
        }
    }

    #[test]
    fn a_lock_as_go_writes_it_is_understood() {
        let sealer = Sealer::new(&MasterKey::new(), 1);
        let (id, content) = sealer
            .seal(br#"{"time":"2026-11-22T12:00:00.123456789+01:00","exclusive":false,"hostname":"h","username":"root","pid":7}"#)
            .unwrap();
        let info = parse(&sealer, &id, &content).unwrap();
        assert_eq!(info.time, "2026-11-22T11:00:00.123456789Z".parse().unwrap());
        assert_eq!(info.to_string(), "a lock of `root` on `h` (process 7), refreshed 2026-11-22T11:00:00Z");
    }

    #[test]
    fn only_a_lock_older_than_half_an_hour_is_stale_and_never_one_from_the_future() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        for (time, stale) in [
            ("2026-11-22T11:29:59Z", true),
            ("2026-11-22T11:30:00Z", false),
            ("2026-11-22T11:59:00Z", false),
            ("2026-11-22T18:00:00Z", false),
            ("2030-01-01T00:00:00Z", false),
            ("0001-01-01T00:00:00Z", true),
        ] {
            assert_eq!(lock(time).is_stale(now), stale, "{time}");
        }
    }

    #[test]
    fn exclusive_conflicts_with_all_and_shared_with_exclusive_only() {
        let exclusive = lock("2026-11-22T12:00:00Z");
        let shared = LockInfo { exclusive: false, ..exclusive.clone() };
        assert!(exclusive.excludes(LockMode::Shared) && exclusive.excludes(LockMode::Exclusive));
        assert!(!shared.excludes(LockMode::Shared) && shared.excludes(LockMode::Exclusive));
    }
}
