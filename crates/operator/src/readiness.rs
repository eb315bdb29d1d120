//! Whether the operator does what a replica in its role should do.

use std::sync::Mutex;

use crate::metrics::ControllerName;

/// Role of this replica, and how far it has come in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The lease has not been read or written, or not for too long.
    Blind,
    /// Another replica leads: there is nothing to wait for.
    Standby,
    /// This replica leads; these controllers have not listed their objects yet.
    Leading(Vec<ControllerName>),
}

/// What /readyz answers.
#[derive(Debug)]
pub struct Readiness(Mutex<State>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(State::Blind))
    }
}

impl Readiness {
    /// This replica cannot know who leads, and could not lead itself.
    pub fn blind(&self) {
        self.set(State::Blind);
    }

    /// Another replica leads.
    pub fn standby(&self) {
        self.set(State::Standby);
    }

    /// This replica leads and its controllers start.
    pub fn leading(&self) {
        self.set(State::Leading(ControllerName::ALL.to_vec()));
    }

    /// The controller knows all of its objects.
    pub fn synced(&self, controller: ControllerName) {
        if let State::Leading(waiting) = &mut *self.lock() {
            waiting.retain(|name| *name != controller);
        }
    }

    /// Whether the replica is ready, or else what is missing.
    pub fn check(&self) -> Result<(), String> {
        match &*self.lock() {
            State::Blind => Err("who leads is not known: the lease cannot be read or written, or was not yet; the log says why".to_owned()),
            State::Standby => Ok(()),
            State::Leading(waiting) if waiting.is_empty() => Ok(()),
            State::Leading(waiting) => {
                let names: Vec<_> = waiting.iter().map(|name| name.as_str()).collect();
                Err(format!("controllers that have not listed their objects yet: {}", names.join(", ")))
            }
        }
    }

    fn set(&self, state: State) {
        *self.lock() = state;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No code can panic while it holds the lock, and the state is whole at any time.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_ready_on_standby_and_once_all_its_controllers_have_listed() {
        let readiness = Readiness::default();
        readiness.check().unwrap_err();
        readiness.standby();
        readiness.check().unwrap();
        readiness.leading();
        for name in ControllerName::ALL {
            assert!(readiness.check().unwrap_err().contains(name.as_str()));
            readiness.synced(name);
        }
        readiness.check().unwrap();
        readiness.blind();
        readiness.check().unwrap_err();
    }
}
