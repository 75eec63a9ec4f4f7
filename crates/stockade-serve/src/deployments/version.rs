//! Names of versions, and which of them get the requests of an instance.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Deployments of an instance that are remembered.
const REMEMBERED: usize = 50;

/// Versions that may share the requests of an instance.
const MOST_SHARES: usize = 5;

/// Names a version: the first 16 hexadecimal digits of the SHA-256 of its files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct VersionId(String);

impl VersionId {
    /// Reads a name. It is safe as the name of a folder and as a part of a host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 16 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version of the code of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum VersionRef {
    /// The code that the configuration names.
    #[default]
    File,
    /// One that was uploaded.
    Uploaded(VersionId),
}

impl VersionRef {
    /// Reads `file` or the name of a version.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "file" => Some(Self::File),
            id => VersionId::parse(id).map(Self::Uploaded),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Uploaded(id) => id.as_str(),
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for VersionRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for VersionRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom("a version is `file` or 16 hexadecimal digits in lower case")
        })
    }
}

/// How a client stays with a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Sticky {
    /// It does not.
    #[default]
    None,
    /// By the cookie `stockade-version`, which it gets with its first response.
    Cookie,
    /// By the value of this header: equal values get equal versions.
    Header(String),
}

/// A share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    pub(crate) version: VersionRef,
    pub(crate) percent: u8,
}

/// Which versions get the requests of an instance, and which did before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deployment {
    /// Counts the deployments of the instance, from 1; 0 before the first.
    pub(crate) number: u64,
    /// In the order of their shares, the largest first.
    pub(crate) traffic: Vec<Share>,
    pub(crate) sticky: Sticky,
    /// When it was made, in seconds since 1970.
    pub(crate) created: u64,
    /// Who made it.
    pub(crate) caller: String,
    /// The deployments before, the latest first.
    pub(crate) past: Vec<Past>,
}

/// A deployment that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Past {
    pub(crate) number: u64,
    pub(crate) traffic: Vec<Share>,
    pub(crate) sticky: Sticky,
    pub(crate) created: u64,
    pub(crate) caller: String,
}

/// Why shares are not a deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrafficError {
    #[error("the shares are {0} % together and must be 100 %")]
    Sum(u64),
    #[error("{0} versions would share the requests; the most are {MOST_SHARES}")]
    Many(usize),
    #[error("the version {0} has two shares")]
    Twice(VersionRef),
    #[error("a share of 0 % is none: leave the version {0} out")]
    Nothing(VersionRef),
    #[error("sticky.header is the name of a header")]
    Header,
}

impl Default for Deployment {
    /// The code that the configuration names.
    fn default() -> Self {
        Self {
            number: 0,
            traffic: vec![Share {
                version: VersionRef::File,
                percent: 100,
            }],
            sticky: Sticky::None,
            created: 0,
            caller: String::new(),
            past: Vec::new(),
        }
    }
}

impl Deployment {
    /// The deployment that follows this one.
    ///
    /// # Errors
    /// When the shares are not 100 % together, or something else is wrong with them.
    pub(crate) fn next(
        &self,
        mut traffic: Vec<Share>,
        sticky: Sticky,
        now: u64,
        caller: String,
    ) -> Result<Self, TrafficError> {
        if traffic.len() > MOST_SHARES {
            return Err(TrafficError::Many(traffic.len()));
        }
        let sum = traffic.iter().map(|share| u64::from(share.percent)).sum();
        if sum != 100 {
            return Err(TrafficError::Sum(sum));
        }
        for (at, share) in traffic.iter().enumerate() {
            if share.percent == 0 {
                return Err(TrafficError::Nothing(share.version.clone()));
            }
            let before = traffic.iter().take(at);
            if before
                .into_iter()
                .any(|other| other.version == share.version)
            {
                return Err(TrafficError::Twice(share.version.clone()));
            }
        }
        if let Sticky::Header(name) = &sticky
            && http::HeaderName::try_from(name.as_str()).is_err()
        {
            return Err(TrafficError::Header);
        }
        traffic.sort_by_key(|share| std::cmp::Reverse(share.percent));
        let mut past = self.past.clone();
        if self.number > 0 || self.traffic != traffic {
            past.insert(
                0,
                Past {
                    number: self.number,
                    traffic: self.traffic.clone(),
                    sticky: self.sticky.clone(),
                    created: self.created,
                    caller: self.caller.clone(),
                },
            );
        }
        past.truncate(REMEMBERED);
        Ok(Self {
            number: self.number + 1,
            traffic,
            sticky,
            created: now,
            caller,
            past,
        })
    }

    /// The latest deployment before this one that had other shares.
    pub(crate) fn before(&self) -> Option<&Past> {
        self.past.iter().find(|past| past.traffic != self.traffic)
    }

    /// Whether a version gets requests.
    pub(crate) fn has(&self, version: &VersionRef) -> bool {
        self.traffic.iter().any(|share| share.version == *version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(version: &str, percent: u8) -> Share {
        Share {
            version: VersionRef::parse(version).unwrap(),
            percent,
        }
    }

    const A: &str = "00112233445566aa";
    const B: &str = "00112233445566bb";

    #[test]
    fn names_of_versions_lead_nowhere() {
        assert!(VersionId::parse(A).is_some());
        for text in [
            "",
            "..",
            "../../../../etc/x",
            "00112233445566AA",
            "00112233445566a",
            "00112233445566aa0",
        ] {
            assert_eq!(VersionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn deployments_follow_each_other_and_back() {
        let first = Deployment::default();
        assert_eq!(first.before(), None);
        let next = |of: &Deployment, traffic| of.next(traffic, Sticky::None, 1, "a".to_owned());
        let a = next(&first, vec![share(A, 100)]).unwrap();
        assert_eq!(a.before().unwrap().traffic, first.traffic);
        let split = next(&a, vec![share(A, 10), share(B, 90)]).unwrap();
        assert_eq!(split.traffic, [share(B, 90), share(A, 10)]);
        assert_eq!(split.before().unwrap().traffic, a.traffic);
        assert_eq!((split.number, split.past.len()), (2, 2));
        let back = next(&split, split.before().unwrap().traffic.clone()).unwrap();
        assert_eq!(back.traffic, a.traffic);
        assert_eq!(back.before().unwrap().traffic, split.traffic);
    }

    #[test]
    fn shares_that_are_no_deployment_are_refused() {
        let first = Deployment::default();
        for (traffic, error) in [
            (vec![], TrafficError::Sum(0)),
            (vec![share(A, 99)], TrafficError::Sum(99)),
            (
                vec![share(A, 50), share(A, 50)],
                TrafficError::Twice(VersionRef::parse(A).unwrap()),
            ),
            (
                vec![share(A, 100), share(B, 0)],
                TrafficError::Nothing(VersionRef::parse(B).unwrap()),
            ),
            (vec![share(A, 200), share(B, 156)], TrafficError::Sum(356)),
            (vec![share(A, 1); 6], TrafficError::Many(6)),
        ] {
            assert_eq!(
                first.next(traffic, Sticky::None, 1, String::new()),
                Err(error)
            );
        }
        let sticky = Sticky::Header("a b".to_owned());
        let refused = first.next(vec![share(A, 100)], sticky, 1, String::new());
        assert_eq!(refused, Err(TrafficError::Header));
    }
}
