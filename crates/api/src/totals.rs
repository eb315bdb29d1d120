//! What all backups of a policy come to: the figures behind its metrics, and which Jobs are in them.

use std::time::Duration;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Upper bounds of the classes of durations, in seconds: those of KubeDR 0.x, a quarter of a minute to ten hours.
pub const DURATION_BUCKETS: [u32; 17] = [
    15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 18_000, 21_600, 25_200, 28_800, 32_400,
    36_000,
];

/// What all backups of a policy come to, those included whose records and Jobs are gone.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BackupTotals {
    /// Backups that succeeded.
    #[serde(default)]
    pub succeeded: i64,
    /// Backups that failed.
    #[serde(default)]
    pub failed: i64,
    /// Backups that failed since the last one that succeeded.
    #[serde(default)]
    pub consecutive_failures: i64,
    /// `dataAdded` of the last successful backup.
    #[serde(default)]
    pub last_data_added: i64,
    /// `totalBytesProcessed` of the last successful backup.
    #[serde(default)]
    pub last_bytes_processed: i64,
    /// How long the successful backups took together, in milliseconds.
    #[serde(default)]
    pub duration_millis: i64,
    /// How many of them took up to 15 s, 30 s, 1 m, 5 m, 10 m, 15 m, 30 m, 1 h, 2 h and so on up to 10 h, each counted once.
    #[serde(default)]
    pub duration_buckets: Vec<i64>,
    /// UIDs of the Jobs that are counted, the last one at the end. Those whose Jobs are gone are taken off with the next.
    #[serde(default, rename = "countedJobUIDs")]
    pub counted_job_uids: Vec<String>,
}

/// How a backup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupEnd {
    /// With a snapshot.
    Succeeded {
        /// How long it took.
        duration: Duration,
        /// Its bytes, if they are known.
        size: Option<BackupSize>,
    },
    /// Without one.
    Failed,
}

/// Bytes of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupSize {
    /// Newly stored, after deduplication.
    pub added: i64,
    /// Read.
    pub processed: i64,
}

impl BackupTotals {
    /// Whether the backup of this Job is in these figures.
    #[must_use]
    pub fn has_counted(&self, job_uid: &str) -> bool {
        self.counted_job_uids.iter().any(|counted| counted == job_uid)
    }

    /// Adds the backup of this Job, unless it is there already. Backups are added in the order in which they ended.
    pub fn count(&mut self, job_uid: &str, end: BackupEnd) {
        if self.has_counted(job_uid) {
            return;
        }
        self.counted_job_uids.push(job_uid.to_owned());
        match end {
            BackupEnd::Failed => {
                self.failed += 1;
                self.consecutive_failures += 1;
            }
            BackupEnd::Succeeded { duration, size } => {
                self.succeeded += 1;
                self.consecutive_failures = 0;
                if let Some(BackupSize { added, processed }) = size {
                    self.last_data_added = added;
                    self.last_bytes_processed = processed;
                }
                let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                self.duration_millis = self.duration_millis.saturating_add(millis);
                self.duration_buckets.resize(DURATION_BUCKETS.len(), 0);
                let fits = |bound: &u32| duration <= Duration::from_secs(u64::from(*bound));
                if let Some(bucket) = DURATION_BUCKETS.iter().position(fits) {
                    self.duration_buckets[bucket] += 1;
                }
            }
        }
    }

    /// Takes off the UIDs that nobody can ask for any more. The last one stays.
    pub fn forget_jobs(&mut self, may_be_asked_for: impl Fn(&str) -> bool) {
        let last = self.counted_job_uids.last().cloned();
        self.counted_job_uids.retain(|uid| Some(uid) == last.as_ref() || may_be_asked_for(uid));
    }

    /// For each of [`DURATION_BUCKETS`], how many successful backups took no longer.
    pub fn durations(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let counts = self.duration_buckets.iter().copied().chain(std::iter::repeat(0));
        DURATION_BUCKETS.into_iter().zip(counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn succeeded(seconds: u64) -> BackupEnd {
        let size = Some(BackupSize { added: 7, processed: 9 });
        BackupEnd::Succeeded { duration: Duration::from_secs(seconds), size }
    }

    #[test]
    fn a_job_is_counted_once_however_often_it_is_added() {
        let mut totals = BackupTotals::default();
        for end in [succeeded(1), succeeded(1), BackupEnd::Failed] {
            totals.count("a", end);
        }
        assert_eq!((totals.succeeded, totals.failed, totals.duration_millis), (1, 0, 1000));
    }

    #[test]
    fn a_success_ends_a_row_of_failures_and_a_failure_keeps_the_size() {
        let mut totals = BackupTotals::default();
        for (uid, end) in [("a", BackupEnd::Failed), ("b", BackupEnd::Failed)] {
            totals.count(uid, end);
        }
        assert_eq!(totals.consecutive_failures, 2);
        totals.count("c", succeeded(1));
        assert_eq!(totals.consecutive_failures, 0);
        totals.count("d", BackupEnd::Failed);
        let sizes = |totals: &BackupTotals| (totals.last_data_added, totals.last_bytes_processed);
        assert_eq!((totals.consecutive_failures, sizes(&totals)), (1, (7, 9)));
        totals.count("e", BackupEnd::Succeeded { duration: Duration::ZERO, size: None });
        assert_eq!((totals.failed, sizes(&totals)), (3, (7, 9)));
    }

    #[test]
    fn a_duration_is_in_every_class_from_the_first_that_it_fits_into() {
        let mut totals = BackupTotals::default();
        assert!(totals.durations().all(|(_, count)| count == 0) && totals.durations().count() == 17);
        for (uid, seconds) in [("a", 15), ("b", 16), ("c", 36_001)] {
            totals.count(uid, succeeded(seconds));
        }
        let counts: Vec<_> = totals.durations().collect();
        assert_eq!(counts[..2], [(15, 1), (30, 2)]);
        assert_eq!(counts[16], (36_000, 2), "the third is in none");
        assert_eq!(totals.succeeded, 3);
    }

    #[test]
    fn of_the_jobs_that_are_gone_only_the_last_one_is_remembered() {
        let mut totals = BackupTotals::default();
        for uid in ["a", "b", "c"] {
            totals.count(uid, BackupEnd::Failed);
        }
        totals.forget_jobs(|uid| uid == "b");
        assert_eq!(totals.counted_job_uids, ["b", "c"]);
    }
}
