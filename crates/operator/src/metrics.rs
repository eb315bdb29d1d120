//! Figures of the operator itself and of what it looks after, in the text form that Prometheus reads.

mod location;
mod policy;
mod repository;
mod watched;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use kubedr_api::{BackupLocation, MetadataBackupPolicy};
use watched::Watched;

/// The operator's controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerName {
    /// Locations and their init jobs.
    Location,
    /// Policies, and a CronJob for each.
    Policy,
    /// Jobs, until it is known what became of them.
    Run,
    /// Restores.
    Restore,
    /// Records, and what becomes of their snapshots.
    Record,
    /// Policies, and how many of their backups are kept.
    Retention,
    /// Locations, and the jobs that look after their repositories.
    Maintenance,
    /// Policies, and what their backups come to.
    Totals,
}

impl ControllerName {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Location,
        Self::Policy,
        Self::Run,
        Self::Restore,
        Self::Record,
        Self::Retention,
        Self::Maintenance,
        Self::Totals,
    ];

    /// As it stands in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Policy => "policy",
            Self::Run => "run",
            Self::Restore => "restore",
            Self::Record => "record",
            Self::Retention => "retention",
            Self::Maintenance => "maintenance",
            Self::Totals => "totals",
        }
    }
}

/// What follows the name in a line, and the value.
type Sample = (String, String);

/// Counters; all of them are there from the start, zeros included.
#[derive(Debug, Default)]
pub struct Metrics {
    leader: AtomicBool,
    reconciled: [AtomicU64; ControllerName::ALL.len()],
    failed: [AtomicU64; ControllerName::ALL.len()],
    /// Whether each location is available, and what is known of its repository.
    pub locations: Watched<BackupLocation>,
    /// What each policy's backups come to.
    pub policies: Watched<MetadataBackupPolicy>,
}

impl Metrics {
    /// Whether this replica leads. The one that does tells of policies and locations.
    pub fn set_leader(&self, leads: bool) {
        self.leader.store(leads, Relaxed);
        if !leads {
            self.policies.forget();
            self.locations.forget();
        }
    }

    /// Counts a reconcile.
    pub fn count(&self, controller: ControllerName, ok: bool) {
        let counters = if ok { &self.reconciled } else { &self.failed };
        counters[controller as usize].fetch_add(1, Relaxed);
    }

    /// The text exposition.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, help: &str, kind: &str, samples: &[Sample]| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        family(
            "kubedr_operator_build_info",
            "Version of the operator.",
            "gauge",
            &[(version, "1".to_owned())],
        );
        let leads = u64::from(self.leader.load(Relaxed));
        family(
            "kubedr_operator_leader",
            "1 if this replica leads, 0 if it stands by.",
            "gauge",
            &[(String::new(), leads.to_string())],
        );
        let samples: Vec<_> = ControllerName::ALL.into_iter().flat_map(|name| self.samples(name)).collect();
        let help = "Reconciles that have ended, by controller and outcome.";
        family("kubedr_operator_reconciles_total", help, "counter", &samples);
        let now = Timestamp::now();
        self.policies.write(now, &mut family);
        self.locations.all(|locations| {
            family(location::NAME, location::HELP, "gauge", &location::samples(locations));
            repository::write(locations, now, &mut family);
        });
        text
    }

    fn samples(&self, name: ControllerName) -> [Sample; 2] {
        let sample = |outcome, counters: &[AtomicU64]| {
            let labels = format!("{{controller=\"{}\",outcome=\"{outcome}\"}}", name.as_str());
            (labels, counters[name as usize].load(Relaxed).to_string())
        };
        [sample("ok", &self.reconciled), sample("error", &self.failed)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_from_the_start() {
        let text = Metrics::default().render();
        assert!(text.contains("kubedr_operator_leader 0\n"), "{text}");
        assert!(text.contains(r#"kubedr_operator_reconciles_total{controller="restore",outcome="error"} 0"#));
        assert_eq!(text.matches("kubedr_operator_reconciles_total{").count(), 16);
    }

    #[test]
    fn a_reconcile_counts_for_its_controller_and_outcome_only() {
        let metrics = Metrics::default();
        metrics.count(ControllerName::Policy, true);
        let text = metrics.render();
        assert!(text.contains(r#"{controller="policy",outcome="ok"} 1"#));
        assert!(text.contains(r#"{controller="policy",outcome="error"} 0"#));
    }
}
