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

/// Stops a restore from another thread, and clears away what it has written. Clones stop the same restore.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// The restore has written nothing yet.
    #[default]
    Before,
    /// It writes into this directory, which is its own.
    Writing(PathBuf),
    /// The data has its name.
    InPlace,
    /// It was stopped.
    Stopped,
}

/// What became of a restore that was to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It leaves nothing.
    Cleared,
    /// It leaves this, which could not be removed. The next restore to the same target does that.
    Left(PathBuf),
    /// It was faster: all of the data is in place.
    TooLate,
}

impl Stop {
    /// Stops the restore. It ends with an error some time later; nothing of what it does until then gets the name `data`.
    #[must_use]
    pub fn stop(&self) -> Stopped {
        let mut state = self.state();
        match mem::replace(&mut *state, State::Stopped) {
            State::Before | State::Stopped => Stopped::Cleared,
            State::InPlace => {
                *state = State::InPlace;
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
            tracing::warn!(left = %staging.display(), "an earlier restore did not come to its end; what it left is removed");
            remove(staging)?;
        }
        *state = State::Writing(staging.to_owned());
        Ok(())
    }

    /// The data gets its name, unless the restore is to end: nobody removes it meanwhile.
    pub(crate) fn put_in_place(&self, put: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut state = self.state();
        if matches!(*state, State::Stopped) {
            return Err(Error::Stopped);
        }
        put()?;
        *state = State::InPlace;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        stop.put_in_place(|| Ok(())).unwrap();
        assert_eq!(stop.stop(), Stopped::TooLate);
        assert!(staging.exists(), "it clears that away itself");
    }
}
