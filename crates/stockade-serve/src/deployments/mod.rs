//! Versions of the code of instances: uploaded, kept, and given shares of the requests.
//!
//! A version is a folder that never changes, named by its contents. The deployment of an instance says which versions get
//! its requests. An instance without a deployment runs the code that the configuration names, which is the version `file`.
//!
//! Invariants:
//! 1. Whenever the process ends, a version is there completely or not at all, and a deployment is the old or the new one:
//!    each is on the disk under another name before it is renamed.
//! 2. Nothing that a bundle contains leads out of its folder: a path is checked before anything is written, and only files
//!    are taken.

mod bundle;
mod store;
mod version;

use std::sync::{Arc, OnceLock};

#[doc(hidden)]
pub use bundle::parse_bundle;
pub(crate) use bundle::{ARCHIVE_OVERHEAD, Bundle, BundleError};
pub use store::DeployError;
pub(crate) use store::{AboutVersion, DeploymentStore, VersionRecord};
pub(crate) use version::{Deployment, Past, Share, Sticky, TrafficError, VersionId, VersionRef};

/// The folder, once a configuration has named it.
pub(crate) type OpenDeployments = Arc<OnceLock<Arc<DeploymentStore>>>;
