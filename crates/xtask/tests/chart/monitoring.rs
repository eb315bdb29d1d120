//! What Prometheus and Grafana are given: objects, alerts, dashboard.

use std::process::Command;

use kubedr_testing::{assert_success, prometheus_tool, run};
use serde_json::{Value, json};

use super::{chart, object, objects, refusal};

const ALL: [&str; 3] = [
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboard.enabled=true",
];

fn file(name: &str) -> String {
    let path = chart().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn promtool(command: &[&str]) -> Command {
    let mut promtool = Command::new(prometheus_tool("promtool"));
    promtool.args(command);
    promtool
}

#[test]
fn nothing_that_needs_the_prometheus_operator_is_there_unless_it_is_asked_for() {
    let kinds = |values: &[&str]| -> Vec<String> {
        let objects = objects(values);
        let monitoring = objects.iter().filter(|object| {
            object["apiVersion"] == "monitoring.coreos.com/v1"
                || object["metadata"]["name"] == "kubedr-dashboard"
        });
        let mut kinds: Vec<_> =
            monitoring.map(|object| object["kind"].as_str().unwrap_or_default().to_owned()).collect();
        kinds.sort_unstable();
        kinds
    };
    assert_eq!(kinds(&[]), Vec::<String>::new());
    assert_eq!(kinds(&ALL), ["ConfigMap", "PrometheusRule", "ServiceMonitor"]);
}

#[test]
fn the_service_monitor_finds_the_port_of_the_service() {
    let objects = objects(
        &[
            &ALL[..],
            &[
                "monitoring.serviceMonitor.interval=\"1m\"",
                "monitoring.serviceMonitor.labels={\"release\":\"prom\"}",
            ],
        ]
        .concat(),
    );
    let monitor = object(&objects, "ServiceMonitor", "kubedr-operator");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prom");
    let spec = &monitor["spec"];
    assert_eq!(spec["namespaceSelector"], json!({ "matchNames": ["backup"] }));
    assert_eq!(spec["endpoints"], json!([{ "port": "metrics", "path": "/metrics", "interval": "1m" }]));
    let service = object(&objects, "Service", "kubedr-operator");
    assert_eq!(service["spec"]["ports"][0]["name"], "metrics");
    let selected = spec["selector"]["matchLabels"].as_object().unwrap();
    assert!(!selected.is_empty());
    for (label, value) in selected {
        assert_eq!(&service["metadata"]["labels"][label], value, "{label}");
    }
}

#[test]
fn the_rule_has_the_alerts_of_the_file_for_its_own_namespace() {
    let docs = "monitoring.prometheusRule.docsUrl=\"https://wiki.example.com/kubedr/\"";
    let objects = objects(&[&ALL[..], &[docs]].concat());
    let rule = object(&objects, "PrometheusRule", "kubedr");
    let mut expected = file("monitoring/alerts.yaml").replace("kubedr-system", "backup");
    expected = expected.replace("runbook_url: docs/", "runbook_url: https://wiki.example.com/kubedr/");
    let expected: Value = serde_norway::from_str(&expected).unwrap();
    assert_eq!(rule["spec"], expected);
    for alert in expected["groups"][0]["rules"].as_array().unwrap() {
        assert!(alert["expr"].as_str().unwrap().contains("namespace=\"backup\""), "{alert}");
    }
}

#[test]
fn each_alert_says_what_to_do_and_names_the_paragraph_that_says_more() {
    let alerts: Value = serde_norway::from_str(&file("monitoring/alerts.yaml")).unwrap();
    let page = file("../../docs/monitoring.md");
    let headings: Vec<_> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    for alert in alerts["groups"][0]["rules"].as_array().unwrap() {
        let annotations = &alert["annotations"];
        for annotation in ["summary", "description"] {
            assert!(annotations[annotation].as_str().is_some_and(|text| text.ends_with('.')), "{alert}");
        }
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&severity), "{alert}");
        let anchor =
            annotations["runbook_url"].as_str().unwrap().strip_prefix("docs/monitoring.md#").unwrap();
        assert!(headings.iter().any(|heading| heading == anchor), "no heading for #{anchor}");
        let name = alert["alert"].as_str().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name} is not in the documentation");
    }
}

#[test]
fn prometheus_takes_the_alerts_and_they_fire_and_end_as_they_should() {
    let alerts = chart().join("monitoring/alerts.yaml");
    assert_success(&run(promtool(&["check", "rules"]).arg(&alerts)));
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/alerts.test.yaml");
    assert_success(&run(promtool(&["test", "rules"]).arg(tests)));
    let tested = std::fs::read_to_string(tests).unwrap();
    let alerts: Value = serde_norway::from_str(&file("monitoring/alerts.yaml")).unwrap();
    for alert in alerts["groups"][0]["rules"].as_array().unwrap() {
        let name = alert["alert"].as_str().unwrap();
        assert!(tested.contains(name), "{name} is not tested");
    }
}

#[test]
fn the_dashboard_arrives_as_it_is_and_asks_for_one_namespace() {
    let objects =
        objects(&[&ALL[..], &["monitoring.dashboard.annotations={\"grafana_folder\":\"Backups\"}"]].concat());
    let map = object(&objects, "ConfigMap", "kubedr-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"], json!({ "grafana_folder": "Backups" }));
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let dashboard = parse(map["data"]["kubedr.json"].as_str().unwrap());
    assert_eq!(dashboard, parse(&file("monitoring/dashboard.json")));
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 8, "{} panels", panels.len());
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap();
        assert_eq!(
            query.matches("kubedr_").count(),
            query.matches("namespace=\"$namespace\"").count(),
            "{query}"
        );
    }
}

#[test]
fn an_interval_that_prometheus_would_not_take_is_refused() {
    let refused = refusal(&[&ALL[..], &["monitoring.serviceMonitor.interval=\"often\""]].concat());
    assert!(refused.contains("monitoring/serviceMonitor/interval"), "{refused}");
}
