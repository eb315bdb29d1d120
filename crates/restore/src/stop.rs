//! The end of a restore that somebody else wants: Ctrl-C, SIGTERM.

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};

use crate::{Error, place::remove};

/// How often what a restore has written is removed while it still writes, and the pause in between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// By what [`Unfinished`] stops a restore from another thread. Clones are of the same restore.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// The restore has written nothing yet.
    #[default]
    Before,
    /// It writes into this directory, which is its own.
    Writing(PathBuf),
    /// The data has its name; this directory is of no more use.
    InPlace(PathBuf),
    /// It was stopped.
    Stopped,
}

/// What became of a restore that was to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stopped {
    /// It leaves nothing.
    Cleared,
    /// It leaves this, which could not be removed. The next restore to the same target does that.
    Left(PathBuf),
    /// It was faster: all of the data is in place.
    TooLate,
}

impl Stop {
    /// Stops the restore. It ends with an error some time later; nothing of what it does until then gets the name `data`.
    fn stop(&self) -> Stopped {
        let mut state = self.state();
        match mem::replace(&mut *state, State::Stopped) {
            State::Before | State::Stopped => Stopped::Cleared,
            State::InPlace(staging) => {
                // The restore may have no more time for that; the next one would call this one cut short.
                if let Err(error) = remove(&staging) {
                    tracing::warn!(%error, "what the restore needed in between could not be cleared away");
                }
                *state = State::InPlace(staging);
                Stopped::TooLate
            }
            State::Writing(staging) => {
                drop(state);
                clear(staging)
            }
        }
    }

    /// The restore begins to write into this directory, unless it is to end. What an earlier one left there is removed.
    pub(crate) fn begin(&self, staging: &Path) -> Result<(), Error> {
        let mut state = self.state();
        if matches!(*state, State::Stopped) {
            return Err(Error::Stopped);
        }
        if staging.symlink_metadata().is_ok() {
            tracing::warn!(left = %staging.display(), "an earlier restore was cut short; what it left is removed");
            remove(staging)?;
        }
        *state = State::Writing(staging.to_owned());
        Ok(())
    }

    /// The data gets its name, unless the restore is to end: nobody removes it meanwhile.
    pub(crate) fn put_in_place(&self, put: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut state = self.state();
        let State::Writing(staging) = &*state else { return Err(Error::Stopped) };
        put()?;
        *state = State::InPlace(staging.clone());
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A restore whose end nobody has seen. When this is dropped before, by Ctrl-C or SIGTERM, the restore is stopped, and what it has
/// written is cleared away.
#[derive(Debug)]
#[must_use = "what is not kept is dropped, which stops the restore"]
pub struct Unfinished(Option<Stop>);

impl Unfinished {
    /// The restore that this stops.
    pub const fn new(stop: Stop) -> Self {
        Self(Some(stop))
    }

    /// Its end was seen: there is nothing to stop any more.
    pub fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        match self.0.take().map(|stop| stop.stop()) {
            None | Some(Stopped::Cleared) => {}
            Some(Stopped::Left(path)) => tracing::warn!(
                "what was restored so far is left in `{}`: remove it, or have the next restore to the same target do that",
                path.display()
            ),
            Some(Stopped::TooLate) => {
                tracing::warn!(
                    "the restored data is complete and in its place: only the report of that is missing"
                );
            }
        }
    }
}

/// Removes what a restore writes at this moment. Each file that it still makes is one more try; it ends with the first that it cannot
/// make any more.
fn clear(staging: PathBuf) -> Stopped {
    for _ in 0..TRIES {
        if remove(&staging).is_ok() && !staging.exists() {
            return Stopped::Cleared;
        }
        sleep(PAUSE);
    }
    Stopped::Left(staging)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_restore_that_is_stopped_leaves_nothing_and_does_not_come_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("staging");
        let stop = Stop::default();
        stop.begin(&staging).unwrap();
        fs::create_dir_all(staging.join("data")).unwrap();
        assert_eq!(stop.stop(), Stopped::Cleared);
        assert!(!staging.exists());
        let put = stop.put_in_place(|| panic!("it must not get its name"));
        assert!(matches!(put, Err(Error::Stopped)), "{put:?}");
        assert!(matches!(stop.begin(&staging), Err(Error::Stopped)));
    }

    #[test]
    fn a_restore_that_has_come_to_its_end_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("staging");
        let stop = Stop::default();
        stop.begin(&staging).unwrap();
        fs::create_dir(&staging).unwrap();
        let data = dir.path().join("data");
        stop.put_in_place(|| fs::create_dir(&data).map_err(|cause| Error::written(&data, cause))).unwrap();
        assert_eq!(stop.stop(), Stopped::TooLate);
        assert!(data.exists() && !staging.exists(), "the next restore has nothing to remove");
    }

    #[test]
    fn a_restore_is_stopped_unless_its_end_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("staging");
        let begun = || {
            let stop = Stop::default();
            stop.begin(&staging).unwrap();
            fs::create_dir(&staging).unwrap();
            Unfinished::new(stop)
        };
        begun().ended();
        assert!(staging.exists());
        drop(begun());
        assert!(!staging.exists());
    }
}
