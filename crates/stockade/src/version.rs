//! What this program is made of, for `--version` and `stockade doctor`.
//!
//! The age of V8 matters for security: a weakness of V8 becomes public with the version that mends it. From then on,
//! level `thread` is no protection against those who know it, and the other levels have lost their first layer.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// Days after which a V8 is called old: Chrome gets a new version of V8 every four weeks.
const OLD_DAYS: u64 = 30;

/// The version of the crate `v8` in Cargo.lock, and the day on which the crate registry published it. A test compares
/// the version with Cargo.lock, so that an update cannot keep the day of the version before.
const V8_CRATE: (&str, &str) = ("150.4.0", "2026-07-26");

/// V8 in this program.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct V8Release {
    /// The version as V8 states it, without its patches.
    version: &'static str,
    /// The operator's patches (`STOCKADE_V8_PATCHES` of `scripts/setup-v8.sh`), in the order in which they were applied.
    patches: Vec<&'static str>,
    /// The day of its publication, as `2026-07-26`.
    published: &'static str,
    /// Days since then; 0 if the clock is behind.
    age_days: u64,
    /// Whether that is more than [`OLD_DAYS`].
    old: bool,
}

impl V8Release {
    /// The V8 of this program on the day that `now` is in.
    pub(crate) fn at(now: SystemTime) -> Self {
        let published = V8_CRATE.1;
        let day = humantime::parse_rfc3339(&format!("{published}T00:00:00Z"));
        let age = day.ok().and_then(|day| now.duration_since(day).ok());
        let age_days = age.unwrap_or(Duration::ZERO).as_secs() / 86_400;
        let (version, patches) = patches_of(stockade_isolate::v8_version());
        Self {
            version,
            patches,
            published,
            age_days,
            old: age_days > OLD_DAYS,
        }
    }

    /// Whether it is older than a monthly update allows.
    pub(crate) const fn is_old(&self) -> bool {
        self.old
    }
}

impl fmt::Display for V8Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V8 {}, published {}, ", self.version, self.published)?;
        write!(f, "{} days old", self.age_days)?;
        if !self.patches.is_empty() {
            write!(f, ", patched: {}", self.patches.join(", "))?;
        }
        Ok(())
    }
}

/// Separates the names of patches from the version: the build from source writes `15.0.1-rusty+name+name`.
fn patches_of(version: &'static str) -> (&'static str, Vec<&'static str>) {
    let mut parts = version.split('+');
    (parts.next().unwrap_or_default(), parts.collect())
}

/// The line below an old V8.
pub(crate) const OLD_V8: &str = "weaknesses of V8 that were mended since then are public\n\
    fix: update Stockade, and use the levels process or container for code that may be hostile";

/// `0.1.0`, and for a packaged program the commit and the day of that commit: `0.1.0 (d903fb6f0c1e, 2026-11-30)`.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("STOCKADE_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
});

/// [`VERSION`], V8's version and its age.
pub(crate) static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let v8 = V8Release::at(SystemTime::now());
    let mut text = format!("{}\n{v8}", *VERSION);
    if v8.is_old() {
        for line in OLD_V8.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    text
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let (version, _) = V8_CRATE;
        assert!(
            lock.contains(&format!("name = \"v8\"\nversion = \"{version}\"\n")),
            "version.rs: V8_CRATE says {version}, Cargo.lock another version: update both, version and day"
        );
    }

    #[test]
    fn patches_of_the_build_are_named() {
        assert_eq!(patches_of("15.0.1-rusty"), ("15.0.1-rusty", Vec::new()));
        let (version, patches) = patches_of("15.0.1-rusty+0001-fix+cve-2026-1234");
        let release = V8Release {
            version,
            patches,
            ..V8Release::at(SystemTime::UNIX_EPOCH)
        };
        assert_eq!(
            release.to_string(),
            format!(
                "V8 15.0.1-rusty, published {}, 0 days old, patched: 0001-fix, cve-2026-1234",
                V8_CRATE.1
            )
        );
    }

    #[test]
    fn age_is_counted_in_days() {
        let at = |text: &str| V8Release::at(humantime::parse_rfc3339(text).unwrap());
        assert_eq!(at("2026-07-26T09:39:13Z").age_days, 0);
        let month = at("2026-08-25T23:59:59Z");
        assert!(month.age_days == 30 && !month.is_old());
        assert!(at("2026-08-26T00:00:00Z").is_old());
        assert_eq!(
            at("2020-01-01T00:00:00Z").age_days,
            0,
            "a clock that is behind"
        );
    }
}
