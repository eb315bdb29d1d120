//! Figures of two programs beside each other.

use crate::measure::Cost;

const MIB: f64 = 1024.0 * 1024.0;

pub fn heading(what: &str) {
    println!("\n{what}");
    println!("{:<22} {:>10} {:>10} {:>8}", "", "kubedr", "restic", "ratio");
}

pub fn row(what: &str, ours: f64, theirs: f64) {
    let ratio = if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { String::new() };
    println!("{what:<22} {ours:>10.1} {theirs:>10.1} {ratio:>8}");
}

pub fn rows(ours: &Cost, theirs: &Cost) {
    row("peak, MiB", ours.peak, theirs.peak);
    row("time, s", ours.wall.as_secs_f64(), theirs.wall.as_secs_f64());
    row("processor, s", ours.processor, theirs.processor);
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
