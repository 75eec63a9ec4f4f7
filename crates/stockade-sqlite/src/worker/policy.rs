//! What statements of a guest may do.

use std::ffi::c_int;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::AuthAction;
use rusqlite::limits::Limit;

use crate::message::{MOST_COLUMNS, MOST_LENGTH};

/// Limits of SQLite itself.
const LIMITS: [(Limit, usize); 11] = [
    (Limit::SQLITE_LIMIT_LENGTH, MOST_LENGTH),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, MOST_SQL),
    (Limit::SQLITE_LIMIT_COLUMN, MOST_COLUMNS),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
    (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
];

/// Bytes of the text of a statement.
pub(crate) const MOST_SQL: usize = 100_000;

/// Pragmas that a guest may use: those that read the schema or check it, and a few that concern nothing else than
/// the guest's own data.
const PRAGMAS: &[&str] = &[
    "application_id",
    "case_sensitive_like",
    "collation_list",
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "legacy_alter_table",
    "max_page_count",
    "module_list",
    "optimize",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "recursive_triggers",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// The [`PRAGMAS`] that may only be read.
const READ_ONLY_PRAGMAS: &[&str] = &["max_page_count", "page_size"];

/// Modules of virtual tables.
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree", "rtree_i32"];

/// Functions that SQLite has and a guest has no use for.
const FUNCTIONS: &[&str] = &["load_extension", "fts3_tokenizer"];

/// Tables that SQLite makes up, and that show more than a guest's own data.
const TABLES: &[&str] = &["dbstat"];

/// Sets the limits of statements.
pub(super) fn limit(connection: &Connection) -> rusqlite::Result<()> {
    for (limit, value) in LIMITS {
        connection.set_limit(limit, c_int::try_from(value).unwrap_or(c_int::MAX))?;
    }
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        connection.set_db_config(config, on)?;
    }
    Ok(())
}

/// Whether a guest's statement may do this.
pub(super) fn allows(action: &AuthAction<'_>) -> bool {
    match *action {
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => {
            let named = |list: &[&str]| {
                list.iter()
                    .any(|name| name.eq_ignore_ascii_case(pragma_name))
            };
            named(PRAGMAS) && !(pragma_value.is_some() && named(READ_ONLY_PRAGMAS))
        }
        AuthAction::CreateVtable { module_name, .. }
        | AuthAction::DropVtable { module_name, .. } => MODULES
            .iter()
            .any(|name| name.eq_ignore_ascii_case(module_name)),
        AuthAction::Function { function_name } => !FUNCTIONS
            .iter()
            .any(|name| name.eq_ignore_ascii_case(function_name)),
        AuthAction::Read { table_name, .. } => !TABLES
            .iter()
            .any(|name| name.eq_ignore_ascii_case(table_name)),
        // Transactions are requests of their own: the supervisor must know when one ends.
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Unknown { .. } => false,
        _ => true,
    }
}
