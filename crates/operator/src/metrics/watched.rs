//! The objects that a controller watches, for as long as it does.

use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

/// The objects of one kind: none before a controller watches them, and none again once it no longer does. Two replicas must not
/// tell of the same objects, one of them of what it saw long ago.
#[derive(Debug)]
pub struct Watched<K: Resource<DynamicType = ()> + 'static>(Mutex<Option<Store<DeserializeGuard<K>>>>);

impl<K: Resource<DynamicType = ()> + 'static> Default for Watched<K> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Watched<K> {
    /// From now on the objects are these.
    pub fn watch(&self, objects: Store<DeserializeGuard<K>>) {
        self.set(Some(objects));
    }

    /// From now on there are none.
    pub fn forget(&self) {
        self.set(None);
    }

    /// The objects of the moment; what does not fit its type may be among them.
    pub fn state(&self) -> Vec<Arc<DeserializeGuard<K>>> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.as_ref().map(Store::state).unwrap_or_default()
    }

    fn set(&self, objects: Option<Store<DeserializeGuard<K>>>) {
        // No code can panic while it holds the lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = objects;
    }
}
