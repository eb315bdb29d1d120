//! The operator's memory while nothing happens.

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Cluster, Release, seconds, until};

use crate::measure::memory;

/// What it may need at most, in MiB.
const LIMIT: f64 = 25.0;

pub fn idle() -> Result<()> {
    let resident = resident()?;
    println!("\noperator, idle: {resident:.1} MiB resident (below {LIMIT} MiB wanted)");
    ensure!(resident < LIMIT, "the idle operator needs {resident:.1} MiB, more than {LIMIT}");
    Ok(())
}

/// Its resident size, in MiB, once it no longer grows.
fn resident() -> Result<f64> {
    let cluster = Cluster::get();
    let _operator = Release::shared();
    let resident = || -> Result<f64> {
        let status = cluster.node(&["sh", "-c", "cat /proc/$(pgrep -xo kubedr-operator)/status"])?;
        memory(&status, "VmRSS:").context("no operator runs")
    };
    let (mut last, mut same) = (resident()?, 0);
    until("the operator's memory stays the same", seconds(60), || {
        let now = resident()?;
        same = if (now - last).abs() < 0.1 { same + 1 } else { 0 };
        last = last.max(now);
        ensure!(same >= 40, "{now:.1} MiB");
        Ok(now)
    })
}
