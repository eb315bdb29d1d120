//! The figures of each location's repository, as its status says when they are asked for.

use jiff::Timestamp;
use kube::ResourceExt;
use kubedr_api::{BackupLocation, CheckOutcome, is_check_overdue};

use super::Sample;

/// A family of gauges: name, help, and its value for a location, if it has one.
type Family = (&'static str, &'static str, fn(&BackupLocation, Timestamp) -> Option<i64>);

const FAMILIES: [Family; 4] = [
    (
        "kubedr_repository_size_bytes",
        "Bytes that the repository took up when it was last looked at.",
        |of, _| of.status.as_ref()?.repository_bytes,
    ),
    (
        "kubedr_last_check_result",
        "1 if the last check of the repository found no damage, 0 if it did; absent before the first.",
        |of, _| Some(i64::from(of.status.as_ref()?.last_check.as_ref()?.result == CheckOutcome::Passed)),
    ),
    (
        "kubedr_last_check_timestamp_seconds",
        "When the repository was last checked, in Unix time; absent before the first time.",
        |of, _| {
            let time = &of.status.as_ref()?.last_check.as_ref()?.time;
            Some(time.parse::<Timestamp>().ok()?.as_second())
        },
    ),
    (
        "kubedr_check_overdue",
        "1 if the repository was not checked for nine days, else 0; absent if it is not initialised or read-only.",
        |of, now| is_check_overdue(of, now).map(i64::from),
    ),
];

/// Hands each family to `write`. The locations are those of the moment, by name.
pub fn write(
    locations: &[&BackupLocation],
    now: Timestamp,
    mut write: impl FnMut(&str, &str, &str, &[Sample]),
) {
    for (name, help, value) in FAMILIES {
        let sample = |location: &&BackupLocation| {
            // The name of an object has no character that a label's value would have to escape.
            let labels = format!("{{location=\"{}\"}}", location.name_any());
            Some((labels, value(location, now)?.to_string()))
        };
        write(name, help, "gauge", &locations.iter().filter_map(sample).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lines(status: &Value) -> Vec<String> {
        let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c"});
        let object = json!({"metadata": {"name": "s3"}, "spec": spec, "status": status});
        let location = serde_json::from_value(object).unwrap();
        let mut lines = Vec::new();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        write(&[&location], now, |name, _, kind, samples| {
            assert_eq!(kind, "gauge");
            lines.extend(samples.iter().map(|(labels, value)| format!("{name}{labels} {value}")));
        });
        lines
    }

    #[test]
    fn a_repository_has_its_size_and_the_result_of_its_last_check() {
        let check = |result| json!({"time": "1970-01-01T01:00:00Z", "result": result, "message": ""});
        let mut status =
            json!({"initStatus": "Completed", "repositoryBytes": 123, "lastCheck": check("Passed")});
        let expected = [
            "kubedr_repository_size_bytes{location=\"s3\"} 123",
            "kubedr_last_check_result{location=\"s3\"} 1",
            "kubedr_last_check_timestamp_seconds{location=\"s3\"} 3600",
            "kubedr_check_overdue{location=\"s3\"} 1",
        ];
        assert_eq!(lines(&status), expected);
        status["lastCheck"] = check("Failed");
        assert_eq!(lines(&status)[1], "kubedr_last_check_result{location=\"s3\"} 0");
    }

    #[test]
    fn what_is_not_known_yet_is_absent() {
        let status = json!({"initStatus": "Completed", "initTime": "2026-01-01T00:00:00Z"});
        assert_eq!(lines(&status), ["kubedr_check_overdue{location=\"s3\"} 0"]);
        assert_eq!(lines(&Value::Null), Vec::<String>::new());
    }
}
