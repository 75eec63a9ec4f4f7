//! Clients' certificates: who comes in, what is known of them, and what a host may ask.
