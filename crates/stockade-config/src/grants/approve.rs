//! `approve` of any grant: who is asked before a call is made.

use std::time::Duration;

use crate::keys::{INSTANCE_NAME, TEXT, text, time};
use crate::section::section;

section! {
    /// Another instance that is asked before each call of a grant is made. Its method gets
    /// the instance, the binding, the kind, the method and the beginning of the arguments,
    /// and the call is made if it returns `true`.
    pub struct Approve "approve" {
        /// The name of the instance.
        pub instance: String = text(INSTANCE_NAME).required(),
        /// The method that is called.
        pub method: String = text(TEXT).default("approve"),
        /// How long the answer may take. After it the call is refused.
        pub timeout: Duration = time(1, 3_600_000).default("30s"),
    }
}
