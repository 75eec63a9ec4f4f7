//! Which route answers a request.
//!
//! A request passes, in this order:
//!
//! 1. [`authority`] brings its host into the one form in which hosts are compared; its path comes in normal form,
//! 2. [`lookup`] asks [`table`] for the route whose [`pattern`] matches most specifically, and applies the route's
//!    rule for encoded slashes,
//! 3. [`url`] makes the URL that the target sees.

pub(crate) mod authority;
pub(crate) mod lookup;
pub(crate) mod pattern;
pub(crate) mod table;
pub(crate) mod url;
