//! Counters of the operator itself, in the text form that Prometheus reads.

mod location;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

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
}

impl ControllerName {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Location,
        Self::Policy,
        Self::Run,
        Self::Restore,
        Self::Record,
        Self::Retention,
        Self::Maintenance,
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
        }
    }
}

/// Counters; all of them are there from the start, zeros included.
#[derive(Debug, Default)]
pub struct Metrics {
    leader: AtomicBool,
    reconciled: [AtomicU64; ControllerName::ALL.len()],
    failed: [AtomicU64; ControllerName::ALL.len()],
    /// Whether each location is available.
    pub locations: location::Locations,
}

impl Metrics {
    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.store(leads, Relaxed);
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
        let mut family = |name: &str, help: &str, kind: &str, samples: &[(String, u64)]| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        family("kubedr_operator_build_info", "Version of the operator.", "gauge", &[(version, 1)]);
        let leads = u64::from(self.leader.load(Relaxed));
        family(
            "kubedr_operator_leader",
            "1 if this replica holds the lease.",
            "gauge",
            &[(String::new(), leads)],
        );
        let samples: Vec<_> = ControllerName::ALL.into_iter().flat_map(|name| self.samples(name)).collect();
        let help = "Reconciles by controller and outcome.";
        family("kubedr_operator_reconciles_total", help, "counter", &samples);
        family(location::NAME, location::HELP, "gauge", &self.locations.samples());
        text
    }

    fn samples(&self, name: ControllerName) -> [(String, u64); 2] {
        let sample = |outcome, counters: &[AtomicU64]| {
            let labels = format!("{{controller=\"{}\",outcome=\"{outcome}\"}}", name.as_str());
            (labels, counters[name as usize].load(Relaxed))
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
        assert_eq!(text.matches("kubedr_operator_reconciles_total{").count(), 14);
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
