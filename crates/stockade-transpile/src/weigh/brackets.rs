//! Open brackets and what stands before them: from tokens to levels and work.

use super::{BRACKET_LEVELS, Limit, MAX_LEVELS, MAX_WORK, Refused, Weight};

/// What closes an open bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bracket {
    /// `(`; `control` for that of `if`, `for`, `while` and `with`, which ends no expression.
    Paren { control: bool },
    /// `[`
    Square,
    /// `{`; `list` if commas separate its items, as in an object. In a block they do not.
    Curly { list: bool },
    /// `${` inside a template.
    Substitution,
}

/// What stands before the token to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Nothing,
    /// `;`: a new statement, unless `else` or the like follows.
    Statement,
    /// `}`: a new statement, if a word follows that cannot continue the old one.
    Block,
}

/// An open bracket, or the whole source.
#[derive(Debug)]
struct Open {
    bracket: Option<Bracket>,
    /// Levels outside.
    base: usize,
    /// How often everything inside is parsed, by doublings outside.
    times: u64,
    /// Places outside that are parsed once more in case an arrow function begins there.
    retries_outside: u64,
    /// Tokens since the statement or list item began.
    tokens: usize,
    /// `<` since the statement began: a comma may stand between type arguments and ends none of them.
    angles: usize,
    /// Places since the statement began whose rest may be parsed twice.
    doublings: u64,
    /// Places since the statement or item began where an arrow function may begin.
    retries: u64,
    /// Commas end no item here, because they separate types that a class implements.
    keeps_item: bool,
    ended: Ended,
}

/// All open brackets and the bounds so far.
#[derive(Debug)]
pub(super) struct Brackets {
    open: Vec<Open>,
    now: Open,
    weight: Weight,
    blind_since: Option<usize>,
}

/// Words that go on with a statement whose part ended with `;` or `}`.
const CONTINUING: &[&str] = &[
    "else",
    "while",
    "catch",
    "finally",
    "of",
    "in",
    "instanceof",
    "as",
    "satisfies",
    "is",
    "extends",
    "implements",
    "from",
    "with",
    "assert",
];

impl Open {
    fn new(bracket: Option<Bracket>, base: usize, times: u64, retries_outside: u64) -> Self {
        Self {
            bracket,
            base,
            times,
            retries_outside,
            tokens: 0,
            angles: 0,
            doublings: 0,
            retries: 0,
            keeps_item: false,
            ended: Ended::Nothing,
        }
    }

    fn levels(&self) -> usize {
        self.base + self.tokens + BRACKET_LEVELS * self.angles
    }

    fn times(&self) -> u64 {
        self.times.saturating_mul(1 + self.doublings)
    }

    fn end_item(&mut self) {
        self.tokens = 0;
        self.retries = 0;
    }

    fn end_statement(&mut self) {
        self.end_item();
        self.angles = 0;
        self.doublings = 0;
        self.keeps_item = false;
    }
}

impl Brackets {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            now: Open::new(None, 0, 1, 0),
            weight: Weight { levels: 0, work: 0 },
            blind_since: None,
        }
    }

    pub(super) fn weight(&self) -> Weight {
        self.weight
    }

    /// Matches no bracket any more and ends no statement: for text that can be read in two ways.
    pub(super) fn go_blind(&mut self, byte: usize) {
        self.blind_since.get_or_insert(byte);
    }

    pub(super) fn is_blind(&self) -> bool {
        self.blind_since.is_some()
    }

    /// Whether a `{` after `:` opens a list of items, because no label and no `case` can stand here.
    pub(super) fn is_in_list(&self) -> bool {
        !matches!(
            self.now.bracket,
            None | Some(Bracket::Curly { list: false })
        )
    }

    /// Counts a token. `word` is its text if it is a name or keyword.
    pub(super) fn token(&mut self, byte: usize, word: Option<&str>) -> Result<(), Refused> {
        let fresh = match std::mem::replace(&mut self.now.ended, Ended::Nothing) {
            Ended::Nothing => false,
            Ended::Statement => word.is_none_or(|word| !CONTINUING.contains(&word)),
            Ended::Block => word.is_some_and(|word| !CONTINUING.contains(&word)),
        };
        if fresh && !self.is_blind() {
            self.now.end_statement();
        }
        self.now.tokens += 1;
        self.count(byte)
    }

    fn count(&mut self, byte: usize) -> Result<(), Refused> {
        let levels = self.now.levels();
        let parsed = 1 + self.now.retries_outside + self.now.retries;
        let work = self
            .weight
            .work
            .saturating_add(self.now.times().saturating_mul(parsed));
        self.weight = Weight {
            levels: self.weight.levels.max(levels),
            work,
        };
        let refused = |limit| {
            Err(Refused {
                byte,
                limit,
                blind_since: self.blind_since,
            })
        };
        if levels > MAX_LEVELS {
            return refused(Limit::Levels);
        }
        if work > MAX_WORK {
            return refused(Limit::Work);
        }
        Ok(())
    }

    /// A `;` ends a statement unless `else` or `while` follows.
    pub(super) fn semicolon(&mut self) {
        self.now.ended = Ended::Statement;
    }

    /// A comma ends an item where there are items.
    pub(super) fn comma(&mut self) {
        if !self.is_blind() && !self.now.keeps_item && self.is_in_list() {
            self.now.end_item();
        }
    }

    /// What follows in this statement belongs to the item at hand.
    pub(super) fn keep_item(&mut self) {
        self.now.keeps_item = true;
    }

    /// A `<` that may open type arguments; `operand` if an expression may end before it, so that what
    /// follows may be parsed both as types and as an expression.
    pub(super) fn angle(&mut self, operand: bool) {
        self.now.angles += 1;
        if operand {
            self.double();
        }
    }

    /// The rest of the statement may be parsed twice.
    pub(super) fn double(&mut self) {
        self.now.doublings += 1;
        if self.is_blind() {
            // Nesting is unknown: take it as nested.
            self.now.times = self.now.times();
            self.now.doublings = 0;
        }
    }

    /// An arrow function may begin here.
    pub(super) fn retry(&mut self) {
        self.now.retries += 1;
    }

    /// Opens a bracket whose token has been counted; `doubled` if all inside may be parsed twice.
    pub(super) fn open(&mut self, bracket: Bracket, doubled: bool) {
        if self.is_blind() {
            self.now.base += BRACKET_LEVELS;
            if doubled {
                self.now.times = self.now.times.saturating_mul(2);
            }
            return;
        }
        let base = self.now.levels() + BRACKET_LEVELS;
        let times = self.now.times().saturating_mul(if doubled { 2 } else { 1 });
        let retries = self.now.retries_outside + self.now.retries;
        let inner = Open::new(Some(bracket), base, times, retries);
        self.open.push(std::mem::replace(&mut self.now, inner));
    }

    /// Closes the innermost bracket if it is of the right kind, and returns which it was.
    pub(super) fn close(&mut self, byte: usize, closer: u8) -> Option<Bracket> {
        if self.is_blind() {
            return None;
        }
        let fits = match self.now.bracket {
            Some(Bracket::Paren { .. }) => closer == b')',
            Some(Bracket::Square) => closer == b']',
            Some(Bracket::Curly { .. } | Bracket::Substitution) => closer == b'}',
            None => false,
        };
        match (fits, self.now.bracket, self.open.pop()) {
            (true, Some(bracket), Some(outer)) => {
                self.now = outer;
                if matches!(bracket, Bracket::Curly { .. }) {
                    self.now.ended = Ended::Block;
                }
                Some(bracket)
            }
            _ => {
                self.go_blind(byte);
                None
            }
        }
    }
}
