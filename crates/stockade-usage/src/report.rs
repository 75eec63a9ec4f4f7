//! Rows that were read, grouped and written for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::calendar::Day;
use crate::counts::Counts;
use crate::store::{Caller, Query, Row, Store, StoreError};

/// What rows are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The day.
    Day,
    /// The instance.
    Instance,
    /// The API key.
    Key,
}

impl By {
    /// All of them: no rows are added up.
    pub const ALL: [Self; 3] = [Self::Day, Self::Instance, Self::Key];

    /// Reads `day`, `instance` or `key`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "day" => Some(Self::Day),
            "instance" => Some(Self::Instance),
            "key" => Some(Self::Key),
            _ => None,
        }
    }

    /// The name of the column, and of the JSON key.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Instance => "instance",
            Self::Key => "api_key",
        }
    }
}

/// What a group of rows has in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The day.
    pub day: Option<Day>,
    /// The instance's name.
    pub instance: Option<Arc<str>>,
    /// Whose requests.
    pub caller: Option<Caller>,
}

impl Group {
    /// The text in a column.
    #[must_use]
    pub fn text(&self, by: By) -> String {
        match by {
            By::Day => self.day.map_or_else(String::new, |day| day.to_string()),
            By::Instance => self.instance.as_deref().unwrap_or_default().to_owned(),
            By::Key => self.caller.map_or_else(String::new, Caller::text),
        }
    }
}

/// Rows, grouped.
#[derive(Debug)]
pub struct Report {
    /// What they are grouped by.
    pub by: Vec<By>,
    /// Each group with its sum.
    pub groups: BTreeMap<Group, Counts>,
    /// The sum of all.
    pub total: Counts,
}

impl Report {
    /// Without rows.
    #[must_use]
    pub fn new(by: &[By]) -> Self {
        let mut by = by.to_vec();
        by.sort_unstable();
        by.dedup();
        Self {
            by,
            groups: BTreeMap::new(),
            total: Counts::default(),
        }
    }

    /// Adds a row to its group.
    pub fn add(&mut self, row: &Row) {
        let by = |by| self.by.contains(&by);
        let group = Group {
            day: by(By::Day).then_some(row.day),
            instance: by(By::Instance).then(|| Arc::clone(&row.instance)),
            caller: by(By::Key).then_some(row.caller),
        };
        self.groups.entry(group).or_default().add(&row.counts);
        self.total.add(&row.counts);
    }

    /// Groups the rows of a file that match; `None` if there are more than `most` groups.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(
        store: &Store,
        query: &Query,
        by: &[By],
        most: usize,
    ) -> Result<Option<Self>, StoreError> {
        let mut report = Self::new(by);
        store.each(query, |row| {
            report.add(&row);
            report.groups.len() <= most
        })?;
        Ok(Some(report).filter(|report| report.groups.len() <= most))
    }

    /// The report as a JSON object: `rows`, each with what it is grouped by and its counts, and `total`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows = self.groups.iter().map(|(group, counts)| {
            let mut object = Map::new();
            for by in &self.by {
                let text = group.text(*by);
                let value = match by {
                    By::Key if text.is_empty() => Value::Null,
                    _ => text.into(),
                };
                object.insert(by.name().to_owned(), value);
            }
            object.extend(json(counts));
            Value::Object(object)
        });
        let mut report = Map::new();
        report.insert("rows".to_owned(), rows.collect());
        report.insert(
            "total".to_owned(),
            Value::Object(json(&self.total).collect()),
        );
        Value::Object(report)
    }

    /// The report as CSV (RFC 4180), with a line of names and without the total.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let names = self.by.iter().map(|by| by.name());
        let counts = shown(&self.total);
        let names: Vec<&str> = names.chain(counts.iter().map(|(name, _)| *name)).collect();
        let mut text = names.join(",") + "\r\n";
        for (group, counts) in &self.groups {
            let groups = self.by.iter().map(|by| field(&group.text(*by)));
            let numbers = shown(counts)
                .into_iter()
                .map(|(_, number)| number.to_string());
            let fields: Vec<String> = groups.chain(numbers).collect();
            // Writing into memory does not fail.
            let _ = write!(text, "{}\r\n", fields.join(","));
        }
        text
    }
}

/// A field of CSV. Names of the configuration and ids need no quotes; a file that somebody else wrote may have others.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn json(counts: &Counts) -> impl Iterator<Item = (String, Value)> {
    let all = shown(counts).into_iter();
    all.map(|(name, number)| (name.to_owned(), Value::Number(number)))
}

/// The counts as programs and people read them: CPU in seconds, all others as they are.
#[must_use]
pub fn shown(counts: &Counts) -> Vec<(&'static str, Number)> {
    let all = Counts::NAMES.iter().zip(counts.values());
    all.map(|(name, value)| match *name {
        "cpu_ns" => {
            let seconds = Number::from_f64(value as f64 / 1e9);
            ("cpu_seconds", seconds.unwrap_or_else(|| 0.into()))
        }
        name => (name, value.into()),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |day, instance: &str, key, requests| Row {
            day: Day::of_number(day),
            instance: instance.into(),
            caller: Caller::of(key),
            counts: Counts {
                requests,
                cpu_ns: requests * 1_500_000,
                ..Counts::default()
            },
        };
        vec![
            row(1, "a", None, 1),
            row(1, "b", Some(7), 2),
            row(2, "a", Some(7), 4),
        ]
    }

    #[test]
    fn report_groups_and_adds_up() {
        for (by, expected) in [
            (&[By::Day][..], vec![3, 4]),
            (&[By::Instance], vec![5, 2]),
            (&[By::Key], vec![1, 6]),
            (&[By::Key, By::Instance], vec![1, 4, 2]),
            (&[], vec![7]),
            (&By::ALL, vec![1, 2, 4]),
        ] {
            let mut report = Report::new(by);
            rows().iter().for_each(|row| report.add(row));
            let found: Vec<u64> = report
                .groups
                .values()
                .map(|counts| counts.requests)
                .collect();
            assert_eq!(found, expected, "{by:?}");
            assert_eq!(report.total.requests, 7);
        }
    }

    #[test]
    fn report_with_too_many_groups_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("usage.db");
        let ledger = crate::Ledger::open(crate::LedgerOptions {
            path: path.clone(),
            interval: std::time::Duration::from_secs(3600),
            keep_days: None,
            keys: 10,
            key_totals: false,
        });
        let ledger = ledger.unwrap();
        for key in 1..4 {
            ledger.add(&"a".into(), Some(key), &rows()[0].counts);
        }
        ledger.flush().unwrap();
        let store = Store::open_to_read(&path).unwrap();
        let read = |by: &[By], most| Report::read(&store, &Query::default(), by, most).unwrap();
        assert!(read(&[By::Key], 2).is_none());
        assert_eq!(read(&[By::Key], 3).unwrap().total.requests, 3);
        assert_eq!(read(&[By::Instance], 1).unwrap().groups.len(), 1);
    }

    #[test]
    fn report_is_json_and_csv() {
        let mut report = Report::new(&[By::Key]);
        rows().iter().for_each(|row| report.add(row));
        let json = report.to_json();
        assert_eq!(json["rows"][0]["api_key"], Value::Null);
        assert!(
            json["rows"][1]["api_key"]
                .as_str()
                .unwrap()
                .starts_with("key_")
        );
        assert_eq!(json["total"]["requests"], 7);
        assert_eq!(json["total"]["cpu_seconds"], 0.0105);
        let csv = report.to_csv();
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert!(lines[0].starts_with("api_key,requests,errors,cpu_seconds,memory_byte_seconds,"));
        assert!(lines[1].starts_with(",1,0,0.0015,"), "{csv}");
        assert_eq!(lines.len(), 4);
        assert_eq!(field("a\"b,c"), "\"a\"\"b,c\"");
    }
}
