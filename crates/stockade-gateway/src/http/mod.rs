//! From a client's byte stream to requests, and from responses back to bytes.
//!
//! Towards the target:
//!
//! 1. [`serve`] is one connection from its acceptance on, [`connection`] what its requests share,
//! 2. [`driver`] runs hyper on it, and ends it by [`timeouts`],
//! 3. bytes pass [`inspected_stream`], where [`h1_framing`] or [`h2_frame_limiter`] checks them before hyper reads
//!    them; [`connection_state`] has the result,
//! 4. [`service`] takes each request: [`forwarded`] says who sent it, [`request_head`] checks its head, filters and
//!    route decide,
//! 5. [`target_call`] gives it to its target: [`headers`] removes what ends here, [`request_body`] bounds the body,
//!    and [`unread_body`] takes what nobody reads of it.
//!
//! Towards the client: [`headers`], filters, [`response_head`], then [`response_body`], with which
//! [`request_in_flight`] and its access record end.

pub(crate) mod connection;
pub(crate) mod connection_state;
pub(crate) mod driver;
pub(crate) mod forwarded;
pub(crate) mod h1_framing;
pub(crate) mod h2_frame_limiter;
pub(crate) mod headers;
pub(crate) mod inspected_stream;
pub(crate) mod request_body;
pub(crate) mod request_head;
pub(crate) mod request_in_flight;
pub(crate) mod response_body;
pub(crate) mod response_head;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod target_call;
pub(crate) mod timeouts;
pub(crate) mod unread_body;
