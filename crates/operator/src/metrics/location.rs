//! Whether each location is available, as its status says.

use kube::ResourceExt;
use kubedr_api::{BackupLocation, BackupLocationStatus, ConditionType, Phase};

use super::{Sample, Watched};

/// Name of the metric.
pub const NAME: &str = "kubedr_location_available";
/// What it means.
pub const HELP: &str = "1 if the location was initialised and its storage answered when last asked, else 0; absent until it was asked.";

impl Watched<BackupLocation> {
    /// Hands the locations that there are to `look`, by name.
    pub fn all<T>(&self, look: impl FnOnce(&[&BackupLocation]) -> T) -> T {
        let all = self.state();
        let mut readable: Vec<_> = all.iter().filter_map(|guarded| guarded.0.as_ref().ok()).collect();
        readable.sort_unstable_by_key(|location| location.name_any());
        look(&readable)
    }
}

/// A sample for each of these locations of which something is known.
pub fn samples(locations: &[&BackupLocation]) -> Vec<Sample> {
    locations.iter().filter_map(|location| sample(location)).collect()
}

fn sample(location: &BackupLocation) -> Option<Sample> {
    let available = is_available(location.status.as_ref()?)?;
    // The name of an object has no character that a label's value would have to escape.
    Some((format!("{{location=\"{}\"}}", location.name_any()), u8::from(available).to_string()))
}

/// `None` while nobody has asked the storage. A failed initialisation is an answer, whatever was the case before.
fn is_available(status: &BackupLocationStatus) -> Option<bool> {
    if status.init_status == Some(Phase::Failed) {
        return Some(false);
    }
    let type_ = ConditionType::Available.as_str();
    status.conditions.iter().find(|condition| condition.type_ == type_).map(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;

    fn location(name: &str, status: &Value) -> DeserializeGuard<BackupLocation> {
        let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c"});
        let object = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn looked(available: &str) -> Value {
        let condition = json!({"type": "Available", "status": available, "reason": "r", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        json!({"initStatus": "Completed", "conditions": [condition]})
    }

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = metrics.render();
        text.lines().filter(|line| line.starts_with(NAME)).map(str::to_owned).collect()
    }

    #[test]
    fn a_location_is_one_or_zero_as_it_was_last_seen_and_absent_before_that() {
        let metrics = Metrics::default();
        assert!(metrics.render().contains("# TYPE kubedr_location_available gauge\n"), "announced at once");
        let (reader, mut writer) = store();
        metrics.locations.watch(reader);
        let mut failed = looked("True");
        failed["initStatus"] = json!("Failed");
        for (name, status) in [
            ("good", looked("True")),
            ("bad", looked("False")),
            ("changed", failed),
            ("new", json!({"initStatus": "Initializing"})),
            ("newest", Value::Null),
        ] {
            writer.apply_watcher_event(&Event::Apply(location(name, &status)));
        }
        let expected = [
            r#"kubedr_location_available{location="bad"} 0"#,
            r#"kubedr_location_available{location="changed"} 0"#,
            r#"kubedr_location_available{location="good"} 1"#,
        ];
        assert_eq!(lines(&metrics), expected);
    }

    #[test]
    fn a_location_that_is_deleted_disappears() {
        let metrics = Metrics::default();
        let (reader, mut writer) = store();
        metrics.locations.watch(reader);
        writer.apply_watcher_event(&Event::Apply(location("s3", &looked("True"))));
        assert_eq!(lines(&metrics).len(), 1);
        writer.apply_watcher_event(&Event::Delete(location("s3", &Value::Null)));
        assert_eq!(lines(&metrics), Vec::<String>::new());
    }
}
