//! The rules as they lie in the JSON files of `stockade-jail`.

use std::path::Path;

use serde_json::Value;

use crate::trace::Call;

/// Stands for the id of the process.
const PROCESS_ID: u64 = 4_294_963_664;

pub(crate) struct Rules {
    allow: Vec<Rule>,
    refuse: Vec<Rule>,
}

/// What the rules say of a call.
pub(crate) enum Match {
    Allowed(Vec<String>),
    Refused,
    None,
}

struct Rule {
    /// The call and its conditions, for people and for `unused.json`.
    name: String,
    syscall: String,
    conditions: Vec<Condition>,
}

struct Condition {
    index: usize,
    is_half: bool,
    comparison: Comparison,
    value: u64,
}

enum Comparison {
    Equal,
    NotEqual,
    AtLeast,
    AtMost,
    Masked(u64),
}

impl Rules {
    pub(crate) fn read(wx: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stockade-jail/seccomp");
        let mut rules = Self {
            allow: Vec::new(),
            refuse: Vec::new(),
        };
        for file in [
            "every-worker.json".to_owned(),
            format!("worker-{wx}.x86_64.json"),
        ] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            let file: Value = serde_json::from_str(&text).unwrap();
            for (section, content) in file.as_object().unwrap() {
                let read = content["filter"].as_array().unwrap().iter().map(Rule::read);
                if section == "allow" {
                    rules.allow.extend(read);
                } else {
                    rules.refuse.extend(read);
                }
            }
        }
        rules
    }

    /// The names of the rules that let calls through.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &String> {
        self.allow.iter().map(|rule| &rule.name)
    }

    pub(crate) fn find(&self, call: &Call) -> Match {
        if self.refuse.iter().any(|rule| rule.fits(call)) {
            return Match::Refused;
        }
        let fitting = self.allow.iter().filter(|rule| rule.fits(call));
        let names: Vec<_> = fitting.map(|rule| rule.name.clone()).collect();
        if names.is_empty() {
            Match::None
        } else {
            Match::Allowed(names)
        }
    }
}

impl Rule {
    fn read(json: &Value) -> Self {
        let syscall = json["syscall"].as_str().unwrap().to_owned();
        let none = Vec::new();
        let conditions: Vec<_> = (json["args"].as_array().unwrap_or(&none).iter())
            .map(Condition::read)
            .collect();
        let texts: Vec<_> = conditions.iter().map(Condition::text).collect();
        Self {
            name: format!("{syscall}({})", texts.join(", ")),
            syscall,
            conditions,
        }
    }

    fn fits(&self, call: &Call) -> bool {
        self.syscall == call.name
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(call))
    }
}

impl Condition {
    fn read(json: &Value) -> Self {
        Self {
            index: usize::try_from(json["index"].as_u64().unwrap()).unwrap(),
            is_half: json["type"] == "dword",
            comparison: match json["op"].as_str() {
                Some("eq") => Comparison::Equal,
                Some("ne") => Comparison::NotEqual,
                Some("ge") => Comparison::AtLeast,
                Some("le") => Comparison::AtMost,
                None => Comparison::Masked(json["op"]["masked_eq"].as_u64().unwrap()),
                Some(other) => panic!("{other} is not known here"),
            },
            value: json["val"].as_u64().unwrap(),
        }
    }

    fn text(&self) -> String {
        let (index, value) = (self.index, self.value);
        match self.comparison {
            Comparison::Equal => format!("{index} = {value}"),
            Comparison::NotEqual => format!("{index} != {value}"),
            Comparison::AtLeast => format!("{index} >= {value}"),
            Comparison::AtMost => format!("{index} <= {value}"),
            Comparison::Masked(mask) => format!("{index} & {mask:#x} = {value:#x}"),
        }
    }

    fn holds(&self, call: &Call) -> bool {
        // strace leaves out what a call does not take.
        let Some(given) = call.arguments.get(self.index) else {
            return false;
        };
        if self.value == PROCESS_ID {
            return true;
        }
        let cut = |number: u64| {
            if self.is_half {
                number & 0xffff_ffff
            } else {
                number
            }
        };
        let (given, value) = (cut(*given), cut(self.value));
        match self.comparison {
            Comparison::Equal => given == value,
            Comparison::NotEqual => given != value,
            Comparison::AtLeast => given >= value,
            Comparison::AtMost => given <= value,
            Comparison::Masked(mask) => given & cut(mask) == value & cut(mask),
        }
    }
}
