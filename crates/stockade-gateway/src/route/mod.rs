//! Which target a request is for.
//!
//! [`authority`] brings the host of a request into the one form in which hosts are compared, and [`table`] finds the
//! route with the [`pattern`] that matches most specifically.

pub(crate) mod authority;
pub(crate) mod pattern;
pub(crate) mod table;
