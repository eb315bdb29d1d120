//! Whether what came back is what was there.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use kubedr_testing::{EtcdCluster, assert_success, command, run, text};
use serde_json::Value;

/// Starts a real etcd from a restored snapshot file.
pub fn restored_etcd(dir: &Path) -> Result<EtcdCluster> {
    let file = dir.join("data/etcd-snapshot.db");
    let out = run(command("etcdutl").args(["snapshot", "status", "--write-out=json"]).arg(&file));
    assert_success(&out);
    let status: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(status["totalKey"].as_u64() > Some(200), "{status}");
    Ok(EtcdCluster::start_from_snapshot(&file))
}

/// Fails unless both directories hold the same, with owners, modes, links and times.
pub fn same_tree(restored: &Path, original: &Path) -> Result<()> {
    assert_success(&run(Command::new("diff")
        .args(["--recursive", "--no-dereference"])
        .arg(original)
        .arg(restored)));
    let (theirs, ours) = (inventory(original), inventory(restored));
    ensure!(theirs == ours, "the node has\n{theirs}\nthe backup has\n{ours}");
    Ok(())
}

/// Type, mode, owner and link target of everything below a directory, and the minute in which a file was written.
fn inventory(dir: &Path) -> String {
    let what = [
        "(",
        "-type",
        "f",
        "-printf",
        "%p %y %m %U:%G %TFT%TH:%TM\n",
        ")",
        "-o",
        "-printf",
        "%p %y %m %U:%G %l\n",
    ];
    let out = run(Command::new("find").arg(".").args(["-mindepth", "1"]).args(what).current_dir(dir));
    assert_success(&out);
    let listed = text(&out.stdout);
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}
