//! What the sections of `postgres`, `mysql` and `redis` have in common.

use crate::section::words;

words! {
    /// Whether a server is reached by TLS.
    pub enum DoorTls {
        /// By TLS, and the server proves its name.
        Required = "required",
        /// Without. Each network on the way can read and change everything.
        Off = "off",
    }
}
