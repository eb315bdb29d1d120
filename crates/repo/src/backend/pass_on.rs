//! A storage around another one states only in what it differs.

/// The methods of a `Storage` around another one, its field `inner`, by which it is no other than that.
macro_rules! pass_on {
    ($($method:ident),+) => { $($crate::backend::pass_on!(@ $method);)+ };
    (@ url) => {
        fn url(&self) -> String { self.inner.url() }
    };
    (@ prepare) => {
        fn prepare(&self) -> Result<(), $crate::StorageError> { self.inner.prepare() }
    };
    (@ list) => {
        fn list(&self, kind: $crate::backend::FileKind) -> Result<Vec<(rustic_core::Id, u32)>, $crate::StorageError> {
            self.inner.list(kind)
        }
    };
    (@ read) => {
        fn read(
            &self, kind: $crate::backend::FileKind, id: &rustic_core::Id,
        ) -> Result<bytes::Bytes, $crate::StorageError> {
            self.inner.read(kind, id)
        }
    };
    (@ read_range) => {
        fn read_range(
            &self, kind: $crate::backend::FileKind, id: &rustic_core::Id, offset: u32, length: u32,
        ) -> Result<bytes::Bytes, $crate::StorageError> {
            self.inner.read_range(kind, id, offset, length)
        }
    };
    (@ write) => {
        fn write(
            &self, kind: $crate::backend::FileKind, id: &rustic_core::Id, content: bytes::Bytes,
        ) -> Result<(), $crate::StorageError> {
            self.inner.write(kind, id, content)
        }
    };
    (@ create_new) => {
        fn create_new(
            &self, kind: $crate::backend::FileKind, id: &rustic_core::Id, content: bytes::Bytes,
        ) -> Result<$crate::backend::Creation, $crate::StorageError> {
            self.inner.create_new(kind, id, content)
        }
    };
    (@ remove) => {
        fn remove(
            &self, kind: $crate::backend::FileKind, id: &rustic_core::Id,
        ) -> Result<(), $crate::StorageError> {
            self.inner.remove(kind, id)
        }
    };
}
pub(crate) use pass_on;
