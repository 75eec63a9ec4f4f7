//! State that mirrors share: keyspaces with versions, watches and expiry.
