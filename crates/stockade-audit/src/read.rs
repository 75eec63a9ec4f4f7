//! Searching a log, and following it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::AuditError;
use crate::segment::{self, RawLine, Segment, SegmentReader};

/// A line of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As it was written, without its end.
    pub text: String,
    /// Its members.
    pub fields: Map<String, Value>,
}

impl Line {
    /// A member that is a text.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// When it was written.
    #[must_use]
    pub fn at(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.text_of("at")?).ok()
    }
}

/// Which lines are wanted. What is `None` or empty lets every line pass.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Names of events.
    pub events: Vec<String>,
    /// The name of the instance.
    pub instance: Option<String>,
    /// Not before.
    pub since: Option<SystemTime>,
    /// Not after.
    pub until: Option<SystemTime>,
    /// A text that the line contains, in any of its fields.
    pub text: Option<String>,
}

impl Filter {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, line: &Line) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            (wanted.as_deref()).is_none_or(|wanted| line.text_of(name) == Some(wanted))
        };
        let event = line.text_of("event").unwrap_or_default();
        (self.events.is_empty() || self.events.iter().any(|wanted| wanted == event))
            && is(&self.instance, "instance")
            && self
                .since
                .is_none_or(|since| line.at().is_some_and(|at| at >= since))
            && self
                .until
                .is_none_or(|until| line.at().is_some_and(|at| at <= until))
            && (self.text.as_deref()).is_none_or(|text| line.text.contains(text))
    }
}

/// The lines of a folder from the oldest to the latest. Nothing is verified.
pub struct Lines {
    folder: PathBuf,
    /// The number of the first line of the file that is read.
    first: u64,
    reader: Option<SegmentReader>,
    follow: bool,
}

/// How often a log that is followed is read again.
const LOOK: Duration = Duration::from_millis(250);

impl Lines {
    /// Reads everything that is there.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            first: 0,
            reader: None,
            follow: false,
        }
    }

    /// Goes on with what is written later; [`Lines::next_line`] then waits for it.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }

    /// The next line. `None` at the end, if the log is not followed.
    ///
    /// # Errors
    /// When a file cannot be read, or contains what is not a line of a log.
    pub fn next_line(&mut self) -> Result<Option<Line>, AuditError> {
        loop {
            if let Some(line) = self.line_that_is_there()? {
                return Ok(Some(line));
            }
            if let Some(next) = self.next_segment()? {
                self.first = next.first;
                self.reader = Some(SegmentReader::open(&next.path)?);
            } else if self.follow {
                std::thread::sleep(LOOK);
            } else {
                return Ok(None);
            }
        }
    }

    fn line_that_is_there(&mut self) -> Result<Option<Line>, AuditError> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        match reader.next_line()? {
            Some(RawLine::Whole(bytes)) => {
                let broken = || reader.broken("it is not a line of an audit log");
                let text = String::from_utf8(bytes).map_err(|_| broken())?;
                let fields = serde_json::from_str(&text).map_err(|_| broken())?;
                Ok(Some(Line { text, fields }))
            }
            // It is being written.
            Some(RawLine::Partial) => {
                reader.step_back()?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn next_segment(&self) -> Result<Option<Segment>, AuditError> {
        let segments = segment::all(&self.folder)?;
        Ok(segments.into_iter().find(|next| next.first > self.first))
    }
}
