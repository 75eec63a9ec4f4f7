//! `env.NAME` of kind `mongo`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use stockade_capability::Capability;
use stockade_config::{CallLimits, MongoGrant, SecretRef};
use stockade_door::mongo::{Commands, Door, Server};
use stockade_door::{Limits, Login};
use url::Url;

use super::{Dialer, Doors, Way, check, pool, tls};
use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &["connect"];
pub(crate) const EVERY_CALL: bool = false;

/// The port of a URL without one.
const PORT: u16 = 27017;

/// For messages.
const FORM: &str = "mongodb://USER:PASSWORD@HOST:PORT/DATABASE?authSource=NAME";

impl GrantKind for MongoGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Doors::new(door(self, ground)?, ground)))
    }

    fn describe(&self) -> Result<Value, GrantError> {
        Ok(json!({ "database": address(self)?.login.database }))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(check(door(self, ground)))
    }
}

/// A server and the login.
struct Address {
    host: String,
    port: u16,
    asks_for_tls: bool,
    login: Login,
    auth_source: String,
}

fn address(grant: &MongoGrant) -> Result<Address, GrantError> {
    parse(grant.url.as_ref().map_or("", SecretRef::reveal))
}

/// Reads a URL. No part of it is in an error: it holds the password.
fn parse(text: &str) -> Result<Address, GrantError> {
    let wrong = |what: &str| GrantError::Invalid(format!("the URL {what}: its form is {FORM}"));
    let text = text.trim();
    if text.starts_with("mongodb+srv:") {
        return Err(wrong("is looked up in the DNS, which is not supported"));
    }
    let rest = text.strip_prefix("mongodb://");
    let rest = rest.ok_or_else(|| wrong("is of another scheme"))?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if host
        .rsplit('@')
        .next()
        .is_some_and(|host| host.contains(','))
    {
        return Err(wrong("names several hosts, and one is supported"));
    }
    let url = Url::parse(text).map_err(|_| wrong("cannot be read"))?;

    // The server. The brackets of an IPv6 address belong to the URL.
    let part = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().ok();
        let text = text.filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| wrong("has a part that is not text"))?;
        Ok::<_, GrantError>(text.into_owned())
    };
    let host = part(url.host_str().unwrap_or_default())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port().unwrap_or(PORT);
    if host.is_empty() || port == 0 {
        return Err(wrong("names no host, or the port 0"));
    }

    // The login.
    let login = Login {
        user: part(url.username())?,
        password: part(url.password().unwrap_or_default())?,
        database: part(url.path().trim_start_matches('/'))?,
    };
    if login.database.is_empty() || login.database.contains(['/', '\\', '.', ' ', '"', '$']) {
        return Err(wrong("names no database"));
    }

    // What drivers take as parameters are keys of the grant, except where the user is known.
    let (mut auth_source, mut asks_for_tls) = (login.database.clone(), false);
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("authSource", value) if !value.is_empty() => auth_source = value.to_owned(),
            ("tls" | "ssl", "true") => asks_for_tls = true,
            ("authMechanism", "SCRAM-SHA-256") | ("directConnection", "true") => {}
            _ => {
                return Err(wrong(
                    "has a parameter other than authSource, tls=true, directConnection=true and \
                     authMechanism=SCRAM-SHA-256: the keys of the grant say the rest",
                ));
            }
        }
    }
    Ok(Address {
        host: host.to_owned(),
        port,
        asks_for_tls,
        login,
        auth_source,
    })
}

fn door(grant: &MongoGrant, ground: &Ground) -> Result<Door, GrantError> {
    let bounds = &grant.limits;
    let address = address(grant)?;
    if let Some(name) = grant.allow.iter().find(|name| Commands::never(name)) {
        return Err(GrantError::Invalid(format!(
            "allow names {name}, which cannot be allowed: logins, code and commands of servers among themselves stay \
             refused"
        )));
    }
    let way = Way::new(grant.via.as_deref(), ground)?;
    let tls = tls(
        grant.tls,
        &grant.ca,
        (&address.host, &way),
        address.asks_for_tls,
        ground,
    )?;
    let server = Server {
        dial: Arc::new(Dialer {
            way,
            host: address.host.into(),
            port: address.port,
            timeout: bounds.timeout,
        }),
        tls,
        login: address.login,
        auth_source: address.auth_source,
        allow_superuser: grant.allow_superuser,
    };
    let limits = Limits {
        statement: grant.statement,
        idle: grant.idle,
        rows: grant.batch,
        max_result: bounds.max_result,
        max_request: bounds.max_request,
        ..Limits::default()
    };
    let commands = Commands::new(&grant.refuse, &grant.allow);
    let pool = pool(grant.pool, bounds);
    Ok(Door::new(server, commands, limits, pool, grant.cursors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_names_one_server_and_a_database() {
        let address =
            parse("mongodb://a%40b:p%2Fw@[::1]:27018/shop?authSource=admin&tls=true").unwrap();
        assert_eq!((&*address.host, address.port), ("::1", 27018));
        assert_eq!(
            (&*address.login.user, &*address.login.password),
            ("a@b", "p/w")
        );
        assert_eq!(
            (&*address.login.database, &*address.auth_source),
            ("shop", "admin")
        );
        assert!(address.asks_for_tls);
        let address = parse("mongodb://db.example/shop").unwrap();
        assert_eq!((address.port, &*address.auth_source), (27017, "shop"));
    }

    #[test]
    fn url_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "mongodb+srv://u:sesame@db.example/shop",
            "mongodb://u:sesame@a.example,b.example/shop",
            "mongodb://u:sesame@db.example",
            "mongodb://u:sesame@db.example/a.b",
            "mongodb://u:sesame@db.example:0/shop",
            "mongodb://u:sesame@db.example/shop?replicaSet=rs0",
            "mongodb://u:sesame@db.example/shop?authMechanism=PLAIN",
            "postgres://u:sesame@db.example/shop",
            "",
        ] {
            let error = parse(url).err().unwrap().to_string();
            assert!(
                error.contains(FORM) && !error.contains("sesame"),
                "{url}: {error}"
            );
        }
    }
}
