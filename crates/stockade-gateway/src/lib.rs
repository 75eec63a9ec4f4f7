//! Listeners, TLS and routes: from a client's connection to the site that answers.
