//! Versions of the code of an instance: uploaded, listed.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use stockade_transpile::ModuleFiles;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::{IntoParams, ToSchema};

use crate::admin::Admin;
use crate::admin::api::Caller;
use crate::admin::extract::{Json, Path, Query};
use crate::admin::problem::ApiError;
use crate::admin::time::{now_seconds, rfc3339};
use crate::check::importable;
use crate::deployments::{
    ARCHIVE_OVERHEAD, AboutVersion, Bundle, BundleError, DeployError, Deployment, DeploymentStore,
    VersionId, VersionRecord, VersionRef,
};

/// Uploads that are handled at the same time: each is in memory as a whole.
static UPLOADS: Semaphore = Semaphore::const_new(2);

/// How long an upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of what is said of a version.
const MAX_MESSAGE: usize = 1000;

/// Errors of code that an answer names.
const MAX_ERRORS: usize = 20;

/// What is said of a version when it is uploaded.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct About {
    /// The module that is run. Without it, the name of the file that `code` of the configuration names, if the bundle has
    /// it, else `index` with one of the endings `.ts`, `.js`, `.tsx`, `.jsx` and `.mjs`.
    main: Option<String>,
    /// What changed, for people: at most 1,000 bytes.
    message: Option<String>,
}

/// Texts by their paths.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleTexts {
    /// Relative paths with slashes, and the texts of the files.
    files: BTreeMap<String, String>,
}

/// A version of the code of an instance. It never changes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Version {
    /// Its name: the first 16 digits of its digest.
    version: String,
    /// SHA-256 of its files and their paths, hexadecimal.
    digest: String,
    /// The module that is run; null for an `index` file.
    main: Option<String>,
    #[schema(format = DateTime)]
    created: Option<String>,
    /// Who uploaded it.
    caller: String,
    message: String,
    files: usize,
    bytes: u64,
    /// Its share of the requests of the instance; 0 where it gets none.
    percent: u8,
}

/// The version `file`: the code that the configuration names.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileVersion {
    /// The path of the code.
    code: String,
    /// Its share of the requests of the instance; 0 where it gets none.
    percent: u8,
}

/// The versions of an instance.
#[derive(Serialize, ToSchema)]
pub(crate) struct Versions {
    file: FileVersion,
    /// Those that were uploaded, from the latest to the oldest. None where the configuration has no key `deployments`.
    versions: Vec<Version>,
}

impl From<BundleError> for ApiError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Bytes(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            _ => Self::unprocessable(error.to_string()),
        }
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        Self::internal(&error)
    }
}

/// The share of the requests that a version gets.
fn percent(version: &VersionRef, deployment: &Deployment) -> u8 {
    let mut shares = deployment.traffic.iter();
    let share = shares.find(|share| share.version == *version);
    share.map_or(0, |share| share.percent)
}

impl Version {
    fn new(id: &VersionId, record: VersionRecord, deployment: &Deployment) -> Self {
        Self {
            version: id.to_string(),
            digest: record.digest,
            main: record.main,
            created: rfc3339(record.created),
            caller: record.caller,
            message: record.message,
            files: record.files,
            bytes: record.bytes,
            percent: percent(&VersionRef::Uploaded(id.clone()), deployment),
        }
    }
}

/// The store of an instance that has code.
pub(crate) fn store_of(admin: &Admin, instance: &str) -> Result<Arc<DeploymentStore>, ApiError> {
    code_of(admin, instance)?;
    store(admin).ok_or_else(|| {
        ApiError::conflict("the server takes no code: the configuration has no key `deployments`")
    })
}

/// The store, if the configuration has one.
fn store(admin: &Admin) -> Option<Arc<DeploymentStore>> {
    let running = admin.running.load_full()?;
    let store = admin.deployments.get();
    store
        .filter(|_| running.config.deployments.is_some())
        .map(Arc::clone)
}

/// The path of the code that the configuration names for an instance.
fn code_of(admin: &Admin, instance: &str) -> Result<String, ApiError> {
    let site = admin.site(instance)?;
    let code = site.config.code.as_ref().map(|path| path.display());
    let code = code.map(|path| path.to_string());
    code.ok_or_else(|| ApiError::conflict(format!("the instance {instance:?} has no code")))
}

/// Does what may wait for the disk.
pub(crate) async fn in_store<T: Send + 'static>(
    store: Arc<DeploymentStore>,
    work: impl FnOnce(&DeploymentStore) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let working = tokio::task::spawn_blocking(move || work(&store));
    working.await.map_err(|error| ApiError::internal(&error))?
}

/// List the versions of an instance: the code that the configuration names, and what was uploaded.
#[utoipa::path(get, path = "/v1/instances/{instance}/versions", tag = "deployments",
    params(("instance" = String, Path, description = "The name of the instance")),
    responses((status = 200, description = "All versions that are kept", body = Versions)))]
pub(crate) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(instance): Path<String>,
) -> Result<Json<Versions>, ApiError> {
    let code = code_of(&admin, &instance)?;
    // Without a store, no instance has a deployment.
    let Some(store) = store(&admin) else {
        let percent = percent(&VersionRef::File, &Deployment::default());
        return Ok(Json(Versions {
            file: FileVersion { code, percent },
            versions: Vec::new(),
        }));
    };
    let listing = in_store(store, move |store| {
        let deployment = store.deployment(&instance)?;
        let versions = store.versions(&instance)?.into_iter();
        let versions = versions.map(|(id, record)| Version::new(&id, record, &deployment));
        let percent = percent(&VersionRef::File, &deployment);
        Ok(Versions {
            file: FileVersion { code, percent },
            versions: versions.collect(),
        })
    });
    listing.await.map(Json)
}

/// Show a version.
#[utoipa::path(get, path = "/v1/instances/{instance}/versions/{version}", tag = "deployments",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("version" = String, Path, description = "The name of the version")),
    responses((status = 200, description = "The version", body = Version)))]
pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    Path((instance, version)): Path<(String, String)>,
) -> Result<Json<Version>, ApiError> {
    let store = store_of(&admin, &instance)?;
    let missing = || ApiError::not_found(format!("there is no version {version:?}"));
    let id = VersionId::parse(&version).ok_or_else(missing)?;
    let reading = in_store(store, move |store| {
        let deployment = store.deployment(&instance)?;
        let record = store.version(&instance, &id)?;
        Ok(record.map(|record| Version::new(&id, record, &deployment)))
    });
    reading.await?.map(Json).ok_or_else(missing)
}

/// Upload a version.
///
/// An archive of files and folders (tar, tar with gzip, or zip), or a JSON object with texts. The code must compile, and what it imports must be in the
/// bundle. A version gets no requests until it is deployed. Uploading the same files again gives the same version.
#[utoipa::path(post, path = "/v1/instances/{instance}/versions", tag = "deployments",
    params(("instance" = String, Path, description = "The name of the instance"), About),
    request_body(description = "The files", content(
        (BundleTexts = "application/json"), (String = "application/x-tar"), (String = "application/gzip"),
        (String = "application/zip"))),
    responses((status = 201, description = "The version", body = Version)))]
pub(crate) async fn upload(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path(instance): Path<String>,
    Query(about): Query<About>,
    request: Request,
) -> Result<(StatusCode, Json<Version>), ApiError> {
    // What the configuration allows, and what is said of the version.
    let store = store_of(&admin, &instance)?;
    let site = admin.site(&instance)?;
    let running = admin.running.load_full();
    let settings = running
        .as_ref()
        .and_then(|running| running.config.deployments.as_ref());
    let (most, keep) = settings.map_or((0, 1), |settings| (settings.max_bundle, settings.keep));
    let message = about.message.unwrap_or_default();
    if message.len() > MAX_MESSAGE {
        return Err(ApiError::unprocessable(format!(
            "message has at most {MAX_MESSAGE} bytes"
        )));
    }

    // The whole body.
    let received = Received::read(request, most).await?;

    // Unpacked, checked, and kept.
    let code = site.config.code.as_ref();
    let configured = code.and_then(|code| code.file_name()?.to_str().map(str::to_owned));
    let (_, caller, _) = caller.facts();
    let of_instance = instance.clone();
    let keeping = in_store(Arc::clone(&store), move |store| {
        // Given back when the thread is free, whether or not the client has waited.
        let (bundle, _place) = received.unpack(most)?;
        let main = main_of(about.main, configured, &bundle)?;
        let about = AboutVersion {
            main: main.clone(),
            created: now_seconds(),
            caller,
            message,
        };
        let check = |files: &FilePath| check_code(files, main.as_deref());
        let (id, record) = store.add(&of_instance, &bundle, about, check)?;
        let deployment = store.deployment(&of_instance)?;
        Ok((id, record, deployment))
    });
    let (id, record, deployment) = keeping.await?;

    // The oldest versions go, and nothing is deployed meanwhile.
    let changing = store.changing.lock().await;
    let pruning = in_store(Arc::clone(&store), move |store| {
        let now = store.deployment(&instance)?;
        Ok(store.prune(&instance, keep, &now)?)
    });
    pruning.await?;
    drop(changing);
    let version = Version::new(&id, record, &deployment);
    Ok((StatusCode::CREATED, Json(version)))
}

/// A bundle as it came.
struct Received {
    format: Format,
    body: Bytes,
    /// Its place among those that are in memory.
    place: SemaphorePermit<'static>,
}

impl Received {
    /// Reads the body of a request, of which few are in memory at a time. Its files have at most `most` bytes.
    async fn read(request: Request, most: u64) -> Result<Self, ApiError> {
        let busy = || {
            ApiError::unavailable("other versions are being uploaded")
                .retry_after(Duration::from_secs(1))
        };
        let place = UPLOADS.try_acquire().map_err(|_| busy())?;
        let format = format(&request)?;
        let limit = usize::try_from(most.saturating_add(ARCHIVE_OVERHEAD)).unwrap_or(usize::MAX);
        let reading = axum::body::to_bytes(request.into_body(), limit);
        let late = || {
            ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the bundle did not arrive in time",
            )
        };
        let read = tokio::time::timeout(UPLOAD_TIMEOUT, reading)
            .await
            .map_err(|_| late())?;
        let body = read.map_err(|error| {
            let detail =
                format!("the bundle cannot be read, or has more than {limit} bytes: {error}");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        Ok(Self {
            format,
            body,
            place,
        })
    }

    /// The files of an archive. The place is held until they are no longer needed.
    fn unpack(self, most: u64) -> Result<(Bundle, SemaphorePermit<'static>), ApiError> {
        let Self {
            format,
            body,
            place,
        } = self;
        let bundle = match format {
            Format::Tar => Bundle::from_tar(&*body, most)?,
            Format::TarGz => Bundle::from_tar_gz(&body, most)?,
            Format::Zip => Bundle::from_zip(&body, most)?,
            Format::Texts => {
                let texts: BundleTexts = serde_json::from_slice(&body)
                    .map_err(|error| ApiError::unprocessable(format!("the bundle: {error}")))?;
                Bundle::from_texts(texts.files, most)?
            }
        };
        Ok((bundle, place))
    }
}

/// The module that is run: the one that the request names, or the one that the configuration does; `None`: an `index` file.
fn main_of(
    named: Option<String>,
    configured: Option<String>,
    bundle: &Bundle,
) -> Result<Option<String>, ApiError> {
    match named {
        Some(main) if !bundle.has(&main) => Err(ApiError::unprocessable(format!(
            "the bundle has no file {main:?}"
        ))),
        Some(main) => Ok(Some(main)),
        None => Ok(configured.filter(|name| bundle.has(name))),
    }
}

/// What a body is.
enum Format {
    Tar,
    TarGz,
    Zip,
    /// JSON.
    Texts,
}

fn format(request: &Request) -> Result<Format, ApiError> {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(|kind| kind.as_bytes());
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    match kind.map(<[u8]>::trim_ascii) {
        Some(b"application/x-tar") => Ok(Format::Tar),
        Some(b"application/gzip" | b"application/x-gzip") => Ok(Format::TarGz),
        Some(b"application/zip") => Ok(Format::Zip),
        Some(b"application/json") => Ok(Format::Texts),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content-type is application/x-tar, application/gzip (of a tar archive), application/zip or application/json",
        )),
    }
}

/// Compiles everything that the module leads to.
fn check_code(files: &FilePath, main: Option<&str>) -> Result<(), ApiError> {
    let entry = main.map_or_else(|| files.to_owned(), |main| files.join(main));
    let modules = ModuleFiles::read(&entry).map_err(|error| {
        // Paths of the server mean nothing to the one that uploads.
        let shown = format!("{}/", files.display());
        let text = error.to_string().replace(&shown, "");
        ApiError::unprocessable(text.replace(&files.display().to_string(), "the bundle"))
    })?;
    let known = importable();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let errors = modules.errors(&known);
    if errors.is_empty() {
        return Ok(());
    }
    let mut text: Vec<String> = errors
        .iter()
        .take(MAX_ERRORS)
        .map(ToString::to_string)
        .collect();
    if errors.len() > MAX_ERRORS {
        text.push(format!("and {} more", errors.len() - MAX_ERRORS));
    }
    Err(ApiError::unprocessable(text.join("\n")))
}
