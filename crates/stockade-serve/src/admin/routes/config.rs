//! The configuration: shown, checked, compared, replaced, rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use stockade_config::{Config, Diagnostic, Diagnostics, Severity, redact};
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::command::{Command, Configure, ConfigureError};
use crate::admin::extract::{Json, Path};
use crate::admin::problem::ApiError;
use crate::admin::time::rfc3339;
use crate::config_file::{ConfigFile, version_of};

/// The configuration file.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConfigShown {
    /// Names this text: the first 16 hexadecimal digits of its SHA-256.
    version: String,
    /// Where the file is.
    path: String,
    /// The text, with `"[redacted]"` in place of the values of every `env`.
    text: String,
}

/// A configuration as YAML.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigText {
    text: String,
}

/// What is wrong with a configuration.
#[derive(Serialize, ToSchema)]
pub(crate) struct Validated {
    /// Whether it can be used.
    valid: bool,
    diagnostics: Vec<Finding>,
}

/// One thing that is wrong, and where.
#[derive(Serialize, ToSchema)]
pub(crate) struct Finding {
    /// `error` or `warning`.
    severity: &'static str,
    /// From 1; 0 where the whole text is meant.
    line: usize,
    /// In characters, from 1.
    column: usize,
    /// The keys that lead there.
    path: String,
    what: String,
    /// The nearest right key or word, if there is one that is similar.
    nearest: Option<String>,
    /// What is allowed, or how to mend it.
    allowed: Option<String>,
}

/// What a configuration would change.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changes {
    /// Instances that there are not yet.
    added: Vec<String>,
    /// Instances whose settings differ.
    changed: Vec<String>,
    /// Instances that would end.
    removed: Vec<String>,
    unchanged: usize,
    /// Keys at the top of the file that differ.
    settings: Vec<&'static str>,
}

/// A configuration that is in use.
#[derive(Serialize, ToSchema)]
pub(crate) struct Applied {
    version: String,
    /// What changed, for a person.
    message: String,
}

/// The versions that are kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct History {
    /// From the oldest to the latest.
    versions: Vec<PastConfig>,
}

/// A version of the configuration.
#[derive(Serialize, ToSchema)]
pub(crate) struct PastConfig {
    /// Counts the versions, from 1.
    number: u64,
    version: String,
    #[schema(format = DateTime)]
    recorded: Option<String>,
}

/// Which version is to be in use again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigRollback {
    version: String,
}

impl From<ConfigureError> for ApiError {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::OtherVersion(version) => Self::new(
                StatusCode::PRECONDITION_FAILED,
                format!(
                    "the configuration has the version {version} by now\n  fix: read it again and repeat the change"
                ),
            ),
            ConfigureError::Refused(why) => Self::unprocessable(why),
            ConfigureError::File(error) => Self::internal(&format!(
                "the configuration file cannot be read or written: {error}"
            )),
        }
    }
}

impl Finding {
    fn new(diagnostic: Diagnostic) -> Self {
        Self {
            severity: match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            line: diagnostic.line,
            column: diagnostic.column,
            path: diagnostic.path,
            what: diagnostic.what,
            nearest: diagnostic.nearest,
            allowed: diagnostic.allowed,
        }
    }
}

/// Does something with the file, on a thread that may wait for the disk.
async fn with_file<T: Send + 'static>(
    admin: &Admin,
    work: impl FnOnce(&ConfigFile) -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let file = ConfigFile::new(&admin.config_path);
    let working = tokio::task::spawn_blocking(move || work(&file));
    let done = working.await.map_err(|error| ApiError::internal(&error))?;
    done.map_err(|error| ConfigureError::File(error).into())
}

fn shown(admin: &Admin, text: &str) -> Result<ConfigShown, ApiError> {
    let redacted = redact(text).ok_or_else(|| {
        ApiError::conflict(
            "the configuration file is not YAML now, so that it cannot be shown without its values",
        )
    })?;
    Ok(ConfigShown {
        version: version_of(text),
        path: admin.config_path.display().to_string(),
        text: redacted,
    })
}

/// Show the configuration file.
///
/// The header `etag` has its version, for `if-match`.
#[utoipa::path(get, path = "/v1/config", tag = "configuration",
    responses((status = 200, description = "The file now", body = ConfigShown,
        headers(("etag" = String, description = "Its version, in quotes")))))]
pub(crate) async fn show(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let text = with_file(&admin, ConfigFile::read).await?;
    let shown = shown(&admin, &text)?;
    let etag = HeaderValue::try_from(format!("\"{}\"", shown.version));
    let etag = etag.map_err(|error| ApiError::internal(&error))?;
    Ok(([(ETAG, etag)], Json(shown)).into_response())
}

async fn load(admin: &Admin, text: String) -> Result<Result<Config, Diagnostics>, ApiError> {
    let path = admin.config_path.clone();
    let loading = tokio::task::spawn_blocking(move || Config::load_text(&path, &text));
    let loaded = loading.await.map_err(|error| ApiError::internal(&error))?;
    Ok(loaded.map(|loaded| loaded.config))
}

/// Check a configuration.
///
/// Nothing changes. Files that it names must be there.
#[utoipa::path(post, path = "/v1/config/validate", tag = "configuration", request_body = ConfigText,
    responses((status = 200, description = "What is wrong with it", body = Validated)))]
pub(crate) async fn validate(
    State(admin): State<Arc<Admin>>,
    Json(request): Json<ConfigText>,
) -> Result<Json<Validated>, ApiError> {
    let path = admin.config_path.clone();
    let loading = tokio::task::spawn_blocking(move || Config::load_text(&path, &request.text));
    let loaded = loading.await.map_err(|error| ApiError::internal(&error))?;
    let valid = loaded.is_ok();
    let diagnostics = loaded.map_or_else(|errors| errors.list, |loaded| loaded.warnings);
    Ok(Json(Validated {
        valid,
        diagnostics: diagnostics.into_iter().map(Finding::new).collect(),
    }))
}

/// Compare a configuration with the one that is in use.
#[utoipa::path(post, path = "/v1/config/diff", tag = "configuration", request_body = ConfigText,
    responses((status = 200, description = "What it would change", body = Changes)))]
pub(crate) async fn diff(
    State(admin): State<Arc<Admin>>,
    Json(request): Json<ConfigText>,
) -> Result<Json<Changes>, ApiError> {
    let next = load(&admin, request.text).await?;
    let next = next.map_err(|errors| ApiError::unprocessable(errors.to_string()))?;
    let running = admin.running.load_full();
    let running = running.ok_or_else(|| ApiError::unavailable("the server is starting"))?;
    Ok(Json(changes(&running.config, &next)))
}

fn changes(now: &Config, next: &Config) -> Changes {
    let (mut added, mut changed, mut unchanged) = (Vec::new(), Vec::new(), 0);
    for (name, instance) in &next.instances {
        match now.instances.get(name) {
            None => added.push(name.clone()),
            Some(before) if before == instance => unchanged += 1,
            Some(_) => changed.push(name.clone()),
        }
    }
    let gone = now.instances.keys();
    let gone = gone.filter(|name| !next.instances.contains_key(*name));
    let removed = gone.cloned().collect();
    let (before, after) = (settings(now), settings(next));
    let differ = before
        .iter()
        .filter(|(key, text)| after.get(*key) != Some(text));
    Changes {
        added,
        changed,
        removed,
        unchanged,
        settings: differ.map(|(key, _)| *key).collect(),
    }
}

/// The settings of the whole file, as they are compared.
fn settings(config: &Config) -> BTreeMap<&'static str, String> {
    let settings: [(&'static str, &dyn std::fmt::Debug); 13] = [
        ("admin", &config.admin),
        ("api_keys", &config.api_keys),
        ("audit", &config.audit),
        ("control", &config.control),
        ("drain_timeout", &config.drain_timeout),
        ("https_redirect", &config.https_redirect),
        ("limits", &config.limits),
        ("listeners", &config.listeners),
        ("logging", &config.logging),
        ("metrics", &config.metrics),
        ("state", &config.state),
        ("trusted_proxies", &config.trusted_proxies),
        ("watch", &config.watch),
    ];
    let text = |(key, setting): (&'static str, &dyn std::fmt::Debug)| (key, format!("{setting:?}"));
    settings.into_iter().map(text).collect()
}

/// Replace the configuration.
///
/// The text is checked and taken into use as a reload does, completely or not at all. `if-match` names the version that it
/// replaces, so that no change by another hand is lost. The file is then the new text, and the version before is kept.
#[utoipa::path(put, path = "/v1/config", tag = "configuration", request_body = ConfigText,
    params(("if-match" = String, Header, description = "The version that is replaced, in quotes; `*` is any")),
    responses((status = 200, description = "It is in use", body = Applied)))]
pub(crate) async fn apply(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Json(request): Json<ConfigText>,
) -> Result<Json<Applied>, ApiError> {
    let expected = expected(&headers)?.ok_or_else(|| {
        let detail = "The header if-match is needed, with the version that is replaced: the etag of GET /v1/config.";
        ApiError::new(StatusCode::PRECONDITION_REQUIRED, detail)
    })?;
    if request.text.contains("[redacted]") {
        return Err(ApiError::unprocessable(
            "the text has [redacted] where values of env were: write the values in their places",
        ));
    }
    configure(&admin, request.text, expected).await
}

/// The version in `if-match` (RFC 9110, section 13.1.1); inside, `None` for any version.
fn expected(headers: &HeaderMap) -> Result<Option<Option<String>>, ApiError> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(None));
    }
    let version = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let version = version.ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "if-match is one version in quotes, or *",
        )
    })?;
    Ok(Some(Some(version.to_owned())))
}

async fn configure(
    admin: &Admin,
    text: String,
    expected: Option<String>,
) -> Result<Json<Applied>, ApiError> {
    let request = Configure { text, expected };
    let configured = admin
        .asked(|answer| Command::Configure(request, answer))
        .await??;
    Ok(Json(Applied {
        version: configured.version,
        message: configured.message,
    }))
}

/// List the versions of the configuration.
///
/// A version is kept when it is replaced by this API: the latest 50.
#[utoipa::path(get, path = "/v1/config/history", tag = "configuration",
    responses((status = 200, description = "The versions that are kept", body = History)))]
pub(crate) async fn history(State(admin): State<Arc<Admin>>) -> Result<Json<History>, ApiError> {
    let versions = with_file(&admin, ConfigFile::history).await?.into_iter();
    let versions = versions.map(|past| PastConfig {
        number: past.number,
        version: past.version,
        recorded: rfc3339(past.recorded),
    });
    Ok(Json(History {
        versions: versions.collect(),
    }))
}

async fn past(admin: &Admin, version: String) -> Result<String, ApiError> {
    let missing = ApiError::not_found(format!("no version {version:?} is kept"));
    let text = with_file(admin, move |file| file.text_of(&version)).await?;
    text.ok_or(missing)
}

/// Show a version of the configuration.
#[utoipa::path(get, path = "/v1/config/history/{version}", tag = "configuration",
    params(("version" = String, Path, description = "The version")),
    responses((status = 200, description = "Its text", body = ConfigShown)))]
pub(crate) async fn show_past(
    State(admin): State<Arc<Admin>>,
    Path(version): Path<String>,
) -> Result<Json<ConfigShown>, ApiError> {
    let text = past(&admin, version).await?;
    Ok(Json(shown(&admin, &text)?))
}

/// Take a version of the configuration into use again.
///
/// With `if-match`, only if the configuration has this version now.
#[utoipa::path(post, path = "/v1/config/rollback", tag = "configuration", request_body = ConfigRollback,
    params(("if-match" = Option<String>, Header, description = "The version that is replaced, in quotes")),
    responses((status = 200, description = "It is in use", body = Applied)))]
pub(crate) async fn roll_back(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    Json(request): Json<ConfigRollback>,
) -> Result<Json<Applied>, ApiError> {
    let expected = expected(&headers)?.flatten();
    let text = past(&admin, request.version).await?;
    configure(&admin, text, expected).await
}
