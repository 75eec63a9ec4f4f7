//! Whether it is worth looking for the next message before the thread sleeps.
//!
//! A look that finds one saves putting the thread to sleep and waking it; one that finds none costs all of
//! its time. The results of the last checks say which is likely.

/// The most rests without a look, however many looks were in vain.
const MOST_SKIPPED: u32 = 15;

/// How the last looks went.
#[derive(Debug, Default)]
pub(crate) struct Spins {
    /// Rests without a look until the next one.
    skip: u32,
    /// Rests that were skipped after the last vain look; doubles with each.
    skipped: u32,
}

impl Spins {
    /// Whether to look this time.
    pub(crate) fn wanted(&mut self) -> bool {
        let wanted = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        wanted
    }

    /// What came of a look.
    pub(crate) fn note(&mut self, found: bool) {
        self.skipped = if found {
            0
        } else {
            (2 * self.skipped + 1).min(MOST_SKIPPED)
        };
        self.skip = self.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it checks in `rests` rests that all end the same way.
    fn looks(spins: &mut Spins, rests: u32, found: bool) -> u32 {
        let mut looks = 0;
        for _ in 0..rests {
            if spins.wanted() {
                spins.note(found);
                looks += 1;
            }
        }
        looks
    }

    #[test]
    fn spins_that_find_messages_go_on() {
        assert_eq!(looks(&mut Spins::default(), 100, true), 100);
    }

    #[test]
    fn spins_in_vain_become_rare_but_never_stop() {
        let mut spins = Spins::default();
        assert_eq!(looks(&mut spins, 26, false), 4);
        assert_eq!(looks(&mut spins, 160, false), 10);
    }

    #[test]
    fn spins_begin_again_with_the_first_message_found() {
        let mut spins = Spins::default();
        looks(&mut spins, 100, false);
        let found = looks(&mut spins, 100, true);
        assert!(found > 100 - MOST_SKIPPED - 1, "{found}");
    }
}
