//! The figures of each policy, as its status says when they are asked for.
//!
//! None is kept here: after a restart none is lower than before, and those of a policy that is gone are gone.

use jiff::Timestamp;
use kube::ResourceExt;
use kubedr_api::{BackupTotals, MetadataBackupPolicy, missed_backup};

use super::{Sample, Watched};

/// A family of metrics: name, help, kind, and its samples for a policy.
type Family = (&'static str, &'static str, &'static str, fn(&Figures) -> Vec<Sample>);

/// The first five are those of KubeDR 0.x, counters without the suffix `_total` as they were.
const FAMILIES: [Family; 10] = [
    ("kubedr_backup_size_bytes", "Bytes that the last successful backup newly stored.", "gauge", |of| {
        vec![of.sample(of.totals.last_data_added)]
    }),
    ("kubedr_num_backups", "Backups that have ended, with success or without.", "counter", |of| {
        vec![of.sample(of.totals.succeeded + of.totals.failed)]
    }),
    ("kubedr_num_successful_backups", "Backups that succeeded.", "counter", |of| {
        vec![of.sample(of.totals.succeeded)]
    }),
    ("kubedr_num_failed_backups", "Backups that failed or could not start.", "counter", |of| {
        vec![of.sample(of.totals.failed)]
    }),
    ("kubedr_backup_duration_seconds", "How long successful backups took.", "histogram", Figures::durations),
    ("kubedr_backup_processed_bytes", "Bytes that the last successful backup read.", "gauge", |of| {
        vec![of.sample(of.totals.last_bytes_processed)]
    }),
    (
        "kubedr_consecutive_failures",
        "Backups that failed since the last one that succeeded.",
        "gauge",
        |of| vec![of.sample(of.totals.consecutive_failures)],
    ),
    (
        "kubedr_last_success_timestamp_seconds",
        "When the last successful backup was stored and checked, in Unix time; absent before the first.",
        "gauge",
        |of| of.last_success.map(|time| of.sample(time)).into_iter().collect(),
    ),
    (
        "kubedr_backup_overdue",
        "1 if a backup was due ten minutes and startingDeadlineSeconds ago or more and none has begun, else 0; absent if the schedule cannot be read.",
        "gauge",
        |of| of.overdue.map(|overdue| of.sample(i64::from(overdue))).into_iter().collect(),
    ),
    ("kubedr_policy_suspended", "1 if the policy is paused by its field suspend, else 0.", "gauge", |of| {
        vec![of.sample(i64::from(of.suspended))]
    }),
];

impl Watched<MetadataBackupPolicy> {
    /// Hands each family to `write`.
    pub fn write(&self, now: Timestamp, mut write: impl FnMut(&str, &str, &str, &[Sample])) {
        let all = self.state();
        let readable = all.iter().filter_map(|guarded| guarded.0.as_ref().ok());
        let mut figures: Vec<_> = readable.map(|policy| Figures::of(policy, now)).collect();
        figures.sort_unstable_by(|a, b| a.policy.cmp(&b.policy));
        for (name, help, kind, samples) in FAMILIES {
            write(name, help, kind, &figures.iter().flat_map(samples).collect::<Vec<_>>());
        }
    }
}

/// The figures of one policy.
struct Figures {
    policy: String,
    totals: BackupTotals,
    last_success: Option<i64>,
    overdue: Option<bool>,
    suspended: bool,
}

impl Figures {
    fn of(policy: &MetadataBackupPolicy, now: Timestamp) -> Self {
        let status = policy.status.as_ref();
        let last_success = status.and_then(|status| status.last_successful_time.as_deref());
        Self {
            policy: policy.name_any(),
            totals: status.and_then(|status| status.totals.clone()).unwrap_or_default(),
            last_success: last_success.and_then(|time| Some(time.parse::<Timestamp>().ok()?.as_second())),
            overdue: missed_backup(policy, now).ok().map(|missed| missed.is_some()),
            suspended: policy.spec.suspend,
        }
    }

    fn sample(&self, value: i64) -> Sample {
        // The name of an object has no character that a label's value would have to escape.
        (format!("{{policyName=\"{}\"}}", self.policy), value.to_string())
    }

    fn durations(&self) -> Vec<Sample> {
        let (policy, totals) = (&self.policy, &self.totals);
        let bucket = |bound: &str, count: i64| {
            (format!("_bucket{{policyName=\"{policy}\",le=\"{bound}\"}}"), count.to_string())
        };
        let mut samples: Vec<_> =
            totals.durations().map(|(bound, count)| bucket(&bound.to_string(), count)).collect();
        samples.push(bucket("+Inf", totals.succeeded));
        let millis = totals.duration_millis;
        let sum = format!("{}.{:03}", millis / 1000, millis % 1000);
        samples.push((format!("_sum{{policyName=\"{policy}\"}}"), sum));
        samples.push((format!("_count{{policyName=\"{policy}\"}}"), totals.succeeded.to_string()));
        samples
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use kube::runtime::reflector::store;
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;

    type Guarded = DeserializeGuard<MetadataBackupPolicy>;

    fn policy(name: &str, status: &Value) -> Guarded {
        let spec = json!({"destination": "s3", "schedule": "@daily"});
        let object = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn watching() -> (Metrics, Writer<Guarded>) {
        let (reader, writer) = store();
        let metrics = Metrics::default();
        metrics.policies.watch(reader);
        (metrics, writer)
    }

    fn lines(metrics: &Metrics, of: &str) -> Vec<String> {
        let text = metrics.render();
        let of = format!("policyName=\"{of}\"");
        text.lines().filter(|line| line.contains(&of)).map(str::to_owned).collect()
    }

    #[test]
    fn a_policy_has_all_of_kubedrs_five_from_the_beginning_zeros_included() {
        let (metrics, mut writer) = watching();
        writer.apply_watcher_event(&Event::Apply(policy("daily", &Value::Null)));
        let buckets = [
            "15", "30", "60", "300", "600", "900", "1800", "3600", "7200", "10800", "14400", "18000",
            "21600", "25200", "28800", "32400", "36000", "+Inf",
        ];
        let bucket =
            |le| format!("kubedr_backup_duration_seconds_bucket{{policyName=\"daily\",le=\"{le}\"}} 0");
        let plain = |name: &str, value: &str| format!("kubedr_{name}{{policyName=\"daily\"}} {value}");
        let mut expected: Vec<_> =
            ["backup_size_bytes", "num_backups", "num_successful_backups", "num_failed_backups"]
                .map(|name| plain(name, "0"))
                .to_vec();
        expected.extend(buckets.map(bucket));
        expected.push(plain("backup_duration_seconds_sum", "0.000"));
        for name in [
            "backup_duration_seconds_count",
            "backup_processed_bytes",
            "consecutive_failures",
            "backup_overdue",
            "policy_suspended",
        ] {
            expected.push(plain(name, "0"));
        }
        assert_eq!(lines(&metrics, "daily"), expected);
        for kind in ["backup_size_bytes gauge", "num_backups counter", "backup_duration_seconds histogram"] {
            assert_eq!(metrics.render().matches(&format!("# TYPE kubedr_{kind}\n")).count(), 1, "{kind}");
        }
    }

    #[test]
    fn the_figures_are_those_of_the_status() {
        let (metrics, mut writer) = watching();
        let mut totals = BackupTotals::default();
        for (uid, seconds) in [("a", 16), ("b", 40_000)] {
            let duration = std::time::Duration::from_millis(seconds * 1000 + 7);
            let size = Some(kubedr_api::BackupSize { added: 123, processed: 456 });
            totals.count(uid, kubedr_api::BackupEnd::Succeeded { duration, size });
        }
        totals.count("c", kubedr_api::BackupEnd::Failed);
        let status = json!({"totals": totals, "lastSuccessfulTime": "1970-01-01T01:00:00.5Z"});
        writer.apply_watcher_event(&Event::Apply(policy("daily", &status)));
        writer.apply_watcher_event(&Event::Apply(policy("hourly", &Value::Null)));
        let lines = lines(&metrics, "daily");
        for (line, value) in [
            ("kubedr_backup_size_bytes{policyName=\"daily\"}", "123"),
            ("kubedr_backup_processed_bytes{policyName=\"daily\"}", "456"),
            ("kubedr_num_backups{policyName=\"daily\"}", "3"),
            ("kubedr_num_successful_backups{policyName=\"daily\"}", "2"),
            ("kubedr_num_failed_backups{policyName=\"daily\"}", "1"),
            ("kubedr_backup_duration_seconds_bucket{policyName=\"daily\",le=\"15\"}", "0"),
            ("kubedr_backup_duration_seconds_bucket{policyName=\"daily\",le=\"30\"}", "1"),
            ("kubedr_backup_duration_seconds_bucket{policyName=\"daily\",le=\"36000\"}", "1"),
            ("kubedr_backup_duration_seconds_bucket{policyName=\"daily\",le=\"+Inf\"}", "2"),
            ("kubedr_backup_duration_seconds_sum{policyName=\"daily\"}", "40016.014"),
            ("kubedr_backup_duration_seconds_count{policyName=\"daily\"}", "2"),
            ("kubedr_consecutive_failures{policyName=\"daily\"}", "1"),
            ("kubedr_last_success_timestamp_seconds{policyName=\"daily\"}", "3600"),
        ] {
            assert!(lines.contains(&format!("{line} {value}")), "{line} {value} in {lines:#?}");
        }
    }

    #[test]
    fn a_policy_that_is_paused_says_so() {
        let (metrics, mut writer) = watching();
        let mut paused = policy("daily", &Value::Null);
        paused.0.as_mut().unwrap().spec.suspend = true;
        writer.apply_watcher_event(&Event::Apply(paused));
        let said = "kubedr_policy_suspended{policyName=\"daily\"} 1".to_owned();
        assert!(lines(&metrics, "daily").contains(&said));
    }

    #[test]
    fn the_series_of_a_policy_that_is_deleted_disappear() {
        let (metrics, mut writer) = watching();
        writer.apply_watcher_event(&Event::Apply(policy("daily", &Value::Null)));
        assert!(!lines(&metrics, "daily").is_empty());
        writer.apply_watcher_event(&Event::Delete(policy("daily", &Value::Null)));
        assert_eq!(lines(&metrics, "daily"), Vec::<String>::new());
    }

    #[test]
    fn who_no_longer_leads_tells_of_no_policy_and_who_leads_again_of_those_that_are_there_then() {
        let (metrics, mut writer) = watching();
        writer.apply_watcher_event(&Event::Apply(policy("daily", &Value::Null)));
        metrics.set_leader(false);
        assert_eq!(lines(&metrics, "daily"), Vec::<String>::new());
        let (reader, mut writer) = store();
        metrics.set_leader(true);
        metrics.policies.watch(reader);
        writer.apply_watcher_event(&Event::Apply(policy("hourly", &Value::Null)));
        assert!(!lines(&metrics, "hourly").is_empty() && lines(&metrics, "daily").is_empty());
    }
}
