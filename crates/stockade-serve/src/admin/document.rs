//! What the OpenAPI document has besides the routes.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::problem::Problem;

/// Paths that every client may GET, by the listener: they contain nothing of this server's.
const OPEN: &[&str] = &["/v1/openapi.json"];

/// Whether a path is open.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

const DESCRIPTION: &str = "\
State and control of a running `stockade serve`.

On the control socket no key is needed: the system states who the client is. On the listener of the configuration's key \
`admin`, a client shows an API key with the scope `admin`, or a client certificate.

Times are RFC 3339 in UTC, sizes are bytes, and a duration has its unit in its name.";

/// The document without routes.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Stockade")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION));
    let mut components = Components::new();
    components.add_security_scheme(
        "api_key",
        SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
    );
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("api_key", [] as [&str; 0])]))
        .build()
}

/// The document of all routes: each of them can be answered with a problem too.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let operations: [&mut Option<Operation>; 5] = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            for (range, why) in [
                ("4XX", "The request is refused"),
                ("5XX", "The server failed"),
            ] {
                let responses = &mut operation.responses.responses;
                responses.insert(range.to_owned(), RefOr::T(problem(why)));
            }
            if OPEN.contains(&path.as_str()) {
                operation.security = Some(vec![SecurityRequirement::default()]);
            }
        }
    }
    document
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    // What is not a request of HTTP as it must be is answered before the API is reached.
    let text = ContentBuilder::new().schema(Some(String::schema())).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content)
        .content("text/plain", text)
        .build()
}
