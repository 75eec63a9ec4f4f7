//! The grants that a host gives which is a program: a host script, a command or a Rust program.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Config;
use crate::diagnostic::Diagnostics;
use crate::fields::Fields;
use crate::files;
use crate::grants::{self, GRANT_KIND, Grant};
use crate::guard::DataGuard;
use crate::keys::{Key, Section, VARIABLE, map};
use crate::reader::{Located, Reader};
use crate::section::Record;
use crate::tree::Source;
use crate::yaml;

/// `grants` alone, as a host script gives it.
const GRANTS: Section = Section {
    name: "grants",
    doc: "What an isolate is granted.",
    keys: &[map(VARIABLE, &GRANT_KIND).named("grants", "What an isolate is granted.")],
};

/// `data_guard` alone, as a command gives it.
const FETCH: Section = Section {
    name: "fetch",
    doc: "What an isolate may reach.",
    keys: &[Key::of(DataGuard::KIND).named("data_guard", "What an isolate may reach.")],
};

/// Reads the grants of a host script or of a command, `{NAME: {KIND: {…}}}` as JSON, with the secrets that they name.
/// Unlike a configuration file, it may hold secrets as plain text. Relative paths begin at `base`.
///
/// # Errors
/// Names everything that is wrong in one go, without the text of a secret.
pub fn parse_grants(json: &str, base: &Path) -> Result<BTreeMap<String, Grant>, Diagnostics> {
    let text = format!("{{\"grants\": {json}}}");
    read(&text, base, &GRANTS, |top, source| {
        let mut read = grants::grants(top);
        grants::refuse_approvals(top);
        let secrets = read.values_mut().flat_map(Grant::secrets);
        files::look_at_secrets(secrets, source);
        read
    })
}

/// Reads the rules of `fetch` of a host that is a program, as the section `data_guard` in JSON, with the secrets that
/// they name. Relative paths begin at `base`.
///
/// # Errors
/// Names everything that is wrong in one go.
pub fn parse_data_guard(json: &str, base: &Path) -> Result<DataGuard, Diagnostics> {
    let text = format!("{{\"data_guard\": {json}}}");
    read(&text, base, &FETCH, |top, source| {
        let mut guard = DataGuard::read(&top.section("data_guard"));
        files::look_at_secrets(guard.secrets(), source);
        guard
    })
}

/// Reads one section that a program gives. JSON is YAML (YAML 1.2.2, section 1.3).
fn read<T>(
    text: &str,
    base: &Path,
    section: &'static Section,
    make: impl FnOnce(&Fields<'_>, &Source<'_>) -> T,
) -> Result<T, Diagnostics> {
    let source = Source::new("", text);
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
    let made = yaml::read(text, &source).and_then(|root| {
        let reader = Reader {
            source: &source,
            base: &base,
            top: Config::SECTION,
            plain_secrets: true,
        };
        let top = Fields::new(reader, section, &Located::nowhere(&root))?;
        Some(make(&top, &source))
    });
    let (errors, _, dropped) = source.finish();
    match made {
        Some(made) if errors.is_empty() => Ok(made),
        _ => Err(Diagnostics::new(errors, dropped)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::grants::DnsRecord;

    fn grants_of(json: &str) -> Result<BTreeMap<String, Grant>, String> {
        parse_grants(json, Path::new("/srv")).map_err(|error| error.to_string())
    }

    #[test]
    fn grants_of_a_program_are_read_with_their_defaults() {
        let grants =
            grants_of(r#"{"N": {"dns": {"names": ["a.example"], "limits": {"timeout": "2s"}}}}"#);
        let Grant::Dns(grant) = &grants.unwrap()["N"] else {
            panic!("another kind");
        };
        assert_eq!(grant.records, [DnsRecord::A, DnsRecord::Aaaa]);
        assert_eq!(grant.limits.timeout, Duration::from_secs(2));
        assert_eq!((grant.limits.rate.get(), grant.limits.handles), (100, 0));
        assert_eq!(grant.limits.total_requests, None);
    }

    #[test]
    fn grants_that_are_wrong_are_refused_with_place_and_fix() {
        for (json, what) in [
            ("{", "grants"),
            ("[]", "grants: a list is not allowed"),
            (
                r#"{"N": {}}"#,
                "grants.N: a grant names its kind, and this one names none",
            ),
            (r#"{"N": {"ftp": {}}}"#, "grants.N.ftp"),
            (
                r#"{"N": {"dns": {}}}"#,
                "grants.N.dns: the key `names` is missing",
            ),
            (
                r#"{"N": {"dns": {"names": ["10.0.0.1"]}}}"#,
                "grants.N.dns.names[0]",
            ),
            (r#"{"N": {"dns": {"names": "a"}}}"#, "grants.N.dns.names"),
            (
                r#"{"N": {"dns": {"names": ["a.example"]}, "approve": {"instance": "b"}}}"#,
                "grants.N.approve: there is no instance here",
            ),
            (
                r#"{"N": {"dns": {"names": ["a.example"], "limits": {"rate": 0}}}}"#,
                "allowed: a whole number from 1 to 1000000",
            ),
        ] {
            let error = grants_of(json).unwrap_err();
            assert!(error.contains(what), "{json}: {error}");
        }
    }
}
