//! What is wrong with files of TLS: all of it at once, each with its file, its line and the fix.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Everything that is wrong, in the order of the options.
#[derive(Debug)]
pub struct TlsError {
    /// Never empty.
    pub problems: Vec<TlsProblem>,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsError {}

/// One thing that is wrong with a file.
#[derive(Debug)]
pub struct TlsProblem {
    /// The file; `None` where the options themselves are wrong.
    pub file: Option<PathBuf>,
    /// The line where the faulty block begins, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: Wrong,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("tls")?,
        }
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl TlsProblem {
    pub(crate) fn of(file: &std::path::Path, what: Wrong) -> Self {
        Self {
            file: Some(file.to_owned()),
            line: None,
            what,
        }
    }

    pub(crate) fn at(file: &std::path::Path, line: usize, what: Wrong) -> Self {
        Self {
            line: Some(line),
            ..Self::of(file, what)
        }
    }
}

impl std::error::Error for TlsProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.what)
    }
}

/// What can be wrong with a file of TLS. Dates are UTC.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// The file cannot be read.
    #[error("cannot be read: {0}\n  fix: check the path and that this user may read it")]
    Unreadable(#[source] io::Error),
    /// The file is too long to be what it should be.
    #[error("has more than {limit} bytes, which no {kind} file needs")]
    TooLong {
        /// The limit, in bytes.
        limit: u64,
        /// What it should be.
        kind: &'static str,
    },
    /// The PEM form is broken.
    #[error("is not PEM: {0}")]
    Pem(&'static str),
    /// It holds something else.
    #[error("holds {found} where {wanted} is needed{fix}")]
    Kind {
        /// What it holds.
        found: String,
        /// What is needed.
        wanted: &'static str,
        /// The fix, on a line of its own.
        fix: &'static str,
    },
    /// The key has a passphrase.
    #[error(
        "holds an encrypted private key, and nobody is there to type its passphrase\n  \
         fix: openssl pkey -in FILE -out NEW-FILE, and let only this user read it"
    )]
    EncryptedKey,
    /// It is not the DER form of what it claims to be.
    #[error("holds a {kind} that cannot be decoded: {why}")]
    Der {
        /// What it claims to be.
        kind: &'static str,
        /// What the decoder says.
        why: String,
    },
    /// The key is of a kind that TLS does not use here.
    #[error(
        "holds a private key that cannot be used: {0}\n  fix: use ECDSA (P-256, P-384, P-521), RSA of \
         2048 to 8192 bits, or Ed25519"
    )]
    Key(String),
    /// Key and certificate are not a pair.
    #[error(
        "is not the key of the certificate in {cert}\n  fix: give the key that the certificate was \
         requested with"
    )]
    KeyMismatch {
        /// The file of the certificate.
        cert: String,
    },
    /// Clients look for names in one place only.
    #[error(
        "the certificate of {subject} has no subjectAltName, and clients look for names nowhere else\n  \
         fix: request one with subjectAltName=DNS:the.host.name"
    )]
    NoNames {
        /// Its subject.
        subject: String,
    },
    /// The order of the chain, or a certificate in it, is wrong.
    #[error(
        "certificate {position} ({subject}) did not issue the one before it ({before}, issued by \
         {issuer})\n  fix: order them as server's own, its issuer, that one's issuer and so on"
    )]
    ChainOrder {
        /// Counted from 1.
        position: usize,
        /// Its subject.
        subject: String,
        /// The subject of the one before it.
        before: String,
        /// The issuer that the one before it names.
        issuer: String,
    },
    /// A time that has passed.
    #[error("the certificate of {subject} expired on {not_after}\n  fix: renew it")]
    Expired {
        /// Its subject.
        subject: String,
        /// Its end.
        not_after: String,
    },
    /// A time that is still to come.
    #[error(
        "the certificate of {subject} is not valid before {not_before}\n  fix: check this machine's \
         clock, or use it later"
    )]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// Its beginning.
        not_before: String,
    },
    /// A key that can be broken.
    #[error("the certificate of {subject} has {found}\n  fix: {fix}")]
    Weak {
        /// Its subject.
        subject: String,
        /// What is weak.
        found: String,
        /// What to use.
        fix: &'static str,
    },
    /// The certificate may not be used by servers.
    #[error(
        "the certificate of {subject} may not be used by a server: its extended key usage lacks \
         serverAuth\n  fix: request one for servers"
    )]
    NotForServers {
        /// Its subject.
        subject: String,
    },
    /// Not an authority.
    #[error(
        "the certificate of {subject} is not that of an authority (basicConstraints CA is not true)\n  \
         fix: give the certificate of the authority that signs the clients' certificates"
    )]
    NotAuthority {
        /// Its subject.
        subject: String,
    },
    /// Clients are asked for certificates that nobody could have signed.
    #[error(
        "client certificates are asked for, but no authority is named\n  fix: name its file as ca"
    )]
    NoAuthority,
    /// The revocation list is too old.
    #[error("the revocation list of {issuer} ended on {next_update}\n  fix: fetch the current one")]
    ListExpired {
        /// Who issued it.
        issuer: String,
        /// Its end.
        next_update: String,
    },
    /// Two parts do not fit each other.
    #[error("cannot be used: {0}")]
    Unusable(String),
    /// A stapled OCSP response that clients would refuse.
    #[error("cannot be stapled: {0}")]
    Ocsp(String),
    /// A host pattern that matches nothing.
    #[error(
        "{0:?} is not a host name\n  fix: use a name such as a.example.com, or *.example.com for all \
         below it"
    )]
    HostPattern(String),
}
