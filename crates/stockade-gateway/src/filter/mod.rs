//! Whether a request may go to a target: between its head and its route's target.

pub(crate) mod admission;
