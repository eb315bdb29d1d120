//! A Prometheus that watches one release.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kubedr_testing::{ServerProcess, command, free_port, prometheus_tool};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{done, text};
use crate::{Case, Release, seconds, until};

/// A Prometheus on this machine's loopback interface. It scrapes the operator of a case twice a second, with the chart's alerts, and
/// puts the label `namespace` on what it finds, as a `ServiceMonitor` makes it do.
#[derive(Debug)]
pub struct Prometheus {
    url: String,
    process: ServerProcess,
    _dir: TempDir,
}

/// One element of an answer: its labels and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The labels.
    pub labels: Value,
    /// The value.
    pub value: f64,
}

impl Prometheus {
    /// Starts it and waits for its first scrape.
    pub fn watch(case: &Case) -> Result<Self> {
        let service = case.get("services", "kubedr-operator")?;
        let address = service["spec"]["clusterIP"].as_str().context("an address")?.to_owned();
        let dir = tempfile::tempdir()?;
        let alerts = std::fs::read_to_string(chart_file("alerts.yaml"))?;
        std::fs::write(dir.path().join("alerts.yaml"), alerts.replace("kubedr-system", case.namespace()))?;
        let config = json!({
            "global": { "scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms" },
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{
                "job_name": "kubedr",
                "static_configs": [{
                    "targets": [format!("{address}:8080")],
                    "labels": { "namespace": case.namespace() },
                }],
            }],
        });
        let file = dir.path().join("prometheus.yaml");
        std::fs::write(&file, config.to_string())?;
        let listen = format!("127.0.0.1:{}", free_port());
        let mut server = Command::new(prometheus_tool("prometheus"));
        server.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(dir.path().join("data"));
        server.args(["--web.listen-address", &listen, "--log.level=warn"]);
        let process = ServerProcess::start(&server, &dir.path().join("log"));
        let prometheus = Self { url: format!("http://{listen}"), process, _dir: dir };
        until("Prometheus has scraped the operator", seconds(30), || prometheus.value("up"))
            .with_context(|| prometheus.process.log())?;
        Ok(prometheus)
    }

    /// The answer to a query.
    pub fn query(&self, query: &str) -> Result<Vec<Sample>> {
        let mut curl = command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "10", "--get", "--data-urlencode"]);
        curl.arg(format!("query={query}")).arg(format!("{}/api/v1/query", self.url));
        let answer: Value = serde_json::from_str(&text(&done(&mut curl)?))?;
        ensure!(answer["status"] == "success", "`{query}`: {answer}");
        let elements = answer["data"]["result"].as_array().with_context(|| format!("`{query}`: {answer}"))?;
        let sample = |element: &Value| {
            let value = element["value"][1].as_str().context("a value")?.parse()?;
            Ok(Sample { labels: element["metric"].clone(), value })
        };
        elements.iter().map(sample).collect()
    }

    /// The answer to a query that gives one element.
    pub fn value(&self, query: &str) -> Result<f64> {
        let found = self.query(query)?;
        ensure!(found.len() == 1, "one element expected of `{query}`: {found:?}");
        Ok(found[0].value)
    }

    /// Waits until a query that gives one element gives this.
    pub fn await_value(&self, query: &str, expected: f64) -> Result<()> {
        until(&format!("`{query}` is {expected}"), seconds(30), || {
            let value = self.value(query)?;
            ensure!((value - expected).abs() < f64::EPSILON, "it is {value}");
            Ok(())
        })
    }

    /// Waits until these alerts fire and no others.
    pub fn await_alerts(&self, expected: &[&str]) -> Result<()> {
        until(&format!("the alerts that fire are {expected:?}"), seconds(30), || {
            let firing = self.query("count by (alertname) (ALERTS{alertstate=\"firing\"})")?;
            let mut names: Vec<_> =
                firing.iter().filter_map(|sample| sample.labels["alertname"].as_str()).collect();
            names.sort_unstable();
            ensure!(names == expected, "they are {names:?}");
            Ok(())
        })
    }
}

/// The queries of the chart's dashboard for this namespace, each with the title of its panel.
pub fn dashboard_queries(namespace: &str) -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(chart_file("dashboard.json"))?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        for target in panel["targets"].as_array().context("queries")? {
            let query = target["expr"].as_str().context("a query")?.replace("$namespace", namespace);
            queries.push((title.to_owned(), query));
        }
    }
    Ok(queries)
}

fn chart_file(name: &str) -> PathBuf {
    PathBuf::from(Release::chart()).join("monitoring").join(name)
}
