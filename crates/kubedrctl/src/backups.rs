//! A backup as this program shows it.

use jiff::{Timestamp, tz::TimeZone};
use kubedr_api::{names::snapshot as tag, record_name};
use kubedr_repo::{Contents, Snapshot};
use serde::Serialize;

/// A backup: a snapshot with an etcd database in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Id of the snapshot, in full.
    pub id: String,
    /// Name of its record in a cluster.
    pub record: String,
    /// When it was taken.
    pub time: Timestamp,
    /// The policy.
    pub policy: Option<String>,
    /// The cluster: UID of its namespace kube-system.
    pub cluster: Option<String>,
    /// Namespace of the policy.
    pub namespace: Option<String>,
    /// The location.
    pub location: Option<String>,
    /// The node.
    pub host: String,
    /// All tags.
    pub tags: Vec<String>,
    /// Bytes that a restore writes.
    pub size: u64,
    /// Whether it has the certificates too.
    pub certificates: bool,
}

impl Backup {
    /// The backup in this snapshot.
    pub fn new(snapshot: &Snapshot, contents: Contents) -> Self {
        let labels = snapshot.labels();
        let label = |name: &str| labels.get(name).map(|value| (*value).to_owned());
        Self {
            id: snapshot.id.to_string(),
            record: record_name(snapshot.id.as_str()),
            time: snapshot.time,
            policy: label(tag::TAG_POLICY),
            cluster: label(tag::TAG_CLUSTER),
            namespace: label(tag::TAG_NAMESPACE),
            location: label(tag::TAG_LOCATION),
            host: snapshot.host.clone(),
            tags: snapshot.tags.clone(),
            size: contents.size,
            certificates: contents.certificates,
        }
    }
}

/// An id as somebody gives it: in capitals perhaps, or as the name of a record.
pub fn snapshot_name(given: &str) -> String {
    let lower = given.trim().to_ascii_lowercase();
    lower.strip_prefix("mbr-").unwrap_or(&lower).to_owned()
}

/// A time to the second, in UTC.
pub fn utc(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Yes or no.
pub const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_may_be_called_by_its_record() {
        assert_eq!(snapshot_name("mbr-8A1C06fd"), "8a1c06fd");
        assert_eq!(snapshot_name("8a1c"), "8a1c");
        assert_eq!(snapshot_name("latest"), "latest");
    }

    #[test]
    fn times_are_told_to_the_second() {
        assert_eq!(utc("2026-11-22T09:31:04.5Z".parse().unwrap()), "2026-11-22 09:31:04");
    }
}
