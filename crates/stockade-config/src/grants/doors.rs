//! What the sections of `postgres`, `mysql` and `redis` have in common.

use std::path::PathBuf;
use std::time::Duration;

use super::limits::CallLimits;
use crate::secret::SecretRef;
use crate::section::words;

words! {
    /// Whether a server is reached by TLS.
    pub enum DoorTls {
        /// By TLS, and the server proves its name.
        Required = "required",
        /// Without. Each network on the way can read and change everything.
        Off = "off",
    }
}

/// What the grants of all kinds of doors say.
#[derive(Debug, Clone, Copy)]
pub struct DoorSettings<'a> {
    /// The server, the login and the database.
    pub url: &'a Option<SecretRef>,
    /// Whether the server is reached by TLS; `None`: unless it has a loopback address.
    pub tls: Option<DoorTls>,
    /// Files with certificates of authorities.
    pub ca: &'a [PathBuf],
    /// The tunnel that it is reached through, by the name of its grant.
    pub via: Option<&'a str>,
    /// Connections to the server, used and idle.
    pub pool: usize,
    /// Allows a user that may do more than a guest should.
    pub allow_superuser: bool,
    /// Time of one statement or command.
    pub statement: Duration,
    /// Time without one, after which a connection ends.
    pub idle: Duration,
    /// What only databases with transactions have.
    pub sql: Option<SqlSettings>,
    /// Bounds of the connections of guests.
    pub limits: &'a CallLimits,
}

/// What the grants of databases with transactions say.
#[derive(Debug, Clone, Copy)]
pub struct SqlSettings {
    /// Time of a transaction.
    pub transaction: Duration,
    /// Time without a statement in a transaction.
    pub idle_in_transaction: Duration,
    /// Rows of one result.
    pub rows: u64,
}

/// Declares the section of a kind of doors: what all of them have, with the texts of this one, around its own keys.
macro_rules! door_grant {
    (
        $(#[doc = $doc:literal])+
        $Grant:ident $name:literal $limits:literal,
        $(#[doc = $url:literal])+
        url,
        { $($own:tt)* },
        $(#[doc = $superuser:literal])+
        allow_superuser,
        $(#[doc = $bounds:literal])+
        limits,
        sql: $sql:expr,
    ) => {
        $crate::grants::limits::call_limits! {
            $limits,
            rate: "100",
            concurrent: "64",
            queue: "64",
            timeout: "10s",
            max_request: "1mb",
            max_result: "16mb",
            handles: Some("5"),
        }

        $crate::section::section! {
            $(#[doc = $doc])+
            pub struct $Grant $name {
                $(#[doc = $url])+
                pub url: Option<$crate::secret::SecretRef> =
                    $crate::secret::SecretRef::key().required()
                    => |grant| $crate::secret::SecretRef::of(grant, "url"),
                /// Whether the server is reached by TLS. With it, the server proves its name.
                pub tls: Option<$crate::grants::DoorTls> = $crate::keys::Key::of(
                    <$crate::grants::DoorTls as $crate::section::Words>::KIND,
                )
                .derived("`required`, and `off` for a loopback address without `via`"),
                /// Files with certificates of authorities. Where there are some, they alone are
                /// trusted.
                pub ca: Vec<std::path::PathBuf> =
                    $crate::keys::list(&$crate::keys::Kind::Text($crate::keys::FILE)),
                /// The tunnel that the server is reached through: a grant of the kind
                /// `wireguard_tunnel` of the same instance.
                pub via: Option<String> =
                    $crate::keys::text($crate::keys::VARIABLE).like(&["OFFICE"]),
                /// Connections to the server, used and idle.
                pub pool: usize = $crate::keys::integer(1, 1000).default("5"),
                $($own)*
                $(#[doc = $superuser])+
                pub allow_superuser: bool = $crate::keys::boolean().default("false"),
                $(#[doc = $bounds])+
                pub limits: $crate::grants::CallLimits =
                    LIMITS_KEY => $crate::grants::limits::read,
            }
        }

        impl $Grant {
            /// What the grants of all kinds of doors say.
            #[must_use]
            pub fn door(&self) -> $crate::grants::DoorSettings<'_> {
                $crate::grants::DoorSettings {
                    url: &self.url,
                    tls: self.tls,
                    ca: &self.ca,
                    via: self.via.as_deref(),
                    pool: self.pool,
                    allow_superuser: self.allow_superuser,
                    statement: self.statement,
                    idle: self.idle,
                    sql: {
                        let sql: fn(&Self) -> Option<$crate::grants::SqlSettings> = $sql;
                        sql(self)
                    },
                    limits: &self.limits,
                }
            }
        }

        impl $crate::grants::GrantSection for $Grant {
            fn secrets(&mut self) -> Vec<&mut $crate::secret::SecretRef> {
                self.url.iter_mut().collect()
            }

            fn via(&self) -> Option<&str> {
                self.via.as_deref()
            }
        }
    };
}

/// Declares the section of a database that is asked by statements in transactions.
macro_rules! sql_grant {
    (
        $(#[doc = $doc:literal])+
        $Grant:ident $name:literal $limits:literal,
        $(#[doc = $url:literal])+
        url,
        $($rest:tt)+
    ) => {
        $crate::grants::doors::door_grant! {
            $(#[doc = $doc])+
            $Grant $name $limits,
            $(#[doc = $url])+
            url,
            {
                /// Time of one statement. The server cancels one that takes longer.
                pub statement: std::time::Duration =
                    $crate::keys::time(1, 3_600_000).default("5s"),
                /// Time of a transaction. A longer one is rolled back, and its connection ends.
                pub transaction: std::time::Duration =
                    $crate::keys::time(1, 3_600_000).default("10s"),
                /// Time without a statement in a transaction, after which the connection ends.
                pub idle_in_transaction: std::time::Duration =
                    $crate::keys::time(1, 3_600_000).default("2s"),
                /// Time without a statement, after which the connection ends.
                pub idle: std::time::Duration =
                    $crate::keys::time(1000, 86_400_000).default("10m"),
                /// Rows of one result.
                pub rows: u64 = $crate::keys::integer(1, 1 << 40).default("10000"),
            },
            $($rest)+
            sql: |grant| Some($crate::grants::SqlSettings {
                transaction: grant.transaction,
                idle_in_transaction: grant.idle_in_transaction,
                rows: grant.rows,
            }),
        }
    };
}

pub(crate) use {door_grant, sql_grant};
