//! What may depend on what: the rules that a compiler does not enforce.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::licence;

/// For each crate of ours, the crates of ours that it may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("kubedr-api", &[]),
    ("kubedr-repo", &[]),
    ("kubedr-restore", &["kubedr-repo"]),
    ("kubedr-etcd", &[]),
    ("kubedr-testing", &[]),
    ("kubedr-operator", &["kubedr-api"]),
    ("kubedr-backup-job", &["kubedr-api", "kubedr-etcd", "kubedr-repo", "kubedr-restore"]),
    ("kubedrctl", &["kubedr-api", "kubedr-repo", "kubedr-restore"]),
    ("kubedr-e2e", &["kubedr-api", "kubedr-testing"]),
    // Of kubedrctl only the description of its command line.
    ("xtask", &["kubedr-api", "kubedrctl"]),
];

/// What the operator must not link: it moves no data, so a fault in an engine cannot reach it.
const NOT_IN_THE_OPERATOR: &[&str] = &["rustic_core", "aws-sdk-s3", "etcd-client"];

/// A second TLS stack would mean a second set of certificate rules, and C libraries to keep patched.
const OTHER_TLS_STACKS: &[&str] = &["openssl-sys", "native-tls", "aws-lc-sys", "aws-lc-rs"];

/// Fails with everything that is wrong at once.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let graph = Graph::read(root)?;
    let faults: Vec<String> =
        [imports(&graph), operator(&graph), one_tls_stack(&graph), licences(&graph)].concat();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// The resolved dependencies of the workspace for the platform that we ship.
struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
}

struct Package {
    name: String,
    version: String,
    licence: String,
    /// Ids of what it links: neither build scripts' nor tests' dependencies.
    links: Vec<String>,
}

impl Graph {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"])
            .current_dir(root)
            .output()
            .context("cannot run `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self::parse(&serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")?)
    }

    fn parse(metadata: &Value) -> anyhow::Result<Self> {
        let described = metadata["packages"].as_array().context("no packages")?;
        let described: BTreeMap<&str, &Value> =
            described.iter().map(|package| (text(&package["id"]), package)).collect();
        let mut packages = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().context("no resolved packages")? {
            let id = text(&node["id"]);
            let package = described.get(id).with_context(|| format!("no package `{id}`"))?;
            let package = Package {
                name: text(&package["name"]).to_owned(),
                version: text(&package["version"]).to_owned(),
                licence: text(&package["license"]).to_owned(),
                links: items(&node["deps"])
                    .filter(|dep| is_linked(dep))
                    .map(|d| text(&d["pkg"]).into())
                    .collect(),
            };
            packages.insert(id.to_owned(), package);
        }
        let members = items(&metadata["workspace_members"]).map(|id| text(id).to_owned()).collect();
        Ok(Self { packages, members })
    }

    /// The member of this name with the packages that it links, at any depth, itself excepted.
    fn linked_by(&self, name: &str) -> Vec<&Package> {
        let start = self.members.iter().find(|id| self.packages.get(*id).is_some_and(|p| p.name == name));
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = start.into_iter().collect();
        while let Some(package) = open.pop().and_then(|id| self.packages.get(id)) {
            open.extend(package.links.iter().filter(|id| seen.insert(*id)));
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_linked(dep: &Value) -> bool {
    items(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn imports(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for id in &graph.members {
        let Some(member) = graph.packages.get(id) else { continue };
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == member.name) else {
            faults.push(format!(
                "`{}` has no entry in crates/xtask/src/deps.rs: say what it may import",
                member.name
            ));
            continue;
        };
        let imported = member.links.iter().filter(|id| graph.members.contains(*id));
        for other in imported.filter_map(|id| graph.packages.get(id)) {
            if !allowed.contains(&other.name.as_str()) {
                faults.push(format!("`{}` must not import `{}`", member.name, other.name));
            }
        }
    }
    faults
}

fn operator(graph: &Graph) -> Vec<String> {
    let linked = graph.linked_by("kubedr-operator");
    let wrong = linked.iter().filter(|package| NOT_IN_THE_OPERATOR.contains(&package.name.as_str()));
    wrong.map(|package| format!("`kubedr-operator` must not link `{}`", package.name)).collect()
}

fn one_tls_stack(graph: &Graph) -> Vec<String> {
    let named = |name: &str| graph.packages.values().filter(move |p| p.name == name).collect::<Vec<_>>();
    let mut faults: Vec<String> = OTHER_TLS_STACKS
        .iter()
        .flat_map(|name| named(name))
        .map(|p| {
            format!("`{}` {} is a second TLS stack: turn off the feature that brings it", p.name, p.version)
        })
        .collect();
    if named("rustls").len() > 1 {
        faults.push("there is more than one version of `rustls`: see `cargo tree --duplicates`".to_owned());
    }
    faults
}

fn licences(graph: &Graph) -> Vec<String> {
    let wrong = graph.packages.values().filter(|package| !licence::is_allowed(&package.licence));
    wrong
        .map(|p| {
            format!("`{}` {} has the licence `{}`, which is not on our list", p.name, p.version, p.licence)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace with the operator and the repository engine; the operator links what is given.
    fn graph(operator_links: &[&str], licence: &str) -> Graph {
        let package =
            |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": licence });
        let dep = |name: &&str| json!({ "pkg": name, "dep_kinds": [{ "kind": null }] });
        let node = |name: &str, links: &[&str]| json!({ "id": name, "deps": links.iter().map(dep).collect::<Vec<_>>() });
        let names = ["kubedr-operator", "kubedr-repo", "rustic_core", "aws-lc-sys"];
        Graph::parse(&json!({
            "packages": names.map(package),
            "workspace_members": ["kubedr-operator", "kubedr-repo"],
            "resolve": { "nodes": [
                node("kubedr-operator", operator_links), node("kubedr-repo", &["rustic_core"]), node("rustic_core", &[]),
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn the_workspace_keeps_its_rules() {
        check(&crate::workspace_root()).unwrap();
    }

    #[test]
    fn an_operator_that_links_the_engine_through_another_crate_is_found() {
        let graph = graph(&["kubedr-repo"], "MIT");
        assert_eq!(imports(&graph), ["`kubedr-operator` must not import `kubedr-repo`"]);
        assert_eq!(operator(&graph), ["`kubedr-operator` must not link `rustic_core`"]);
    }

    #[test]
    fn tests_and_build_scripts_may_depend_on_anything() {
        let dep = json!({ "dep_kinds": [{ "kind": "dev" }, { "kind": "build" }] });
        assert!(!is_linked(&dep));
    }

    #[test]
    fn a_licence_that_is_not_on_the_list_is_named_with_its_package() {
        assert_eq!(licences(&graph(&[], "GPL-3.0-only")).len(), 3);
        assert_eq!(licences(&graph(&[], "MIT OR GPL-3.0-only")).len(), 0);
    }
}
