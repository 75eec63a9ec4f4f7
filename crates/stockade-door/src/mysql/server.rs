//! The server of a grant.

use std::sync::Arc;

use crate::server::{Dial, Login};
use crate::tls::Tls;

/// The server of a grant.
#[derive(Clone)]
pub struct Server {
    /// Makes connections to it.
    pub dial: Arc<dyn Dial>,
    /// TLS with which it is reached; without it, nothing is encrypted.
    pub tls: Option<Tls>,
    /// As whom the supervisor logs in.
    pub login: Login,
    /// Whether the user may read the server's files, or end others' work.
    pub allow_superuser: bool,
}
