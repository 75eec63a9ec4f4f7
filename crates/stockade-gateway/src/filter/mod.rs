//! Whether a request may go to its route's target.

pub(crate) mod admission;
