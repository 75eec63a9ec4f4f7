//! The journal of systemd as the end of standard error: it takes the level of a line from a prefix, `<4>` for a warning
//! (sd-daemon(3)), which it removes.

use std::os::fd::AsFd;

use tracing::Level;

/// Whether lines that are written to this descriptor go to the journal: `$JOURNAL_STREAM` names its device and inode
/// (systemd.exec(5)), and a descriptor that was redirected has others.
pub(super) fn ends_in(descriptor: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(descriptor).is_ok_and(|stat| is_named(&named, stat.st_dev, stat.st_ino))
}

fn is_named(named: &str, device: u64, inode: u64) -> bool {
    let numbers = named.split_once(':');
    numbers.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)))
        == Some((device, inode))
}

/// What precedes a line of this level. The journal has no level below that for debugging.
pub(super) fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_of_the_journal_is_known_by_both_numbers() {
        assert!(is_named("9:4711", 9, 4711));
        for other in [
            "9:4712", "8:4711", "9", "", "9:", ":4711", "9:4711:1", "-9:4711",
        ] {
            assert!(!is_named(other, 9, 4711), "{other}");
        }
    }
}
