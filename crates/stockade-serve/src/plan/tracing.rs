//! From the configuration's traces to their options. What the file leaves out, the variables of OpenTelemetry say
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use stockade_config::{TraceProtocol, Tracing};
use stockade_gateway::TraceParents;
use stockade_trace::{Protocol, TraceOptions};

use crate::error::TracingError;

/// The first wait before spans are sent again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest time that a stop waits for spans to be sent.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// The path that collectors have for spans.
const HTTP_PATH: &str = "/v1/traces";

/// How to trace. `variable` gives the value of an environment variable.
///
/// # Errors
/// When a header or a variable cannot be used.
pub(crate) fn options(
    tracing: &Tracing,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<TraceOptions, TracingError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of_traces = |name: &str| {
        let own = name.replace("OTLP_", "OTLP_TRACES_");
        let found = variable(&own).map(|value| (own, value));
        found.or_else(|| variable(name).map(|value| (name.to_owned(), value)))
    };
    let protocol = match tracing.protocol {
        Some(TraceProtocol::HttpProtobuf) => Protocol::HttpProtobuf,
        Some(TraceProtocol::Grpc) => Protocol::Grpc,
        None => match of_traces("OTEL_EXPORTER_OTLP_PROTOCOL") {
            None => Protocol::default(),
            Some((_, value)) if value == "http/protobuf" => Protocol::HttpProtobuf,
            Some((_, value)) if value == "grpc" => Protocol::Grpc,
            Some((name, _)) => return Err(unusable(name, "http/protobuf or grpc")),
        },
    };
    Ok(TraceOptions {
        endpoint: endpoint(tracing, protocol, &variable)?,
        protocol,
        headers: headers(tracing, of_traces("OTEL_EXPORTER_OTLP_HEADERS"))?,
        ca: tracing.ca.clone(),
        ratio: ratio(tracing, &variable)?,
        resource: resource(tracing, &variable),
        timeout: tracing.timeout,
        retry_after: RETRY_AFTER,
        queue: tracing.queue,
    })
}

fn unusable(variable: impl Into<String>, allowed: &'static str) -> TracingError {
    TracingError::Variable {
        name: variable.into(),
        allowed,
    }
}

/// The URL of the file, or of a variable: one of them is for spans alone and is the whole URL.
fn endpoint(
    tracing: &Tracing,
    protocol: Protocol,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Uri, TracingError> {
    const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let parse = |name: &str, value: String| {
        let allowed = "a URL such as http://127.0.0.1:4318";
        value.parse::<Uri>().map_err(|_| unusable(name, allowed))
    };
    let (uri, is_base) = if let Some(uri) = &tracing.endpoint {
        (uri.clone(), matches!(uri.path(), "" | "/"))
    } else if let Some(value) = variable(OWN) {
        (parse(OWN, value)?, false)
    } else if let Some(value) = variable(GENERAL) {
        (parse(GENERAL, value)?, true)
    } else {
        let default = match protocol {
            Protocol::HttpProtobuf => "http://127.0.0.1:4318",
            Protocol::Grpc => "http://127.0.0.1:4317",
        };
        (Uri::from_static(default), true)
    };
    if !is_base || protocol == Protocol::Grpc {
        return Ok(uri);
    }
    let mut parts = uri.clone().into_parts();
    let path = format!("{}{HTTP_PATH}", uri.path().trim_end_matches('/'));
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).map_err(|_| unusable(GENERAL, "a URL such as http://127.0.0.1:4318"))
}

/// Headers of the variable, and of the file in their place.
fn headers(
    tracing: &Tracing,
    variable: Option<(String, String)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, TracingError> {
    let mut headers = Vec::new();
    if let Some((name, text)) = variable {
        let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
        for pair in pairs {
            let allowed = "name=value, with commas between";
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| unusable(&name, allowed))?;
            let key: HeaderName = key.trim().parse().map_err(|_| unusable(&name, allowed))?;
            let value = value.trim().parse().map_err(|_| unusable(&name, allowed))?;
            if !tracing.headers.keys().any(|own| key == own.as_str()) {
                headers.push((key, value));
            }
        }
    }
    for (name, secret) in &tracing.headers {
        let wrong = || TracingError::Header(name.clone());
        let key: HeaderName = name.parse().map_err(|_| wrong())?;
        let value = HeaderValue::from_str(secret.reveal()).map_err(|_| wrong())?;
        headers.push((key, value));
    }
    for (_, value) in &mut headers {
        value.set_sensitive(true);
    }
    Ok(headers)
}

fn ratio(
    tracing: &Tracing,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<f64, TracingError> {
    const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
    if let Some(ratio) = tracing.sampling {
        return Ok(ratio);
    }
    let Some(value) = variable(NAME) else {
        return Ok(1.0);
    };
    let ratio = value.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| unusable(NAME, "a number from 0 to 1"))
}

/// Attributes of the variable, and of the file in their place.
fn resource(
    tracing: &Tracing,
    variable: &impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    const SERVICE: &str = "service.name";
    let given = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
    let mut all: std::collections::BTreeMap<String, String> = pairs
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect();
    all.extend(tracing.attributes.clone());
    let name = tracing.service_name.clone();
    if let Some(name) = name.or_else(|| variable("OTEL_SERVICE_NAME")) {
        all.insert(SERVICE.to_owned(), name);
    }
    all.entry(SERVICE.to_owned())
        .or_insert_with(|| "stockade".to_owned());
    all.into_iter().collect()
}

/// Whose traces are continued.
pub(crate) fn parents(tracing: &Tracing) -> TraceParents {
    match tracing.parents {
        stockade_config::TraceParents::TrustedProxies => TraceParents::Trusted,
        stockade_config::TraceParents::Everyone => TraceParents::Everyone,
        stockade_config::TraceParents::Nobody => TraceParents::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_config::Config;

    use super::*;

    fn read(tracing: &str, variables: &[(&str, &str)]) -> Result<TraceOptions, TracingError> {
        let text =
            format!("version: \"1.0\"\ntracing: {tracing}\ninstances: {{a: {{code: a.ts}}}}\n");
        let loaded = Config::parse(&text, "stockade.yaml", Path::new("/srv")).unwrap();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        options(&loaded.config.tracing.unwrap(), variable)
    }

    #[test]
    fn endpoint_is_that_of_the_file_then_of_a_variable() {
        let of = |tracing: &str, variables: &[(&str, &str)]| {
            read(tracing, variables).unwrap().endpoint.to_string()
        };
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1/base/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:2/own");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(of("true", &[]), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(of("true", &[grpc]), "http://127.0.0.1:4317/");
        assert_eq!(of("true", &[general]), "http://b:1/base/v1/traces");
        assert_eq!(of("true", &[general, own]), "http://c:2/own");
        let file = "{endpoint: \"https://a\"}";
        assert_eq!(of(file, &[general, own]), "https://a/v1/traces");
        let path = "{endpoint: \"https://a/x\"}";
        assert_eq!(of(path, &[]), "https://a/x");
    }

    #[test]
    fn variables_fill_in_what_the_file_leaves_out() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=2=3"),
            ("OTEL_SERVICE_NAME", "named"),
            ("OTEL_RESOURCE_ATTRIBUTES", "x=1,y=2"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ];
        let options = read("true", &variables).unwrap();
        let headers: Vec<(&str, &str)> = options
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(headers, [("a", "1"), ("b", "2=3")]);
        assert!((options.ratio - 0.25).abs() < f64::EPSILON);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            options.resource,
            [
                pair("service.name", "named"),
                pair("x", "1"),
                pair("y", "2")
            ]
        );
        let file = "{headers: {a: own}, sampling: 0.5, service_name: own, attributes: {y: own}}";
        let options = read(file, &variables).unwrap();
        assert_eq!(options.headers.len(), 2);
        assert_eq!(options.headers[1].1, "own");
        assert!((options.ratio - 0.5).abs() < f64::EPSILON);
        assert_eq!(
            options.resource,
            [
                pair("service.name", "own"),
                pair("x", "1"),
                pair("y", "own")
            ]
        );
    }

    #[test]
    fn variable_that_cannot_be_used_is_an_error_that_names_it() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ] {
            let error = read("true", &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
