//! Which requests a route answers.

use std::fmt;

use stockade_http::{HostPattern, NormalPath, PathPattern, Scheme, Slashes};

use crate::route::authority::Authority;

/// A pattern of URLs: every part that is given must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// How the client connects; `None` matches both.
    pub scheme: Option<Scheme>,
    /// Which hosts.
    pub host: HostPattern,
    /// The port that the client named, or else the scheme's own; `None` matches any.
    pub port: Option<u16>,
    /// Which paths.
    pub path: PathPattern,
}

impl Pattern {
    /// Matches every request.
    #[must_use]
    pub fn any() -> Self {
        Self {
            scheme: None,
            host: HostPattern::Any,
            port: None,
            path: PathPattern::Under(String::new()),
        }
    }

    /// Whether the pattern is in the form in which requests are compared with it.
    pub(crate) fn check(&self) -> Result<(), PatternError> {
        let host = match &self.host {
            HostPattern::Exact(host) => Some(host.to_string()),
            HostPattern::Below(name) => Some(name.clone()),
            HostPattern::Any => None,
        };
        if let Some(host) = host {
            let read = Authority::parse(&host).ok();
            if read.is_none_or(|read| read.host != host || read.port.is_some()) {
                return Err(PatternError::Host(host));
            }
        }
        let (PathPattern::Exact(path) | PathPattern::Under(path)) = &self.path;
        if matches!(self.path, PathPattern::Under(_)) && path.is_empty() {
            return Ok(());
        }
        let normal = NormalPath::parse(path, Slashes::Keep)
            .map_err(|error| PatternError::NoPath(path.clone(), error.to_string()))?;
        if normal.as_str() != path {
            return Err(PatternError::Path(path.clone(), normal.as_str().to_owned()));
        }
        Ok(())
    }
}

/// Why a pattern can match nothing, or not what it seems to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The host is not in the one form in which hosts are compared.
    #[error(
        "host {0:?} is not a lower-case host name or address as it stands in URLs, without a final dot"
    )]
    Host(String),
    /// The path is not in the one form in which paths are compared.
    #[error("path {0:?} is not a normalised path: write it as {1:?}")]
    Path(String, String),
    /// The path cannot be a path at all.
    #[error("path {0:?} is not a path: {1}")]
    NoPath(String, String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.path {
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Under(path) => write!(f, "{path}/*"),
        }
    }
}
