//! Keys that are carried from one store to another.

use rusqlite::{OptionalExtension, params};

use super::error::{StoreError, failure};
use super::record::{Export, ImportReport, KeyRecord};
use super::{Store, changed, check_text, column, metadata_text};
use crate::hash::KeyHash;
use crate::scope::{Scope, Scopes};

impl Store {
    /// Everything, with hashes and without any key's text.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn export(&self) -> Result<Export, StoreError> {
        let keys = self
            .records(None, true)
            .map_err(|error| failure(&self.path, error))?;
        Ok(Export {
            format: "stockade-keys".to_owned(),
            version: 1,
            pepper: self.pepper.fingerprint().to_hex(),
            keys,
        })
    }

    /// Takes the keys of another store with the same pepper: all of them or none. A key that is here already is
    /// refused, or takes the form of the import where `replace` is set. One that was revoked here stays revoked.
    ///
    /// # Errors
    /// When something in it does not fit, or the store cannot be written.
    pub fn import(&mut self, export: &Export, replace: bool) -> Result<ImportReport, StoreError> {
        let refused = |why: String| Err(StoreError::Import(why));
        if export.format != "stockade-keys" || export.version != 1 {
            return refused("it is not an export of keys of version 1".to_owned());
        }
        if KeyHash::from_hex(&export.pepper) != Some(self.pepper.fingerprint()) {
            return refused(
                "it was made with another pepper, so no key in it would fit".to_owned(),
            );
        }
        let mut rows = Vec::with_capacity(export.keys.len());
        for key in &export.keys {
            match import_row(key) {
                Ok(row) => rows.push(row),
                Err(why) => return refused(format!("{}: {why}", key.id)),
            }
        }
        self.change(|transaction| {
            let mut report = ImportReport::default();
            for (key, row) in export.keys.iter().zip(&rows) {
                let id = key.id.column();
                let known: bool = transaction.query_row(
                    "SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1)",
                    [id],
                    |row| row.get(0),
                )?;
                if known && !replace {
                    let why = format!("{} is here already\n  fix: --replace gives it the form of the import", key.id);
                    return Ok(Err(StoreError::Import(why)));
                }
                if known {
                    report.replaced += 1;
                } else {
                    report.added += 1;
                }
                transaction.execute(
                    "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO UPDATE SET
                     name = ?2, owner = ?3, scopes = ?4, metadata = ?5, created = ?6, expires = ?7, revoked = coalesce(revoked, ?8),
                     last_used = ?9, limits = ?10",
                    params![
                        id, key.name, key.owner, row.scopes, row.metadata, column(key.created),
                        key.expires.map(column), key.revoked.map(column), key.last_used.map(column),
                        key.limits.text()
                    ],
                )?;
                // Hashes that the import has not stay known as ended ones, so that a server forgets them.
                transaction.execute("UPDATE secrets SET ends = 0 WHERE key = ?1", [id])?;
                for (hash, secret) in row.hashes.iter().zip(&key.secrets) {
                    let other: Option<i64> = transaction
                        .query_row("SELECT key FROM secrets WHERE hash = ?1", [hash.0], |row| row.get(0))
                        .optional()?;
                    if other.is_some_and(|other| other != id) {
                        let why = format!("{}: its hash is another key's", key.id);
                        return Ok(Err(StoreError::Import(why)));
                    }
                    transaction.execute(
                        "INSERT INTO secrets VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (hash) DO UPDATE SET hint = ?3, created = ?4, ends = ?5",
                        params![hash.0, id, secret.hint, column(secret.created), secret.ends.map(column)],
                    )?;
                }
                changed(transaction, key.id, "imported")?;
            }
            Ok(Ok(report))
        })
    }
}

/// An imported key as the tables have it.
struct ImportRow {
    scopes: String,
    metadata: String,
    hashes: Vec<KeyHash>,
}

fn import_row(key: &KeyRecord) -> Result<ImportRow, String> {
    let scopes: Result<Vec<_>, _> = key.scopes.iter().map(|scope| Scope::parse(scope)).collect();
    let scopes = scopes.map_err(|error| error.to_string())?;
    check_text("the name", &key.name, false).map_err(|error| error.to_string())?;
    check_text("the owner", &key.owner, true).map_err(|error| error.to_string())?;
    if key.secrets.len() > 64 {
        return Err("it has more than 64 hashes".to_owned());
    }
    let hashes = key.secrets.iter().map(|secret| {
        check_text("the hint", &secret.hint, true).map_err(|error| error.to_string())?;
        let hash = secret.hash.as_deref().and_then(KeyHash::from_hex);
        hash.ok_or_else(|| "a hash is missing, or is not 64 hexadecimal digits".to_owned())
    });
    Ok(ImportRow {
        scopes: Scopes::text(&scopes).map_err(|error| error.to_string())?,
        metadata: metadata_text(&key.metadata).map_err(|error| error.to_string())?,
        hashes: hashes.collect::<Result<_, _>>()?,
    })
}
