//! What clients ask for, checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stockade::run::{Files, MAX_FILE_BYTES, Options, Tool};
use stockade::{Grants, Isolation};
use stockade_config::{size, time};
use stockade_limits::without_value;

use super::message::{Fault, Kind};

/// The longest time, in milliseconds.
const MAX_MS: f64 = 1e12;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Initialize {
    #[serde(rename = "client")]
    _client: Option<IgnoredAny>,
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Open {
    level: Option<String>,
    memory: Option<Amount>,
    cpu: Option<Amount>,
    timeout: Option<Amount>,
    env: Map<String, Value>,
    files: BTreeMap<String, Content>,
    fetch: Vec<String>,
    grants: Map<String, Value>,
    prelude: Option<String>,
    tools: BTreeMap<String, ToolText>,
    output: Option<Amount>,
    pool: Option<usize>,
    pub(super) session: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunParams {
    pub(super) sandbox: String,
    pub(super) code: String,
    pub(super) run: Option<String>,
    timeout: Option<Amount>,
    #[serde(default)]
    files: BTreeMap<String, Content>,
    #[serde(default)]
    pub(super) stream: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    pub(super) run: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    pub(super) sandbox: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stats {}

/// What a client says about a tool, for itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ToolText {
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    #[serde(rename = "inputSchema")]
    _input: Option<IgnoredAny>,
    #[serde(rename = "outputSchema")]
    _output: Option<IgnoredAny>,
}

/// A size or a time: text with a unit, or a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Bytes(Bytes),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bytes {
    #[serde(rename = "$bytes")]
    base64: String,
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Kind::InvalidParams, message)
}

/// Reads params.
pub(super) fn read<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, Fault> {
    let json = params.map_or("{}", RawValue::get);
    // A list would be read as the values of the keys in their order.
    if !json.starts_with('{') {
        return Err(invalid("params: expected an object"));
    }
    // They have variables of the guest's environment, and grants with their secrets.
    serde_json::from_str(json)
        .map_err(|error| invalid(format!("params: {}", without_value(&error))))
}

/// Bytes, `None` for 0.
fn bytes(key: &str, amount: &Amount) -> Result<Option<u64>, Fault> {
    let bytes = match amount {
        Amount::Number(number) => {
            (number.fract() == 0.0 && (0.0..1e15).contains(number)).then_some(*number as u64)
        }
        Amount::Text(text) => size(text),
    };
    let bytes = bytes.ok_or_else(|| {
        invalid(format!(
            "{key}: expected a size, as \"64mb\" or a number of bytes"
        ))
    })?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A time, `None` for 0.
fn duration(key: &str, amount: &Amount) -> Result<Option<Duration>, Fault> {
    let ms = match amount {
        Amount::Number(number) => Some(*number),
        Amount::Text(text) => time(text).map(|time| time.as_secs_f64() * 1e3),
    };
    let ms = ms.filter(|ms| (0.0..=MAX_MS).contains(ms)).ok_or_else(|| {
        invalid(format!(
            "{key}: expected a time, as \"500ms\" or a number of milliseconds"
        ))
    })?;
    Ok(Some(Duration::from_secs_f64(ms / 1e3)).filter(|time| !time.is_zero()))
}

/// The contents of files.
fn contents(files: BTreeMap<String, Content>) -> Result<Files, Fault> {
    let mut read = Files::new();
    for (path, content) in files {
        let bytes = match content {
            Content::Text(text) => text.into_bytes(),
            Content::Bytes(bytes) => STANDARD.decode(bytes.base64).map_err(|error| {
                invalid(format!("files: {path:?}: $bytes is not base64: {error}"))
            })?,
        };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(invalid(format!(
                "files: {path:?} is larger than {MAX_FILE_BYTES} bytes"
            )));
        }
        read.insert(path, bytes);
    }
    Ok(read)
}

impl Open {
    /// The options of a sandbox whose tools are all this one. Reads what grants name, which may block.
    pub(super) fn options(self, tool: &Tool) -> Result<Options, Fault> {
        let mut options = Options {
            env: self.env,
            files: contents(self.files)?,
            grants: grants(&self.grants, &self.fetch)?,
            prelude: self.prelude,
            tools: self
                .tools
                .into_keys()
                .map(|name| (name, tool.clone()))
                .collect(),
            ..Options::default()
        };
        if let Some(level) = &self.level {
            options.level = Isolation::from_name(level)
                .filter(|level| *level != Isolation::Vm)
                .ok_or_else(|| {
                    invalid(format!(
                        "level: {level:?} is not \"thread\", \"process\" or \"container\""
                    ))
                })?;
        }
        if let Some(memory) = &self.memory {
            options.memory = bytes("memory", memory)?;
        }
        if let Some(cpu) = &self.cpu {
            options.cpu = duration("cpu", cpu)?;
        }
        if let Some(timeout) = &self.timeout {
            options.timeout = duration("timeout", timeout)?;
        }
        if let Some(output) = &self.output {
            let output = bytes("output", output)?.unwrap_or_default();
            options.output = usize::try_from(output).unwrap_or(usize::MAX);
        }
        if let Some(pool) = self.pool {
            options.pool = pool;
        }
        Ok(options)
    }
}

fn grants(named: &Map<String, Value>, fetch: &[String]) -> Result<Grants, Fault> {
    let text = serde_json::to_string(named).unwrap_or_default();
    let grants = Grants::from_json(&text, Path::new("."));
    let grants = grants.map_err(|error| invalid(format!("grants: {error}")))?;
    if fetch.is_empty() {
        return Ok(grants);
    }
    let grants = grants.allow_fetch(fetch);
    grants.map_err(|error| invalid(format!("fetch: {error}")))
}

impl RunParams {
    /// The time and the files of the run.
    pub(super) fn bounds(&mut self) -> Result<(Option<Duration>, Files), Fault> {
        let timeout = self.timeout.as_ref().map(|it| duration("timeout", it));
        // 0 is no limit, and not the sandbox's.
        let timeout = timeout
            .transpose()?
            .map(|it| it.unwrap_or(Duration::from_secs_f64(MAX_MS / 1e3)));
        Ok((timeout, contents(std::mem::take(&mut self.files))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> Result<Options, Fault> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let tool = Tool::raw(|_| async { Err(stockade::GuestError::new("")) });
        read::<Open>(Some(&raw))?.options(&tool)
    }

    #[test]
    fn open_reads_every_option() {
        let options = open(
            r#"{"level":"thread","memory":"64mb","cpu":"500ms","timeout":0,"env":{"A":[1]},"files":{"a.ts":"1",
                "b.bin":{"$bytes":"AAE="}},"fetch":["api.example.com"],"grants":{"N":{"dns":{"names":["example.com"]}}},
                "prelude":"let a: 1","tools":{"add":{"description":"adds","inputSchema":{}}},"output":1000,"pool":0,"session":true}"#,
        )
        .unwrap();
        assert_eq!(options.level, Isolation::Thread);
        assert_eq!(options.memory, Some(64 << 20));
        assert_eq!(options.cpu, Some(Duration::from_millis(500)));
        assert_eq!(options.timeout, None);
        assert_eq!(options.files["b.bin"], [0, 1]);
        assert_eq!((options.output, options.pool), (1000, 0));
        assert_eq!(options.prelude.as_deref(), Some("let a: 1"));
        assert!(options.tools.contains_key("add"));
        assert_eq!(options.grants.kinds()["N"], "dns");
    }

    #[test]
    fn open_errors_have_no_value() {
        for json in [
            r#"{"env":["TOKEN=hunter2"]}"#,
            r#"{"env":"hunter2"}"#,
            r#"{"prelude":["hunter2"]}"#,
            r#"{"pool":"hunter2"}"#,
            r#"{"level":{"hunter2":1}}"#,
        ] {
            let Err(fault) = open(json) else {
                panic!("{json} was taken")
            };
            assert!(
                !fault.message.contains("hunter2"),
                "{json}: {}",
                fault.message
            );
        }
    }

    #[test]
    fn open_names_what_is_wrong() {
        for (json, part) in [
            (r#"{"memroy":1}"#, "memroy"),
            (r#"{"level":"vm"}"#, "level"),
            (r#"{"memory":"64 parsecs"}"#, "memory"),
            (r#"{"memory":1.5}"#, "memory"),
            (r#"{"cpu":-1}"#, "cpu"),
            (r#"{"timeout":1e300}"#, "timeout"),
            (r#"{"files":{"a":{"$bytes":"?"}}}"#, "base64"),
            (r#"{"tools":{"a":{"call":1}}}"#, "call"),
            (r#"{"grants":{"A":{"nothing":{}}}}"#, "grants"),
            (r#"{"fetch":["a b"]}"#, "fetch"),
            (r#"{"pool":-1}"#, "params"),
            ("[]", "params"),
        ] {
            let Err(fault) = open(json) else {
                panic!("{json} was taken")
            };
            assert_eq!(fault.kind, Kind::InvalidParams, "{json}");
            assert!(fault.message.contains(part), "{json}: {}", fault.message);
        }
    }
}
