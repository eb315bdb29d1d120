//! restic's locks, so that stock restic and we respect each other.
//!
//! A lock is a file in the repository. Whoever wants one looks for others that conflict, writes its own, waits a moment and
//! looks again: of two that came at once, at least one sees the other and takes its own back. Exclusive conflicts with
//! all, shared with exclusive.
//!
//! A lock is refreshed every five minutes, so one that is half an hour old was left behind by a process that died, and is
//! removed. Nobody ever has to unlock by hand. A holder that cannot refresh stops its work before others may think so.

mod file;
mod guard;
mod guarded;
mod others;

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

pub use self::file::LockInfo;
pub use self::guard::LockGuard;
pub(crate) use self::guarded::Guarded;
use self::{guard::OwnLock, others::Others};
use crate::{Error, Repository};

/// Who holds a lock, for people and for restic to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// A name that no other machine or pod has: restic takes a lock of its own host for left behind when that host has no
    /// such process.
    pub hostname: String,
    /// Anything that tells who it is.
    pub username: String,
}

/// What a lock allows others to do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// For what reads or only adds: others may do so, too.
    Shared,
    /// For what removes: nobody else may do anything.
    Exclusive,
}

/// How a lock is taken.
pub struct LockOptions<'a> {
    /// Who takes it.
    pub holder: LockHolder,
    /// What others may do meanwhile.
    pub mode: LockMode,
    /// How long to wait for others.
    pub wait: Duration,
    /// Whether it is known for certain that this lock's holder is no more. Such a lock is removed whatever its age.
    pub is_gone: &'a dyn Fn(&LockInfo) -> bool,
    /// Called with a lock that stands in the way, when the waiting begins and then once a minute.
    pub waiting: &'a dyn Fn(&LockInfo),
}

impl fmt::Debug for LockOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holder, mode, wait, is_gone: _, waiting: _ } = self;
        f.debug_struct("LockOptions")
            .field("holder", holder)
            .field("mode", mode)
            .field("wait", wait)
            .finish_non_exhaustive()
    }
}

/// The protocol's times; tests have shorter ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From writing a lock to looking again: restic's, and long enough for a storage to show the file to others.
    settle: Duration,
    /// The first pause between two looks, which doubles up to the longest.
    first_pause: Duration,
    longest_pause: Duration,
    /// Between two calls of [`LockOptions::waiting`].
    tell_every: Duration,
    refresh_every: Duration,
    /// After a refresh that failed.
    refresh_again: Duration,
    /// Age from which on a lock that was not refreshed is no longer trusted by its own holder: five minutes before others
    /// may remove it, so that a request under way still ends in time.
    lost_after: Duration,
    /// How long a release may take before it is left to the staleness.
    release: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(10),
            tell_every: Duration::from_mins(1),
            refresh_every: Duration::from_mins(5),
            refresh_again: Duration::from_secs(30),
            lost_after: Duration::from_mins(25),
            release: Duration::from_secs(10),
        }
    }
}

/// Takes a lock, or says whose lock stood in the way until the end.
pub(crate) fn acquire(
    repository: &Repository,
    options: &LockOptions<'_>,
    timing: Timing,
) -> Result<LockGuard, Error> {
    let begin = Instant::now();
    let mut others = Others::new(repository, options);
    let mut pause = timing.first_pause;
    let mut told: Option<Instant> = None;
    loop {
        let conflict = match attempt(repository, options, timing, &mut others)? {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::Conflict(conflict) => conflict,
        };
        let left = options.wait.saturating_sub(begin.elapsed());
        if left.is_zero() {
            let (url, holder) = (repository.url.clone(), conflict.to_string());
            return Err(Error::Locked { url, holder, waited: options.wait });
        }
        if told.is_none_or(|last| last.elapsed() >= timing.tell_every) {
            (options.waiting)(&conflict);
            told = Some(Instant::now());
        }
        thread::sleep(jittered(pause).min(left));
        pause = (pause * 2).min(timing.longest_pause);
    }
}

enum Attempt {
    Taken(LockGuard),
    Conflict(LockInfo),
}

fn attempt(
    repository: &Repository,
    options: &LockOptions<'_>,
    timing: Timing,
    others: &mut Others<'_>,
) -> Result<Attempt, Error> {
    if let Some(conflict) = others.conflict(&[])? {
        return Ok(Attempt::Conflict(conflict));
    }
    let mut own = OwnLock::new(repository, options);
    let looked = own.write().and_then(|()| {
        thread::sleep(timing.settle);
        others.conflict(own.files())
    });
    match looked {
        Ok(None) => Ok(Attempt::Taken(LockGuard::keep(own, timing)?)),
        Ok(Some(conflict)) => {
            own.remove_all()?;
            Ok(Attempt::Conflict(conflict))
        }
        Err(error) => {
            // The first error is the one to report; what cannot be removed goes stale.
            let _ = own.remove_all();
            Err(error)
        }
    }
}

/// All locks that can be read.
pub(crate) fn list(repository: &Repository) -> Result<Vec<LockInfo>, Error> {
    let mut locks = others::read_all(repository)?;
    locks.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    Ok(locks)
}

/// Between half and one and a half of `pause`: two that wait for each other must not go on doing so in step.
fn jittered(pause: Duration) -> Duration {
    // Without random bytes there is no lock either.
    let random = getrandom::u32().unwrap_or_default();
    pause.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
