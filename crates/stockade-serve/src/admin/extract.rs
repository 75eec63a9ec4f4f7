//! What handlers take of a request: JSON, the query, the path. What does not fit is answered with a problem.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde::de::value::{self, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use stockade_limits::without_value;

use super::problem::ApiError;

/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body of JSON, of a request and of a response. That of a request has at most 2 MiB.
pub(crate) struct Json<T>(pub(crate) T);

/// The query of a request.
pub(crate) struct Query<T>(pub(crate) T);

/// What stands at the `{…}` of a route.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let reading = axum::Json::from_request(request, state);
        match tokio::time::timeout(BODY_TIMEOUT, reading).await {
            Ok(Ok(axum::Json(value))) => Ok(Self(value)),
            // Keys and configurations come this way.
            Ok(Err(rejection)) => {
                let text = without_value(&rejection.body_text());
                Err(ApiError::new(rejection.status(), text))
            }
            Err(_) => Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body of the request did not arrive in time",
            )),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let pairs = pairs.map(|(name, value)| (name, Text(value)));
        let read = T::deserialize(MapDeserializer::new(pairs));
        let value = read.map_err(|error: value::Error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the query: {error}"))
        })?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(value) =
            read.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// A value of the query, as the type that it is read as.
struct Text<'a>(Cow<'a, str>);

impl<'de> IntoDeserializer<'de> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $what:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
            let parsed = self.0.parse();
            visitor.$visit(parsed.map_err(|_| {
                value::Error::custom(format!("{:?} is not {}", self.0, $what))
            })?)
        })*
    };
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = value::Error;

    parsed! {
        deserialize_bool visit_bool "true or false",
        deserialize_u16 visit_u16 "a whole number in its range",
        deserialize_u32 visit_u32 "a whole number in its range",
        deserialize_u64 visit_u64 "a whole number in its range",
        deserialize_i64 visit_i64 "a whole number in its range",
        deserialize_f64 visit_f64 "a number",
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_str(&self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        self.0
            .into_deserializer()
            .deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 u8 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Info,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        instance: Option<String>,
        lines: Option<u32>,
        level: Option<Level>,
        #[serde(default)]
        follow: bool,
    }

    async fn read(query: &str) -> Result<Wanted, String> {
        let request = http::Request::get(format!("/v1/logs{query}"))
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        let read = Query::<Wanted>::from_request_parts(&mut parts, &()).await;
        read.map(|Query(wanted)| wanted)
            .map_err(|error| format!("{error:?}"))
    }

    #[tokio::test]
    async fn query_is_read_as_its_types_and_nothing_is_ignored() {
        let wanted = read("?instance=a%2Fb&lines=20&level=info&follow=true").await;
        let expected = Wanted {
            instance: Some("a/b".to_owned()),
            lines: Some(20),
            level: Some(Level::Info),
            follow: true,
        };
        assert_eq!(wanted.unwrap(), expected);
        assert_eq!(read("").await.unwrap().instance, None);
        for (query, part) in [
            ("?lines=-1", "\\\"-1\\\" is not a whole number"),
            ("?lines=1&lines=2", "duplicate field"),
            ("?level=loud", "unknown variant"),
            ("?other=1", "unknown field"),
            ("?follow=yes", "true or false"),
        ] {
            let error = read(query).await.unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
