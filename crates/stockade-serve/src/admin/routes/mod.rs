//! The routes: a file for each resource.
//!
//! A handler is an `async fn` with `#[utoipa::path]`, whose documentation comment is the text of the OpenAPI document. It
//! takes `State<Arc<Admin>>` and the extractors of `super::extract`, and returns `Result<Json<…>, ApiError>`. What it
//! returns derives `Serialize` and `ToSchema`. `../router.rs` adds it to the router.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod debug;
pub(crate) mod deployment;
pub(crate) mod history;
pub(crate) mod instances;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod logs;
pub(crate) mod mirrors;
pub(crate) mod openapi;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod refused;
pub(crate) mod reload;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod usage;
pub(crate) mod versions;
