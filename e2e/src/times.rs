//! Where the time of a run goes: `target/e2e/times.tsv`, for whoever wants the tests to take less of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::cluster::checkout;

/// What takes less is not worth a line.
const NOTED: Duration = Duration::from_secs(1);

/// Runs this, and notes how long it took.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    note(what, begin.elapsed());
    result
}

/// Appends a line: when it ended, which test it was (libtest names threads so), how long it took, and what it was. That it cannot be
/// written is no failure of a test.
pub(crate) fn note(what: &str, took: Duration) {
    if took < NOTED {
        return;
    }
    let dir = checkout().join("target/e2e");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("{:.0}\t{test}\t{:.1}\t{what}\n", jiff::Timestamp::now(), took.as_secs_f64());
    let file = std::fs::create_dir_all(&dir)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(dir.join("times.tsv")));
    // One write is one line, also beside those of other tests.
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}
