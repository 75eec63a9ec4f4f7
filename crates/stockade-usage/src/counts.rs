//! What is counted.

use serde::Serialize;

/// Declares what is counted: field and documentation. The name of a field is that of its column and of its JSON key.
macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $field:ident,)*) => {
        /// What was used. All numbers only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl Counts {
            /// The names of all fields, in their order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The numbers in the order of [`Counts::NAMES`].
            #[must_use]
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }

            /// The counts with these numbers, in the order of [`Counts::NAMES`].
            #[must_use]
            pub(crate) fn of_values(values: [u64; Self::NAMES.len()]) -> Self {
                let [$($field),*] = values;
                Self { $($field),* }
            }

            /// Adds other counts. A number that would be too large stays at the largest one.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

counts! {
    /// Requests of clients that reached the instance and were answered.
    requests,
    /// Requests that were answered with a status of 500 or more, or not completely.
    errors,
    /// Nanoseconds of CPU, as the kernel counted them.
    cpu_ns,
    /// Bytes of memory, each times the seconds for which it was held.
    memory_byte_seconds,
    /// Bytes of the bodies of requests, and of clients' WebSocket messages.
    bytes_in,
    /// Bytes of the bodies of responses, and of WebSocket messages to clients.
    bytes_out,
    /// Outbound requests, WebSockets and connections.
    egress_requests,
    /// Bytes that they sent.
    egress_sent,
    /// Bytes that they received.
    egress_received,
    /// Operations on the shared state.
    state_operations,
    /// Bytes of their arguments.
    state_sent,
    /// Bytes of their results.
    state_received,
    /// Calls of grants.
    grant_calls,
    /// Bytes of their arguments.
    grant_sent,
    /// Bytes of their results.
    grant_received,
    /// Rows that statements of grants returned or changed.
    grant_rows,
    /// Thousandths of a satoshi that were paid.
    grant_msat,
}

impl Counts {
    /// Whether nothing was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(|value| *value == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_their_values_and_stay_at_the_largest() {
        let mut counts = Counts {
            requests: 1,
            grant_msat: u64::MAX - 1,
            ..Counts::default()
        };
        assert_eq!(Counts::of_values(counts.values()), counts);
        assert!(!counts.is_empty());
        counts.add(&counts.clone());
        assert_eq!((counts.requests, counts.grant_msat), (2, u64::MAX));
        assert_eq!(Counts::NAMES.first(), Some(&"requests"));
    }
}
