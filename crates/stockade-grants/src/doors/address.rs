//! The URL of a server.

use percent_encoding::percent_decode_str;
use stockade_door::Login;
use url::Url;

use crate::GrantError;

/// What the URLs of a kind look like.
pub(super) struct Scheme {
    pub(super) names: &'static [&'static str],
    /// The name that asks for TLS.
    pub(super) with_tls: Option<&'static str>,
    pub(super) port: u16,
    /// Whether there must be a user and a database.
    pub(super) is_complete: bool,
    /// For messages.
    pub(super) form: &'static str,
}

/// A server and the login.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) asks_for_tls: bool,
    pub(super) login: Login,
}

impl Address {
    /// Reads a URL. No part of it is in an error: it holds the password.
    pub(super) fn parse(scheme: &Scheme, text: &str) -> Result<Self, GrantError> {
        let wrong = |what: &str| {
            GrantError::Invalid(format!("the URL {what}: its form is {}", scheme.form))
        };
        let url = Url::parse(text.trim()).map_err(|_| wrong("cannot be read"))?;
        let by_name = scheme.with_tls == Some(url.scheme());
        if !by_name && !scheme.names.contains(&url.scheme()) {
            return Err(wrong("is of another scheme"));
        }

        // The server. The brackets of an IPv6 address belong to the URL.
        let host = decoded(url.host_str().unwrap_or_default());
        let host = host.ok_or_else(|| wrong("has a host that is not Unicode"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let port = url.port().unwrap_or(scheme.port);
        if port == 0 {
            return Err(wrong("names the port 0"));
        }

        // The login.
        let part = |text: &str| {
            let text = decoded(text).filter(|text| !text.contains('\0'));
            text.ok_or_else(|| wrong("has a user, a password or a database that is not text"))
        };
        let login = Login {
            user: part(url.username())?,
            password: part(url.password().unwrap_or_default())?,
            database: part(url.path().trim_start_matches('/'))?,
        };
        if scheme.is_complete && (login.user.is_empty() || login.database.is_empty()) {
            return Err(wrong("names no user or no database"));
        }
        let is_number = login.database.bytes().all(|byte| byte.is_ascii_digit());
        if !scheme.is_complete && !is_number {
            return Err(wrong("has a database that is not a number"));
        }

        // What drivers take as parameters are keys of the grant. Providers write one of them into their URLs.
        let mut by_parameter = false;
        for (name, value) in url.query_pairs() {
            let value = value.to_ascii_lowercase().replace('_', "-");
            let asks = [
                "require",
                "required",
                "verify-ca",
                "verify-full",
                "verify-identity",
            ];
            if !["sslmode", "ssl-mode"].contains(&&*name) || !asks.contains(&&*value) {
                return Err(wrong(
                    "has a parameter other than sslmode=require: the keys of the grant say the rest",
                ));
            }
            by_parameter = true;
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            asks_for_tls: by_name || by_parameter,
            login,
        })
    }
}

fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}
