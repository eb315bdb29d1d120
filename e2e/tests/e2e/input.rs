//! Bad input: refused when it is applied, with a message that names the field and what is expected.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Case, Refused, case, contains_all, resource};
use serde_json::{Value, json};

const SCHEDULES: &str = include_str!("../data/schedules.txt");

#[test]
fn no_schedule_is_accepted_that_the_cronjob_api_refuses() {
    case("schedules", |t| {
        let mut judged = 0;
        for (verdict, schedule) in SCHEDULES.lines().filter_map(|line| line.split_once('\t')) {
            let (ours, theirs) = (refusal(t, &policy(t, schedule))?, refusal(t, &cron_job(t, schedule))?);
            let expected = match verdict {
                "accept" => (false, false),
                "refuse" => (true, true),
                _ => (true, false),
            };
            ensure!(
                (ours.is_some(), theirs.is_some()) == expected,
                "`{schedule}` is listed as {verdict}; the policy: {ours:?}; the CronJob: {theirs:?}"
            );
            if let Some(message) = ours {
                contains_all(&message, &["spec.schedule", "schedule", "expected"])?;
            }
            judged += 1;
        }
        ensure!(judged >= 60, "{judged} schedules");
        Ok(())
    });
}

fn policy(t: &Case, schedule: &str) -> (&'static str, Value) {
    let object = json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
        "kind": "MetadataBackupPolicy",
        "metadata": { "name": t.name() },
        "spec": { "destination": "anywhere", "schedule": schedule },
    });
    ("metadatabackuppolicies", object)
}

fn cron_job(t: &Case, schedule: &str) -> (&'static str, Value) {
    let pod = json!({ "restartPolicy": "Never", "containers": [{ "name": "a", "image": "a" }] });
    let object = json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": { "name": t.name() },
        "spec": { "schedule": schedule, "jobTemplate": { "spec": { "template": { "spec": pod } } } },
    });
    ("cronjobs", object)
}

/// What the API server says against an object, if anything.
fn refusal(t: &Case, (plural, object): &(&'static str, Value)) -> Result<Option<String>> {
    match t.api().create(&resource(t.namespace(), plural), "dryRun=All", object) {
        Ok(_) => Ok(None),
        Err(error) => match error.downcast::<Refused>()? {
            Refused { code: 422, message } => Ok(Some(message)),
            other => Err(other.into()),
        },
    }
}

const LOCATION: &str = "BackupLocation";
const POLICY: &str = "MetadataBackupPolicy";

/// Kind, field, a wrong value of it as YAML, and what the message must hold.
const WRONG: &[(&str, &str, &str, &[&str])] = &[
    (POLICY, "schedule", "'99 * * * *'", &["spec.schedule", "minute", "0 to 59"]),
    (POLICY, "schedule", "'* * * *'", &["spec.schedule", "five fields"]),
    (POLICY, "schedule", "'5-1 * * * *'", &["spec.schedule", "minute"]),
    (POLICY, "schedule", "'@never'", &["spec.schedule", "@daily"]),
    (POLICY, "schedule", "'a b c d e'", &["spec.schedule", "minute", "0 to 59"]),
    (POLICY, "schedule", "''", &["spec.schedule"]),
    (POLICY, "certsDir", "etc/kubernetes/pki", &["spec.certsDir", "absolute path"]),
    (POLICY, "certsDir", "/", &["spec.certsDir", "below /"]),
    (POLICY, "certsDir", "//", &["spec.certsDir", "below /"]),
    (POLICY, "certsDir", "/.", &["spec.certsDir", "below /"]),
    (POLICY, "certsDir", "/etc/../root", &["spec.certsDir", "without `..`"]),
    (POLICY, "certsDir", "/..", &["spec.certsDir", "without `..`"]),
    (POLICY, "certsDir", "''", &["spec.certsDir"]),
    (POLICY, "etcdEndpoint", "127.0.0.1:2379", &["spec.etcdEndpoint", "https://"]),
    (POLICY, "etcdEndpoint", "https://127.0.0.1:2379/v3", &["spec.etcdEndpoint", "without a path"]),
    (POLICY, "etcdEndpoint", "'https://127.0.0.1:2379,127.0.0.1:2380'", &["spec.etcdEndpoint", "https://"]),
    (POLICY, "etcdEndpoint", "''", &["spec.etcdEndpoint"]),
    (POLICY, "etcdCreds", "''", &["spec.etcdCreds", "name of a Secret"]),
    (POLICY, "destination", "''", &["spec.destination", "BackupLocation"]),
    (POLICY, "retainNumBackups", "-1", &["spec.retainNumBackups", "0"]),
    (POLICY, "retainNumBackups", "many", &["spec.retainNumBackups", "integer"]),
    (POLICY, "retention", "{}", &["spec.retention", "at least one rule"]),
    (POLICY, "retention", "{keepDaily: 0}", &["spec.retention.keepDaily", "1 or more"]),
    (POLICY, "retention", "{keepLast: -1}", &["spec.retention.keepLast", "greater than or equal to 0"]),
    (POLICY, "retention", "{keepYearly: many}", &["spec.retention.keepYearly", "integer"]),
    (POLICY, "retention", "{keepWithin: soon}", &["spec.retention.keepWithin", "such as 2y5m7d3h"]),
    (POLICY, "retention", "{keepWithin: 0d}", &["spec.retention.keepWithin", "more than zero"]),
    (POLICY, "retention", "{keepWithin: '-3d'}", &["spec.retention.keepWithin", "such as 2y5m7d3h"]),
    (POLICY, "suspend", "'no'", &["spec.suspend", "boolean"]),
    (POLICY, "timeZone", "Mars/Olympus", &["spec.timeZone", "such as Europe/Berlin"]),
    (POLICY, "timeZone", "Local", &["spec.timeZone", "such as Europe/Berlin"]),
    (POLICY, "timeZone", "'+02:00'", &["spec.timeZone", "such as Europe/Berlin"]),
    (POLICY, "timeZone", "''", &["spec.timeZone"]),
    (POLICY, "startingDeadlineSeconds", "9", &["spec.startingDeadlineSeconds", "10 or more"]),
    (POLICY, "activeDeadlineSeconds", "0", &["spec.activeDeadlineSeconds", "1 or more"]),
    (POLICY, "resources", "{}", &["spec.resources", "requests, limits or both"]),
    (POLICY, "resources", "{limits: {memory: 128Mi}}", &["spec.resources", "256Mi or more"]),
    (POLICY, "resources", "{limits: {memory: lots}}", &["spec.resources.limits", "such as 500m"]),
    (POLICY, "resources", "{requests: {cpu: -1}}", &["spec.resources.requests", "such as 500m"]),
    (POLICY, "resources", "{requests: {cpu: 2}, limits: {cpu: 1}}", &["no more than resources.limits"]),
    (POLICY, "nodeSelector", "{}", &["spec.nodeSelector", "at least one label"]),
    (POLICY, "nodeSelector", "{a b: c}", &["spec.nodeSelector", "names of labels"]),
    (POLICY, "nodeSelector", "{a: b c}", &["spec.nodeSelector", "values of labels"]),
    (POLICY, "tolerations", "[{value: a}]", &["spec.tolerations[0]", "a key, or operator: Exists"]),
    (POLICY, "tolerations", "[{key: a, operator: Exists, value: b}]", &["spec.tolerations[0]", "no value"]),
    (POLICY, "tolerations", "[{key: a, effect: Never}]", &["spec.tolerations[0].effect", "NoSchedule"]),
    (POLICY, "tolerations", "[{key: a, tolerationSeconds: 3}]", &["spec.tolerations[0]", "NoExecute"]),
    (POLICY, "options", "{master-node: x}", &["spec.options", "master-node-label-name"]),
    (LOCATION, "url", "10.96.57.3:9000", &["spec.url", "https://"]),
    (LOCATION, "url", "https://s3.example.com/backups", &["spec.url", "without a path"]),
    (LOCATION, "url", "ftp://s3.example.com", &["spec.url", "https://"]),
    (LOCATION, "url", "''", &["spec.url"]),
    (LOCATION, "bucketName", "''", &["spec.bucketName"]),
    (LOCATION, "bucketName", "Upper_Case", &["spec.bucketName", "lower-case"]),
    (LOCATION, "prefix", "clusters/../berlin", &["spec.prefix", "without `.` and `..`"]),
    (LOCATION, "prefix", "..", &["spec.prefix", "without `.` and `..`"]),
    (LOCATION, "prefix", "./berlin", &["spec.prefix", "without `.` and `..`"]),
    (LOCATION, "prefix", "/berlin", &["spec.prefix", "single slashes"]),
    (LOCATION, "prefix", "berlin/", &["spec.prefix", "single slashes"]),
    (LOCATION, "prefix", "clusters//berlin", &["spec.prefix", "single slashes"]),
    (LOCATION, "prefix", "''", &["spec.prefix"]),
    (LOCATION, "volume", "{claimName: disk}", &["spec", "either url and bucketName, or volume"]),
    (LOCATION, "region", "eu west", &["spec.region", "eu-west-1"]),
    (LOCATION, "caCert", "{}", &["spec.caCert", "either secret or configMap"]),
    (
        LOCATION,
        "caCert",
        "{secret: {name: a}, configMap: {name: a}}",
        &["spec.caCert", "either secret or configMap"],
    ),
    (LOCATION, "caCert", "{secret: {name: A_b}}", &["spec.caCert.secret.name", "name of a Secret"]),
    (LOCATION, "caCert", "{configMap: {name: a, key: 'a b'}}", &["spec.caCert.configMap.key", "key of"]),
    (LOCATION, "insecureSkipTLSVerify", "'yes'", &["spec.insecureSkipTLSVerify", "boolean"]),
    (LOCATION, "accessMode", "ReadSome", &["spec.accessMode", "ReadOnly"]),
    (LOCATION, "validationFrequency", "hourly", &["spec.validationFrequency", "such as 30m"]),
    (LOCATION, "validationFrequency", "0s", &["spec.validationFrequency", "at least a minute"]),
    (LOCATION, "validationFrequency", "59s", &["spec.validationFrequency", "at least a minute"]),
    (LOCATION, "validationFrequency", "8761h", &["spec.validationFrequency", "at most a year"]),
    (LOCATION, "credentials", "''", &["spec.credentials", "name of a Secret"]),
];

/// A manifest as an admin writes it, with one field of its specification replaced, added or (`None`) left out.
fn manifest(kind: &str, name: &str, field: &str, value: Option<&str>) -> String {
    let right: &[(&str, &str)] = match kind {
        LOCATION => {
            &[("url", "http://s3.example.com:9000"), ("bucketName", "backups"), ("credentials", "s3")]
        }
        _ => &[("destination", "anywhere"), ("schedule", "'0 1 * * *'")],
    };
    let kept = right.iter().filter(|(known, _)| *known != field).copied();
    let spec: Vec<_> =
        kept.chain(value.map(|value| (field, value))).map(|(f, v)| format!("  {f}: {v}\n")).collect();
    format!(
        "---\napiVersion: kubedr.catalogicsoftware.com/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{}",
        spec.concat()
    )
}

#[test]
fn what_cannot_work_is_refused_when_it_is_applied() {
    case("refused", |t| {
        let name = |number: usize| format!("{}-{number}", t.name());
        let all = WRONG
            .iter()
            .enumerate()
            .map(|(n, (kind, field, value, _))| manifest(kind, &name(n), field, Some(value)));
        let said = refused(t, &all.collect::<String>())?;
        for (number, (kind, field, value, parts)) in WRONG.iter().enumerate() {
            let names_it = format!("{kind}.kubedr.catalogicsoftware.com \"{}\" is invalid: ", name(number));
            let message = said.lines().find(|line| line.contains(&names_it));
            let message =
                message.with_context(|| format!("{kind} with {field}: {value} is not refused: {said}"))?;
            contains_all(message, parts).with_context(|| format!("{kind} with {field}: {value}"))?;
        }
        ensure!(
            t.list("metadatabackuppolicies")?.is_empty() && t.list("backuplocations")?.is_empty(),
            "objects exist"
        );
        Ok(())
    });
}

#[test]
fn names_that_no_cronjob_or_label_can_bear_are_refused() {
    case("names", |t| {
        let too_long = [(POLICY, "p".repeat(38), "37"), (LOCATION, "l".repeat(64), "63")];
        for (kind, name, limit) in too_long {
            let said = refused(t, &manifest(kind, &name, "", None))?;
            contains_all(&said, &["metadata.name", &format!("at most {limit} characters")])?;
        }
        for (kind, field) in [(POLICY, "destination"), (POLICY, "schedule"), (LOCATION, "credentials")] {
            contains_all(
                &refused(t, &manifest(kind, t.name(), field, None))?,
                &[&format!("spec.{field}"), "Required"],
            )?;
        }
        for field in ["url", "bucketName"] {
            let said = refused(t, &manifest(LOCATION, t.name(), field, None))?;
            contains_all(&said, &["spec", "either url and bucketName, or volume"])?;
        }
        let empty = refused(t, &manifest(POLICY, "''", "", None))?;
        ensure!(empty.contains("name"), "{empty}");
        let unknown = refused(t, &manifest(POLICY, t.name(), "shedule", Some("'@daily'")))?;
        contains_all(&unknown, &["unknown field \"spec.shedule\""])
    });
}

#[test]
fn what_works_is_accepted_and_shows_its_defaults() {
    case("defaults", |t| {
        let longest = format!("{}{}", t.name(), "x".repeat(37 - t.name().len()));
        t.apply_policy(json!({ "metadata": { "name": longest }, "spec": { "suspend": true } }))?;
        let spec = t.get("metadatabackuppolicies", &longest)?["spec"].take();
        let defaults = json!({
            "destination": t.name(),
            "etcdCreds": "etcd-creds",
            "etcdEndpoint": "https://127.0.0.1:2379",
            "retainNumBackups": 120,
            "schedule": "0 0 29 2 *",
            "suspend": true,
        });
        ensure!(spec == defaults, "{spec}");
        for (field, value) in [
            ("etcdEndpoint", "https://10.0.0.1:2379,https://10.0.0.2:2379, https://[::1]:2379"),
            ("etcdEndpoint", "http://etcd.example.com"),
            ("certsDir", "/etc/kubernetes/pki/"),
            ("certsDir", "/srv/a..b"),
            ("timeZone", "Europe/Berlin"),
            ("timeZone", "Etc/GMT+5"),
            ("timeZone", "America/Argentina/Buenos_Aires"),
        ] {
            t.apply_policy(json!({ "spec": { "suspend": true, field: value } }))
                .with_context(|| format!("{field}: {value}"))?;
        }
        t.apply_policy(json!({ "spec": { "suspend": true, "retainNumBackups": 0 } }))?;
        t.apply_policy(json!({ "spec": {
            "suspend": true,
            "resources": { "requests": { "cpu": 1, "memory": "300Mi" }, "limits": { "cpu": "1500m", "memory": "1Gi" } },
            "tolerations": [],
        } }))?;
        Ok(())
    });
}

/// Applies what must be refused; gives back what kubectl says.
fn refused(t: &Case, yaml: &str) -> Result<String> {
    let output = t.cluster().kubectl_with(&["--namespace", t.namespace(), "apply", "-f", "-"], yaml)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "kubectl took it: {yaml}");
    ensure!(
        output.stdout.is_empty(),
        "kubectl took a part of it: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(said)
}
