//! The file with the upstream servers, in the shape that Claude Desktop, Cursor and VS Code have for it, as JSON or
//! YAML, with keys of Stockade's own: `tools`, `callTimeout`.
//!
//! Invariant: values of `env` and `headers` are in no error and no `Debug` text, and wherever a value is of the wrong kind,
//! an error names the place and the kind alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jsonc_parser::ParseOptions;
use serde::Deserialize;
use serde::de::IgnoredAny;
use stockade_limits::without_value;
use thiserror::Error;
use url::Url;

use crate::bounds::{CALL_TIME, CONFIG_BYTES, NAME_CHARS, UPSTREAM_SERVERS};
use crate::glob::Glob;

/// The upstream servers.
#[derive(Debug, Default, Clone)]
pub struct McpConfig {
    /// By name, in the order of the names.
    pub servers: Vec<UpstreamConfig>,
}

/// One upstream server.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The name in the file.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
    /// What the code may call.
    pub rules: Rules,
    /// How long a call may take.
    pub call_timeout: Duration,
}

/// How an upstream server is reached.
#[derive(Clone)]
pub enum Reach {
    /// A program that speaks MCP on its standard input and output.
    Command {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, besides `PATH`, `HOME` and the like.
        env: BTreeMap<String, String>,
        /// Its working directory.
        cwd: Option<PathBuf>,
    },
    /// A server that speaks MCP over HTTP (streamable HTTP).
    Http {
        /// Its address.
        url: Url,
        /// Headers of each request.
        headers: HashMap<HeaderName, HeaderValue>,
    },
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { command, .. } => f
                .debug_struct("Command")
                .field("command", command)
                .finish_non_exhaustive(),
            Self::Http { url, .. } => f
                .debug_struct("Http")
                .field("host", &url.host_str())
                .finish_non_exhaustive(),
        }
    }
}

/// What may be done with a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Code calls it.
    Allow,
    /// Code calls it if the user agrees, each time.
    Ask,
    /// It is not offered.
    Deny,
}

/// Which tools of a server may be called. `deny` is stronger than `ask`, which is stronger than `allow`.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Tools that are called without a question.
    pub allow: Vec<Glob>,
    /// Tools that are called if the user agrees.
    pub ask: Vec<Glob>,
    /// Tools that are not offered.
    pub deny: Vec<Glob>,
}

impl Rules {
    /// What may be done with the tool of this name. A tool that no pattern names is denied.
    pub fn mode(&self, tool: &str) -> Mode {
        let any = |patterns: &[Glob]| patterns.iter().any(|pattern| pattern.matches(tool));
        if any(&self.deny) {
            Mode::Deny
        } else if any(&self.ask) {
            Mode::Ask
        } else if any(&self.allow) {
            Mode::Allow
        } else {
            Mode::Deny
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum McpConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel reported.
        error: std::io::Error,
    },
    /// The text is neither JSON nor YAML of this shape.
    #[error("{path}: {what}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// Servers cannot be used. All of them are named.
    #[error("{path}:\n{}", .list.join("\n"))]
    Servers {
        /// The file.
        path: PathBuf,
        /// A line for each.
        list: Vec<String>,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(alias = "servers", rename = "mcpServers")]
    servers: BTreeMap<String, Server>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Server {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    env_file: Option<String>,
    cwd: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    tools: Tools,
    call_timeout: Option<String>,
    // Of other programs: what they ask their users, how they show the server, how long they wait for it, and where it comes
    // from. An entry may have several of them.
    #[serde(default, rename = "autoApprove")]
    _auto_approve: IgnoredAny,
    #[serde(default, rename = "alwaysAllow")]
    _always_allow: IgnoredAny,
    #[serde(default, rename = "trust")]
    _trust: IgnoredAny,
    #[serde(default, rename = "description")]
    _description: IgnoredAny,
    #[serde(default, rename = "name")]
    _name: IgnoredAny,
    #[serde(default, rename = "timeout")]
    _timeout: IgnoredAny,
    #[serde(default, rename = "gallery")]
    _gallery: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "dev")]
    _dev: IgnoredAny,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tools {
    allow: Option<Vec<String>>,
    #[serde(default)]
    ask: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl McpConfig {
    /// Reads a file. `variable` gives the environment variables that `${NAME}` in values stands for.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or used. All servers that cannot be used are named.
    pub fn read(
        path: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, McpConfigError> {
        let failed = |error| McpConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let text = bounded_text(path).map_err(failed)?;
        Self::parse(path, &text, &variable)
    }

    fn parse(
        path: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, McpConfigError> {
        let begins = text.trim_start();
        let is_json = ["{", "//", "/*"]
            .iter()
            .any(|with| begins.starts_with(with));
        let parsed: Result<File, String> = if is_json {
            serde_json::from_str(text).or_else(|error| match error.is_data() {
                true => Err(without_value(&error)),
                false => with_comments(text),
            })
        } else {
            // A snippet would show lines of the file.
            let options = serde_saphyr::options! { with_snippet: false };
            serde_saphyr::from_str_with_options(text, options)
                .map_err(|error| without_value(&error))
        };
        let file = parsed.map_err(|what| McpConfigError::Syntax {
            path: path.to_owned(),
            what: format!("{what}\n  fix: docs/mcp.md has the keys"),
        })?;
        let mut servers = Vec::new();
        let mut list = Vec::new();
        if file.servers.len() > UPSTREAM_SERVERS {
            list.push(format!("  more than {UPSTREAM_SERVERS} servers"));
        }
        for (name, server) in file.servers {
            if server.disabled {
                continue;
            }
            match server.read(&name, variable) {
                Ok(server) => servers.push(server),
                Err(what) => list.push(format!("  server {name:?}: {what}")),
            }
        }
        if !list.is_empty() {
            return Err(McpConfigError::Servers {
                path: path.to_owned(),
                list,
            });
        }
        Ok(Self { servers })
    }
}

impl Server {
    /// Makes a server of the entry with this name.
    fn read(
        self,
        name: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<UpstreamConfig, String> {
        if name.is_empty() || name.chars().count() > NAME_CHARS {
            return Err(format!("a name has 1 to {NAME_CHARS} characters"));
        }
        let reach = self.reach(variable)?;
        let call_timeout = match &self.call_timeout {
            None => CALL_TIME,
            Some(text) => {
                duration(text).ok_or("`callTimeout` is a time such as `60s`, at most `1h`")?
            }
        };
        Ok(UpstreamConfig {
            name: name.to_owned(),
            reach,
            rules: self.tools.rules(),
            call_timeout,
        })
    }

    /// How it is reached.
    fn reach(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Reach, String> {
        match (&self.command, &self.url) {
            (Some(command), None) => self.program(command, variable),
            (None, Some(url)) => {
                // The older transport of two requests has another form of messages.
                let kind = self.kind.as_deref();
                let is_http = matches!(
                    kind,
                    None | Some("http" | "streamable-http" | "streamableHttp" | "streamable_http")
                );
                if !is_http {
                    return Err("only `type: http` (streamable HTTP) has a `url`".to_owned());
                }
                http_server(
                    &expand(url, variable)?,
                    &expand_map(&self.headers, variable)?,
                )
            }
            _ => Err("needs either `command` or `url`".to_owned()),
        }
    }

    /// A program, with the variables of its file and of its entry, of which the latter count.
    fn program(
        &self,
        command: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Reach, String> {
        let kind = self.kind.as_deref();
        if !matches!(kind, None | Some("stdio")) {
            return Err(format!(
                "`command` does not go with `type: {}`",
                kind.unwrap_or("")
            ));
        }
        let mut env = match &self.env_file {
            Some(path) => env_file(Path::new(&expand(path, variable)?))?,
            None => BTreeMap::new(),
        };
        env.extend(expand_map(&self.env, variable)?);
        let args = self.args.iter().map(|arg| expand(arg, variable));
        Ok(Reach::Command {
            command: expand(command, variable)?,
            args: args.collect::<Result<_, _>>()?,
            env,
            cwd: self.cwd.clone(),
        })
    }
}

impl Tools {
    fn rules(self) -> Rules {
        let globs = |texts: Vec<String>| texts.into_iter().map(Glob::new).collect();
        Rules {
            allow: globs(self.allow.unwrap_or_else(|| vec!["*".to_owned()])),
            ask: globs(self.ask),
            deny: globs(self.deny),
        }
    }
}

/// Reads JSON with comments and commas at the end, as VS Code has it.
fn with_comments(text: &str) -> Result<File, String> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
    };
    let parsed = jsonc_parser::parse_to_serde_value(text, &options);
    parsed.map_err(|error| without_value(&error))
}

/// Reads `NAME=value` lines, with comments and perhaps `export` and quotes. Values are in no error.
fn env_file(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let shown = path.display();
    let text = bounded_text(path).map_err(|error| format!("`envFile` {shown}: {error}"))?;
    let mut all = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let Some((name, value)) = pair else {
            return Err(format!("`envFile` {shown}:{}: not NAME=value", number + 1));
        };
        let value = value.trim();
        let quoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        all.insert(name.trim().to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(all)
}

/// The text of a file that is not too large.
fn bounded_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(CONFIG_BYTES + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > CONFIG_BYTES {
        true => Err(std::io::Error::other(format!(
            "it is larger than {CONFIG_BYTES} bytes"
        ))),
        false => Ok(text),
    }
}

fn http_server(url: &str, headers: &BTreeMap<String, String>) -> Result<Reach, String> {
    let url = Url::parse(url).map_err(|error| format!("`url`: {error}"))?;
    let is_local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_local) {
        return Err("`url` begins with https://, or with http:// for this machine".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`url` contains a password; put it into `headers`".to_owned());
    }
    let mut all = HashMap::new();
    for (name, value) in headers {
        let parsed = HeaderName::try_from(name)
            .map_err(|_| "`headers`: a name in it is not valid for a header".to_owned())?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("`headers`: the value of {name} is none of a header"))?;
        value.set_sensitive(true);
        all.insert(parsed, value);
    }
    Ok(Reach::Http { url, headers: all })
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let duration = match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (duration > Duration::ZERO && duration <= Duration::from_secs(3600)).then_some(duration)
}

fn expand_map(
    map: &BTreeMap<String, String>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    map.iter()
        .map(|(key, value)| Ok((key.clone(), expand(value, variable)?)))
        .collect()
}

/// Replaces `${NAME}`, `${env:NAME}` and `${NAME:-default}`.
fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut all = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err("`${` without `}` in a value".to_owned());
        };
        let name = match name.strip_prefix("env:").unwrap_or(name) {
            "userHome" => "HOME",
            of_editor
                if of_editor.starts_with("input:") || of_editor.starts_with("workspaceFolder") =>
            {
                return Err(format!(
                    "`${{{of_editor}}}` is known to editors only; write the value, or `${{env:NAME}}` for a variable of \
                     the environment"
                ));
            }
            name => name,
        };
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (name, None),
        };
        let value = variable(name).or(default);
        all.push_str(before);
        all += &value.ok_or_else(|| format!("the environment variable {name} is not set"))?;
        rest = after;
    }
    Ok(all + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<McpConfig, String> {
        let variable = |name: &str| match name {
            "TOKEN" => Some("secret".to_owned()),
            "HOME" => Some("/home/me".to_owned()),
            _ => None,
        };
        McpConfig::parse(Path::new("mcp.json"), text, &variable).map_err(|error| error.to_string())
    }

    #[test]
    fn file_of_other_programs_is_read() {
        let config = parse(
            r#"{ "mcpServers": {
                "fs": { "command": "npx", "args": ["-y", "server", "/tmp"], "env": { "KEY": "${TOKEN}" }, "autoApprove": ["x"] },
                "web": { "type": "http", "url": "https://example.com/mcp", "headers": { "Authorization": "Bearer ${env:TOKEN}" } },
                "off": { "command": "x", "disabled": true }
            }, "inputs": [] }"#,
        )
        .unwrap();
        assert_eq!(config.servers.len(), 2);
        let Reach::Command { args, env, .. } = &config.servers[0].reach else {
            panic!("not a command")
        };
        assert_eq!((args.len(), env["KEY"].as_str()), (3, "secret"));
        let Reach::Http { headers, .. } = &config.servers[1].reach else {
            panic!("not a url")
        };
        assert_eq!(headers[&http::header::AUTHORIZATION], "Bearer secret");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn file_of_vs_code_is_read_with_comments_and_its_file_of_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, "# of the shop\nexport KEY=\"a b\"\nOTHER=file\n").unwrap();
        let text = |path: &Path| {
            format!(
                r#"// of this folder
                {{ /* all */
                    "servers": {{ "shop": {{
                        "gallery": "https://example.com", "version": "1.0.0", "name": "Shop", "description": "of tea",
                        "type": "stdio", "command": "${{userHome}}/shop", "envFile": "{}",
                        "env": {{ "OTHER": "entry" }}, "timeout": 30,
                    }} }} }}"#,
                path.display()
            )
        };
        let config = parse(&text(&path)).unwrap();
        let Reach::Command { command, env, .. } = &config.servers[0].reach else {
            panic!("not a command")
        };
        assert_eq!(command, "/home/me/shop");
        assert_eq!((&*env["KEY"], &*env["OTHER"]), ("a b", "entry"));
        std::fs::write(&path, "KEY=1\nsecret\n").unwrap();
        let error = parse(&text(&path)).unwrap_err();
        assert!(
            error.contains(".env:2") && !error.contains("secret"),
            "{error}"
        );
        assert!(
            parse(&text(Path::new("/nonexistent")))
                .unwrap_err()
                .contains("envFile")
        );
        let input = r#"{ "servers": { "a": { "command": "x", "env": { "K": "${input:key}" } } } }"#;
        assert!(parse(input).unwrap_err().contains("known to editors only"));
    }

    #[test]
    fn yaml_has_the_same_keys() {
        let config = parse(
            "mcpServers:\n  fs:\n    command: server\n    callTimeout: 5s\n    tools:\n      allow: ['get_*']\n      ask: ['get_secret']\n",
        )
        .unwrap();
        let server = &config.servers[0];
        assert_eq!(server.call_timeout, Duration::from_secs(5));
        assert_eq!(server.rules.mode("get_issue"), Mode::Allow);
        assert_eq!(server.rules.mode("get_secret"), Mode::Ask);
        assert_eq!(server.rules.mode("delete"), Mode::Deny);
    }

    #[test]
    fn rules_prefer_the_stricter_mode_and_deny_the_rest() {
        let rules = |text: &str| {
            let text = format!("mcpServers: {{ a: {{ command: x, tools: {text} }} }}");
            parse(&text).unwrap().servers.remove(0).rules
        };
        assert_eq!(rules("{}").mode("any"), Mode::Allow);
        let all = rules("{ ask: ['*'], deny: ['drop_*'] }");
        assert_eq!(all.mode("any"), Mode::Ask);
        assert_eq!(all.mode("drop_table"), Mode::Deny);
        assert_eq!(rules("{ allow: [] }").mode("any"), Mode::Deny);
    }

    #[test]
    fn errors_name_each_server_and_no_secret() {
        let error = parse(
            r#"{ "mcpServers": {
                "a": { "command": "x", "url": "https://x" },
                "b": { "url": "http://example.com/" },
                "c": { "url": "https://user:${TOKEN}@example.com/" },
                "d": { "command": "x", "env": { "A": "${MISSING}" } },
                "e": { "url": "https://example.com", "type": "sse" },
                "f": { "command": "x", "callTimeout": "2h" },
                "g": { "url": "https://example.com", "headers": { "x": "${TOKEN}\n" } },
                "h": { "command": "x", "env": { "A": "secret ${" } }
            } }"#,
        )
        .unwrap_err();
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            assert!(
                error.contains(&format!("server \"{name}\"")),
                "{name}: {error}"
            );
        }
        assert!(error.contains("MISSING"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn values_of_the_wrong_kind_are_in_no_error() {
        for (servers, expected) in [
            (
                r#"{"a": {"command": "x", "env": "hunter2"}}"#,
                "string, expected a map",
            ),
            (
                r#"{"a": {"command": "x", "env": ["KEY=hunter2"]}}"#,
                "sequence, expected a map",
            ),
            (
                r#"{"a": {"url": "https://x", "headers": {"PIN": 471147114711}}}"#,
                "integer, expected a string",
            ),
            (
                r#"{"a": {"command": "x", "args": "--token=hunter2"}}"#,
                "string, expected a sequence",
            ),
            (
                r#"{"a": {"command": "x", "disabled": "hunter2"}}"#,
                "string, expected a boolean",
            ),
            (r#"{"a": "hunter2"}"#, "string, expected struct"),
            (
                r#"{"a": {"url": "https://x", "headers": {"Bearer hunter2": "Authorization"}}}"#,
                "a name in it",
            ),
        ] {
            let file = format!("{{\"mcpServers\": {servers}}}");
            let yaml = format!("mcpServers:\n  {servers}\n");
            for text in [&file, &format!("// mine\n{file}"), &yaml] {
                // A number is a text in YAML, where a text is wanted.
                let error = match parse(text) {
                    Err(error) => error,
                    Ok(_) if text == &yaml => continue,
                    Ok(_) => panic!("{text} was taken"),
                };
                let secret = ["hunter2", "471147114711"]
                    .iter()
                    .any(|secret| error.contains(secret));
                assert!(!secret, "{text}: {error}");
                // YAML has texts where a list is wanted in words of its own.
                assert!(text == &yaml || error.contains(expected), "{text}: {error}");
            }
        }
        // Nor is the line of a text that is neither.
        for text in [
            "{\"servers\": {\"a\": hunter2}}",
            "servers: {a: {env: {K: hunter2}",
            "servers:\n\thunter2: 1",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn error_in_a_file_with_comments_names_what_is_wrong() {
        let of =
            |servers: &str| parse(&format!("// mine\n{{ \"servers\": {servers} }}")).unwrap_err();
        let unknown = of("{ \"a\": { \"command\": \"x\", \"tols\": {} } }");
        assert!(unknown.contains("`tols`"), "{unknown}");
        for wrong in ["{ 'a': {} }", "{ a: {} }", "{ \"a\": {} \"b\": {} }"] {
            let error = of(wrong);
            assert!(error.contains("on line 2"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_errors() {
        for text in [
            r#"{ "mcpServers": { "a": { "command": "x", "tool": {} } } }"#,
            r#"{ "mcpServers": { "a": { "command": "x", "tools": { "alow": [] } } } }"#,
            "mcpServers: { a: { command: x, alow: [] } }",
            "{",
            "servers: 3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("servers: { a: { command: x } }").is_ok());
    }
}
