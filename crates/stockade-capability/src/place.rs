//! The place of a call among those of its grant that run at once.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// What a call occupies until its work has ended: its place among the calls of its grant, and the bytes of its
/// arguments as far as they are bounded by the number of places.
///
/// A capability whose work goes on after the future of a call was dropped, such as a thread or a task of its own, gives
/// that work a clone. Otherwise a guest that cancels what it calls has any number of them running.
#[derive(Clone, Default)]
pub struct CallPlace(Option<Arc<dyn Any + Send + Sync>>);

impl CallPlace {
    /// The place ends when `held`, which every clone shares, is dropped.
    #[must_use]
    pub fn new(held: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Some(held))
    }
}

impl fmt::Debug for CallPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPlace")
            .field("is_held", &self.0.is_some())
            .finish()
    }
}
