//! What a program needs, as the kernel counts it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What one program needed.
#[derive(Debug)]
pub struct Cost {
    pub wall: Duration,
    /// Time of the processor, in seconds.
    pub processor: f64,
    /// Highest resident size, MiB.
    pub peak: f64,
    /// Regular files outside `/proc` that it had open for writing.
    pub written: BTreeSet<PathBuf>,
}

/// Runs a program to its successful end.
pub fn measure(mut program: Command) -> Result<Cost> {
    let began = Instant::now();
    let mut child = program.stdout(Stdio::null()).spawn()?;
    let mut cost = Cost { wall: Duration::ZERO, processor: 0.0, peak: 0.0, written: BTreeSet::new() };
    let status = loop {
        cost.peak = cost.peak.max(high_water(&child).unwrap_or(0.0));
        cost.processor = cost.processor.max(processor(&child).unwrap_or(0.0));
        cost.written.extend(open_for_writing(&child));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{program:?} failed, {status}");
    cost.wall = began.elapsed();
    Ok(cost)
}

/// The kernel's own record of the highest resident size, which no peak between two looks escapes.
fn high_water(child: &Child) -> Option<f64> {
    memory(&std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?, "VmHWM:")
}

/// A line of `/proc/<pid>/status`, in MiB.
pub fn memory(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// Of all its threads, for the program and for the kernel.
fn processor(child: &Child) -> Option<f64> {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // After the name in brackets; the twelfth and thirteenth word from there.
    let words: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks = words.get(11..13)?.iter().map(|word| word.parse::<f64>().unwrap_or(0.0)).sum::<f64>();
    Some(ticks / TICKS)
}

fn open_for_writing(child: &Child) -> Vec<PathBuf> {
    let of = |what: &str| PathBuf::from(format!("/proc/{}/{what}", child.id()));
    let Ok(descriptors) = std::fs::read_dir(of("fd")) else { return Vec::new() };
    let path = |fd: std::fs::DirEntry| {
        // where its output goes is the caller's affair
        if ["0", "1", "2"].iter().any(|standard| fd.file_name() == *standard) {
            return None;
        }
        let info = std::fs::read_to_string(of("fdinfo").join(fd.file_name())).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let writable = u32::from_str_radix(flags.trim(), 8).ok()? & 0o3 != 0;
        let file = std::fs::read_link(fd.path()).ok()?;
        let regular = std::fs::metadata(fd.path()).ok()?.is_file();
        (writable && regular).then_some(file)
    };
    descriptors.filter_map(Result::ok).filter_map(path).collect()
}
