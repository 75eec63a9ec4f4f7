//! The API keys that are open, for the parts of the server that use them.

use std::sync::{Arc, OnceLock};

use stockade_auth::Keys;
use stockade_config::ApiKeys;

/// The keys that are open, with their place; also those that a refused reload has opened.
pub(crate) type OpenKeys = Arc<OnceLock<(ApiKeys, Keys)>>;
