//! A lock of ours: written, refreshed, released.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustic_core::Id;

use super::{LockHolder, LockMode, LockOptions, Timing, file::compose};
use crate::{
    Error,
    backend::{FileKind, Storage},
    seal::Sealer,
};

/// The files of one lock: one, or several while a refresh replaces it or could not remove what it replaced.
pub(super) struct OwnLock {
    storage: Arc<dyn Storage>,
    sealer: Sealer,
    url: String,
    holder: LockHolder,
    mode: LockMode,
    /// Every file that may be in the storage, the current one last.
    files: Vec<Id>,
    /// When the current one was written.
    written: Moment,
}

impl OwnLock {
    pub(super) fn new(repository: &crate::Repository, options: &LockOptions<'_>) -> Self {
        Self {
            storage: repository.storage.clone(),
            sealer: repository.sealer.clone(),
            url: repository.url.clone(),
            holder: options.holder.clone(),
            mode: options.mode,
            files: Vec::new(),
            written: Moment::now(),
        }
    }

    pub(super) fn files(&self) -> &[Id] {
        &self.files
    }

    /// Writes one more file, with the time of now.
    pub(super) fn write(&mut self) -> Result<(), Error> {
        let now = Moment::now();
        let (id, content) = compose(&self.sealer, &self.holder, self.mode, now.wall)
            .map_err(|error| Error::Engine { action: "locking", detail: error.to_string() })?;
        // Before it is written: a write that failed may still have happened. The current one stays the last.
        self.files.insert(0, id);
        self.storage.write(FileKind::Lock, &id, content).map_err(|cause| self.failed(cause))?;
        self.files.remove(0);
        self.files.push(id);
        self.written = now;
        Ok(())
    }

    /// Replaces the current file by one of now.
    fn refresh(&mut self) -> Result<Refresh, Error> {
        let listed = self.storage.list(FileKind::Lock).map_err(|cause| self.failed(cause))?;
        let current = self.files.last();
        if !listed.iter().any(|(id, _)| Some(id) == current) {
            return Ok(Refresh::Removed);
        }
        self.write()?;
        if let Err(error) = self.remove_all_but(1) {
            tracing::warn!(%error, "cannot remove a lock that was refreshed, trying again with the next refresh");
        }
        Ok(Refresh::Done)
    }

    pub(super) fn remove_all(&mut self) -> Result<(), Error> {
        self.remove_all_but(0)
    }

    /// Removes all files but the last `kept`; what cannot be removed stays known.
    fn remove_all_but(&mut self, kept: usize) -> Result<(), Error> {
        let kept = self.files.split_off(self.files.len().saturating_sub(kept));
        let mut outcome = Ok(());
        let mut left = Vec::new();
        for id in std::mem::take(&mut self.files) {
            if let Err(cause) = self.storage.remove(FileKind::Lock, &id) {
                outcome = Err(self.failed(cause));
                left.push(id);
            }
        }
        left.extend(kept);
        self.files = left;
        outcome
    }

    fn failed(&self, cause: crate::StorageError) -> Error {
        Error::storage(&self.url, cause)
    }
}

enum Refresh {
    Done,
    /// Somebody else has removed it, and may be at work since.
    Removed,
}

/// A moment by both clocks: the monotonic one stands still while the machine sleeps, the other one can be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: Timestamp,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: Timestamp::now() }
    }

    /// By the clock that says more.
    fn age(&self) -> Duration {
        let wall = Duration::try_from(Timestamp::now().duration_since(self.wall));
        self.monotonic.elapsed().max(wall.unwrap_or_default())
    }
}

/// Whether a lock is still ours, for all who work under it.
#[derive(Debug)]
pub(crate) struct LockState {
    url: String,
    lost_after: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    refreshed: Moment,
    /// Why the last refresh failed.
    failure: Option<String>,
    /// Why it is ours no more. Never taken back.
    lost: Option<String>,
}

impl LockState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is a single assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing, or why the lock is not ours any more.
    pub(crate) fn held(&self) -> Result<(), String> {
        let mut inner = self.inner();
        if inner.lost.is_none() && inner.refreshed.age() > self.lost_after {
            let minutes = self.lost_after.as_secs() / 60;
            let why = inner.failure.as_deref().unwrap_or("this process or its machine stood still");
            inner.lost = Some(format!("it could not be refreshed for {minutes} minutes: {why}"));
        }
        inner.lost.clone().map_or(Ok(()), Err)
    }

    fn check(&self) -> Result<(), Error> {
        self.held().map_err(|reason| Error::LockLost { url: self.url.clone(), reason })
    }

    fn lose(&self, reason: &str) {
        self.inner().lost.get_or_insert_with(|| reason.to_owned());
    }
}

/// A lock that is held. A thread of its own refreshes it; dropping it releases it.
///
/// What changes the repository under it belongs on [`crate::Repository::hold`], which refuses once the lock is lost.
pub struct LockGuard {
    state: Arc<LockState>,
    keeper: Mutex<Option<Keeper>>,
    release: Duration,
}

/// The thread that refreshes, and removes the lock when it is told to stop.
struct Keeper {
    stop: Sender<()>,
    done: Receiver<()>,
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("state", &self.state).finish_non_exhaustive()
    }
}

impl LockGuard {
    /// Keeps a lock that was written.
    pub(super) fn keep(own: OwnLock, timing: Timing) -> Result<Self, Error> {
        let inner = Inner { refreshed: own.written, failure: None, lost: None };
        let state = Arc::new(LockState {
            url: own.url.clone(),
            lost_after: timing.lost_after,
            inner: Mutex::new(inner),
        });
        let (stop, stopped) = mpsc::channel();
        let (ended, done) = mpsc::channel();
        let shared = state.clone();
        thread::Builder::new()
            .name("lock".to_owned())
            .spawn(move || {
                keep_until(&stopped, own, &shared, timing);
                // Nobody waits for it any more when the release took too long.
                let _ = ended.send(());
            })
            .map_err(|error| Error::Engine { action: "locking", detail: error.to_string() })?;
        Ok(Self { state, keeper: Mutex::new(Some(Keeper { stop, done })), release: timing.release })
    }

    /// Whether the lock is still held; [`Error::LockLost`] if others may have taken it for left behind.
    pub fn check(&self) -> Result<(), Error> {
        self.state.check()
    }

    /// Gives the lock back, as dropping it does. Takes at most seconds; what cannot be removed by then goes stale.
    pub fn release(&self) {
        self.state.lose("it was released");
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Keeper { stop, done }) = keeper {
            drop(stop);
            if done.recv_timeout(self.release) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("the lock could not be removed in time; it goes stale by itself");
            }
        }
    }

    pub(crate) fn state(&self) -> Arc<LockState> {
        self.state.clone()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.release();
    }
}

/// Refreshes until `stopped` is closed or the lock is lost, then removes what is left of it.
fn keep_until(stopped: &Receiver<()>, mut own: OwnLock, state: &LockState, timing: Timing) {
    let mut next = timing.refresh_every;
    while stopped.recv_timeout(next) == Err(RecvTimeoutError::Timeout) {
        if state.held().is_err() {
            // It may be taken for left behind already: a refresh now would stand beside somebody else's lock.
            // What is still under way must not meet others either, so it stays until the release.
            tracing::error!("the lock is lost");
            let _ = stopped.recv();
            break;
        }
        next = refresh(&mut own, state, timing);
    }
    if let Err(error) = own.remove_all() {
        tracing::warn!(%error, "cannot remove the lock; it goes stale by itself");
    }
}

/// Refreshes once; and when to do it again.
fn refresh(own: &mut OwnLock, state: &LockState, timing: Timing) -> Duration {
    match own.refresh() {
        Ok(Refresh::Done) => {
            let mut inner = state.inner();
            (inner.refreshed, inner.failure) = (own.written, None);
            timing.refresh_every
        }
        Ok(Refresh::Removed) => {
            state.lose("somebody else has removed it");
            Duration::ZERO
        }
        Err(error) => {
            tracing::warn!(%error, "cannot refresh the lock, trying again");
            state.inner().failure = Some(error.to_string());
            timing.refresh_again
        }
    }
}
