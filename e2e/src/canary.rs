//! The search for what may nowhere be: secrets, and signs of an operator or job that may not, or cannot, do its work.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Case, Cluster, resource};

/// What is looked at: all kinds that an admin, or a program that collects logs, may see. Secrets are where secrets belong.
const KINDS: [&str; 10] = [
    "pods",
    "events",
    "jobs",
    "cronjobs",
    "configmaps",
    "deployments",
    "backuplocations",
    "metadatabackuppolicies",
    "metadatabackuprecords",
    "metadatarestores",
];

/// What nobody may find: S3 key, repository password, private keys, plain and in base64 within any text; what the API server
/// says to an account that lacks a permission; a panic.
#[derive(Debug)]
pub struct Canary {
    needles: Vec<(String, String)>,
}

impl Canary {
    /// Knows the secrets of this cluster. A test's own passwords and keys contain one of these.
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let mut needles = Vec::new();
        let mut add = |what: &str, secret: &str| {
            needles.push((what.to_owned(), secret.to_owned()));
            needles.extend(encodings(secret.as_bytes()).map(|code| (format!("{what}, in base64"), code)));
        };
        add("the S3 secret key", cluster.var("AWS_SECRET_ACCESS_KEY"));
        add("the repository's password", cluster.var("RESTIC_PASSWORD"));
        for key in private_keys(cluster)? {
            add("a private key of the node", &key);
        }
        // Of an account, and not of the kubelet, whose right to a new pod's token the API server sees a moment late.
        for quote in ["\"", "\\\""] {
            let said = format!("forbidden: User {quote}system:serviceaccount");
            needles.push(("a refusal for want of a permission".to_owned(), said));
        }
        needles.push(("a panic".to_owned(), "panicked at".to_owned()));
        Ok(Self { needles })
    }

    /// Fails if a secret is in the objects, events or logs of a test.
    pub fn search(&self, case: &Case) -> Result<()> {
        self.search_namespace(case.namespace(), |object| case.owns(object))
    }

    /// Fails if a secret is anywhere in the cluster, the operators' logs included.
    pub fn search_everywhere(&self) -> Result<()> {
        let namespaces = Cluster::get().api().list("/api/v1/namespaces", "")?;
        ensure!(!namespaces.is_empty(), "no namespaces");
        for namespace in namespaces {
            self.search_namespace(namespace["metadata"]["name"].as_str().context("a name")?, |_| true)?;
        }
        Ok(())
    }

    fn search_namespace(&self, namespace: &str, mut wanted: impl FnMut(&Value) -> bool) -> Result<()> {
        for kind in KINDS {
            for object in Cluster::get().api().list(&resource(namespace, kind), "")? {
                if !wanted(&object) {
                    continue;
                }
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                self.examine(&format!("{kind}/{name} in {namespace}"), &object.to_string())?;
                if kind == "pods" {
                    self.examine(&format!("the log of {name} in {namespace}"), &logs(&object))?;
                }
            }
        }
        Ok(())
    }

    /// Fails if a secret is in this text.
    pub fn examine(&self, place: &str, text: &str) -> Result<()> {
        let found = self.needles.iter().find(|(_, needle)| text.contains(needle.as_str()));
        ensure!(found.is_none(), "{} is in {place}", found.map_or("", |(what, _)| what));
        Ok(())
    }
}

/// The logs of a pod, of the container before the last restart too. Empty where there are none (any more).
pub(crate) fn logs(pod: &Value) -> String {
    let (Some(namespace), Some(name)) =
        (pod["metadata"]["namespace"].as_str(), pod["metadata"]["name"].as_str())
    else {
        return String::new();
    };
    let path = format!("{}/{name}/log", resource(namespace, "pods"));
    let restarted = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().is_some_and(|n| n > 0);
    let previous = if restarted { "previous=true" } else { "tailLines=0" };
    [previous, ""].iter().fold(String::new(), |mut all, query| {
        let _ = write!(all, "{}", Cluster::get().api().text(&format!("{path}?{query}")).unwrap_or_default());
        all
    })
}

/// One line from the middle of each private key of the node. Tests copy the etcd client's key into a Secret.
fn private_keys(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for dir in [cluster.pki(), cluster.pki().join("etcd")] {
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "key") {
                let text = std::fs::read_to_string(&path)?;
                lines.push(
                    text.lines().nth(2).with_context(|| format!("{}: no key", path.display()))?.to_owned(),
                );
            }
        }
    }
    ensure!(lines.len() > 5, "few private keys: {}", lines.len());
    Ok(lines)
}

/// What base64 makes of the bytes within a longer text: they may begin at any of three places of a group.
fn encodings(secret: &[u8]) -> impl Iterator<Item = String> {
    (0..3).map(move |shift| {
        let code = base64(&[&[0; 3][..shift], secret].concat());
        // what the first and the last character of it stand for depends on the neighbours too
        let end = code.len() - if (shift + secret.len()).is_multiple_of(3) { 0 } else { 4 };
        code[if shift == 0 { 0 } else { 4 }..end].to_owned()
    })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut code = String::new();
    for group in bytes.chunks(3) {
        let bits =
            (0..3).fold(0_usize, |bits, i| bits << 8 | usize::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let sextet = bits >> (18 - 6 * i) & 63;
            code.push(if i > group.len() { '=' } else { char::from(ALPHABET[sextet]) });
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), code);
        }
    }

    #[test]
    fn an_encoded_secret_is_found_wherever_in_the_text_it_stands() {
        let codes: Vec<_> = encodings(b"correct horse battery").collect();
        for before in ["", "x", "xy", "xyz"] {
            for after in ["", "!", "!!"] {
                let text = base64(format!("{before}correct horse battery{after}").as_bytes());
                assert!(codes.iter().any(|code| text.contains(code)), "{text}: {codes:?}");
            }
        }
    }
}
