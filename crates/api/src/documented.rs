//! Whoever meets the reason of an event or a condition finds it in the documentation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page, and all pages that it links.
fn troubleshooting() -> String {
    let page = read(&docs().join("troubleshooting.md"));
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let linked: BTreeSet<_> = targets
        .filter(|target| Path::new(target).extension().is_some_and(|extension| extension == "md"))
        .collect();
    let others: String = linked.into_iter().map(|target| read(&docs().join(target))).collect();
    page.clone() + &others
}

/// What `as_str` of the enums in this file gives: read from the source, so that none is forgotten.
fn spelled(source: &str) -> Vec<&str> {
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""));
    arms.filter_map(|(variant, text)| text.strip_suffix("\",").filter(|text| *text == variant)).collect()
}

#[test]
fn every_reason_of_an_event_or_a_condition_is_explained_where_one_looks_for_it() {
    let page = troubleshooting();
    let reasons = [spelled(include_str!("event.rs")), spelled(include_str!("condition.rs"))].concat();
    assert!(reasons.contains(&"SnapshotMissing") && reasons.contains(&"LocationReadOnly"), "{reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md and what it links say nothing of {missing:?}");
}
