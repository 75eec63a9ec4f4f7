//! What a route asks of the client's certificate, beyond what the handshake checked.

use super::connection::ConnectionTls;
use super::policy::PolicyId;

/// Which clients a route lets in. The default lets everybody in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientRule {
    /// Only with a certificate.
    pub required: bool,
    /// Only with one that was verified under this policy: a route may match hosts of another one, by a
    /// wildcard or by none.
    pub policy: Option<PolicyId>,
    /// Subjects as in RFC 4514, equal byte for byte.
    pub subjects: Vec<String>,
    /// Alternative names with their kind, such as `DNS:a.example`. One that ends in `/*` allows all
    /// that begin with what is before the star, such as `URI:spiffe://example/ns/shop/*`.
    pub names: Vec<String>,
    /// SHA-256 of the certificate's DER form, hexadecimal; colons and case do not matter.
    pub fingerprints: Vec<String>,
}

/// Why a route does not let a client in. The client gets 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientRefused {
    /// It showed no certificate.
    #[error("this route asks for a client certificate")]
    NoCertificate,
    /// Its certificate was verified for a host that trusts others.
    #[error("this route asks for a client certificate of another authority")]
    OtherPolicy,
    /// Its certificate is good, but not among the allowed.
    #[error("this route does not allow this client certificate")]
    NotAllowed,
}

impl ClientRule {
    /// Checks a client; `connection` is `None` without TLS. Where subjects, names or fingerprints are
    /// given, one of them must fit, and a certificate is needed.
    ///
    /// # Errors
    /// [`ClientRefused`]: answer 403.
    pub fn check(&self, connection: Option<&ConnectionTls>) -> Result<(), ClientRefused> {
        let anybody =
            self.subjects.is_empty() && self.names.is_empty() && self.fingerprints.is_empty();
        let shown = connection.and_then(|connection| {
            let certificate = connection.client.certificate.as_ref()?;
            Some((certificate, connection.policy))
        });
        let Some((certificate, policy)) = shown else {
            if self.required || !anybody {
                return Err(ClientRefused::NoCertificate);
            }
            return Ok(());
        };
        if self.policy.is_some_and(|wanted| wanted != policy) {
            return Err(ClientRefused::OtherPolicy);
        }
        let allowed = anybody
            || self.subjects.contains(&certificate.subject)
            || certificate.san.iter().any(|name| self.allows_name(name))
            || self.fingerprints.iter().any(|given| {
                let given = given.bytes().filter(|b| *b != b':');
                given
                    .map(|b| b.to_ascii_lowercase())
                    .eq(certificate.fingerprint_sha256.bytes())
            });
        if allowed {
            Ok(())
        } else {
            Err(ClientRefused::NotAllowed)
        }
    }

    fn allows_name(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) if prefix.ends_with('/') => {
                    name.len() > prefix.len() && name.starts_with(prefix)
                }
                _ => {
                    let dns = allowed.starts_with("DNS:") && name.starts_with("DNS:");
                    name == allowed || (dns && name.eq_ignore_ascii_case(allowed))
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use stockade_http::{ClientCertificate, ClientTls};

    use super::*;
    use crate::{ClientAuth, ClientAuthMode};

    fn policy(mode: ClientAuthMode) -> PolicyId {
        PolicyId::of(&ClientAuth {
            mode,
            ..ClientAuth::default()
        })
    }

    fn connection() -> ConnectionTls {
        let client = ClientTls {
            version: String::new(),
            cipher: String::new(),
            sni: None,
            certificate: Some(certificate()),
        };
        ConnectionTls::of_test(policy(ClientAuthMode::Required), client)
    }

    fn certificate() -> ClientCertificate {
        ClientCertificate {
            subject: "CN=a,O=b".into(),
            issuer: "CN=ca".into(),
            serial: "01".into(),
            fingerprint_sha256: "ab01".into(),
            san: vec!["DNS:a.example".into(), "URI:spiffe://td/ns/shop/api".into()],
            not_before: String::new(),
            not_after: String::new(),
        }
    }

    #[test]
    fn check_without_certificate_depends_on_rule() {
        let open = ClientRule::default();
        assert_eq!(open.check(None), Ok(()));
        let required = ClientRule {
            required: true,
            ..open.clone()
        };
        assert_eq!(required.check(None), Err(ClientRefused::NoCertificate));
        let listed = ClientRule {
            subjects: vec!["CN=a".into()],
            ..open
        };
        assert_eq!(listed.check(None), Err(ClientRefused::NoCertificate));
    }

    #[test]
    fn check_lets_in_what_one_list_names() {
        let rule = |subjects: &[&str], names: &[&str], fingerprints: &[&str]| ClientRule {
            required: true,
            policy: None,
            subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
            names: names.iter().map(|s| (*s).to_owned()).collect(),
            fingerprints: fingerprints.iter().map(|s| (*s).to_owned()).collect(),
        };
        for good in [
            rule(&[], &[], &[]),
            rule(&["CN=a,O=b"], &[], &[]),
            rule(&["CN=x"], &["DNS:A.example"], &[]),
            rule(&[], &["URI:spiffe://td/ns/shop/*"], &[]),
            rule(&[], &[], &["AB:01"]),
        ] {
            assert_eq!(good.check(Some(&connection())), Ok(()), "{good:?}");
        }
        for bad in [
            rule(&["CN=a"], &[], &[]),
            rule(&["cn=a,o=b"], &[], &[]),
            rule(&[], &["DNS:*"], &[]),
            rule(&[], &["a.example"], &[]),
            rule(&[], &["URI:spiffe://td/ns/sho*"], &[]),
            rule(&[], &["URI:spiffe://td/ns/shop/api/*"], &[]),
            rule(&[], &[], &["ab0"]),
        ] {
            assert_eq!(
                bad.check(Some(&connection())),
                Err(ClientRefused::NotAllowed),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn check_of_certificate_under_other_policy_is_refused() {
        let rule = |mode| ClientRule {
            policy: Some(policy(mode)),
            ..ClientRule::default()
        };
        let connection = connection();
        assert_eq!(
            rule(ClientAuthMode::Required).check(Some(&connection)),
            Ok(())
        );
        assert_eq!(
            rule(ClientAuthMode::Optional).check(Some(&connection)),
            Err(ClientRefused::OtherPolicy)
        );
        assert_eq!(rule(ClientAuthMode::Optional).check(None), Ok(()));
    }
}
