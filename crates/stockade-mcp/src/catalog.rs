//! The tools of all upstream servers that code may call, with the names that they have for the code.
//!
//! Invariant: everything in a catalog was cut to the bounds, and a tool that is denied is not in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rmcp::model::Tool;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::bounds::{
    DESCRIBE_BYTES, DESCRIPTION_BYTES, NAME_CHARS, NAMED_SERVERS, SCHEMA_BYTES, SUMMARY_CHARS,
    TOOL_IDENTIFIER_CHARS, TOOLS, UPSTREAM_SCHEMA_BYTES, UPSTREAM_TOOLS,
};
use crate::config::{Mode, Rules};
use crate::declare::{comment, one_line, printable, type_of};
use crate::names::Identifiers;
use crate::run::ToolName;
use crate::search::Index;

/// A tool of an upstream server.
#[derive(Debug)]
pub(crate) struct CatalogTool {
    /// Its name for the code.
    pub(crate) name: ToolName,
    /// The position of its server in the configuration.
    pub(crate) server: usize,
    /// Its name for the server.
    pub(crate) upstream_name: String,
    pub(crate) description: String,
    pub(crate) mode: Mode,
    input: Option<Arc<Map<String, Value>>>,
    output: Option<Arc<Map<String, Value>>>,
}

impl CatalogTool {
    /// `server.name`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.name.server, self.name.name)
    }

    /// The tool's line in the answer of a search.
    pub(crate) fn summary(&self) -> String {
        let asks = if self.mode == Mode::Ask {
            " (asks the user)"
        } else {
            ""
        };
        match one_line(&self.description, SUMMARY_CHARS) {
            text if text.is_empty() => self.path() + asks,
            text => format!("{}{asks}: {text}", self.path()),
        }
    }

    /// The tool's method in a declaration of its server.
    fn method(&self) -> String {
        let of = |schema: &Option<Arc<Map<String, Value>>>| {
            schema.as_ref().map(|schema| type_of(schema))
        };
        let input = of(&self.input).unwrap_or_else(|| "unknown".to_owned());
        let output = of(&self.output).unwrap_or_else(|| "string".to_owned());
        let method = format!("{}(input: {input}): Promise<{output}>;", self.name.name);
        let indented: Vec<String> = method.lines().map(|line| format!("    {line}")).collect();
        comment(&self.description, "    ") + &indented.join("\n") + "\n"
    }
}

/// Bytes of JSON, without writing them down.
pub(crate) fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// Takes what is offered of a server's tools.
pub(crate) fn take_tools(
    server: usize,
    identifier: &str,
    rules: &Rules,
    tools: Vec<Tool>,
) -> Vec<CatalogTool> {
    let mut names = Identifiers::new(TOOL_IDENTIFIER_CHARS);
    let mut all = Vec::new();
    // A schema takes many times its bytes as long as it is kept.
    let mut schema_bytes = 0;
    for tool in tools.into_iter().take(UPSTREAM_TOOLS) {
        let mode = rules.mode(&tool.name);
        if mode == Mode::Deny || tool.name.is_empty() || tool.name.chars().count() > NAME_CHARS {
            continue;
        }
        let mut bounded = |schema: Arc<Map<String, Value>>| {
            let bytes = json_bytes(&*schema);
            let fits = bytes <= SCHEMA_BYTES && schema_bytes + bytes <= UPSTREAM_SCHEMA_BYTES;
            fits.then(|| {
                schema_bytes += bytes;
                schema
            })
        };
        let mut description = printable(tool.description.as_deref().unwrap_or(""));
        if description.len() > DESCRIPTION_BYTES {
            description.truncate(description.floor_char_boundary(DESCRIPTION_BYTES));
            description.push('…');
        }
        all.push(CatalogTool {
            name: ToolName {
                server: identifier.to_owned(),
                name: names.take(&tool.name),
            },
            server,
            upstream_name: tool.name.into_owned(),
            description,
            mode,
            input: bounded(tool.input_schema),
            // What is larger than the bound is described like what has no schema at all.
            output: tool.output_schema.and_then(bounded),
        });
    }
    all
}

/// What a server has: its tools, or why there are none.
type Offered = Result<Vec<Arc<CatalogTool>>, String>;

/// The tools at one moment.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    tools: Vec<Arc<CatalogTool>>,
    by_name: HashMap<ToolName, usize>,
    index: Index,
    /// How many tools each server has now, with the reason where it has none.
    servers: Vec<(String, Result<usize, String>)>,
}

impl Catalog {
    /// Makes the catalog of what each server has, in the order of the configuration: its identifier, and its tools or
    /// why there are none.
    pub(crate) fn new(servers: &[(String, Offered)]) -> Self {
        let lists = || servers.iter().filter_map(|(_, tools)| tools.as_ref().ok());
        // Where there are too many, those with the most give way: no server takes the places of others.
        let fits =
            |most: &usize| lists().map(|tools| tools.len().min(*most)).sum::<usize>() <= TOOLS;
        let most = (0..=UPSTREAM_TOOLS).rev().find(fits).unwrap_or(0);
        let tools: Vec<Arc<CatalogTool>> = lists()
            .flat_map(|tools| tools.iter().take(most))
            .cloned()
            .collect();
        let by_name = tools
            .iter()
            .enumerate()
            .map(|(at, tool)| (tool.name.clone(), at))
            .collect();
        let index = Index::new(
            tools
                .iter()
                .map(|tool| (tool.path(), tool.description.as_str())),
        );
        let counts = servers.iter().map(|(name, tools)| {
            (
                name.clone(),
                tools
                    .as_ref()
                    .map(|tools| tools.len().min(most))
                    .map_err(String::clone),
            )
        });
        Self {
            by_name,
            index,
            servers: counts.collect(),
            tools,
        }
    }

    /// The tool of this name.
    pub(crate) fn tool(&self, name: &ToolName) -> Option<&Arc<CatalogTool>> {
        self.by_name.get(name).and_then(|at| self.tools.get(*at))
    }

    /// The names of all tools.
    pub(crate) fn names(&self) -> Vec<ToolName> {
        self.tools.iter().map(|tool| tool.name.clone()).collect()
    }

    /// The answer of `search_tools`: a line for each of at most `limit` tools.
    pub(crate) fn search(&self, query: &str, server: Option<&str>, limit: usize) -> String {
        let found: Vec<&Arc<CatalogTool>> = self
            .index
            .search(query)
            .into_iter()
            .filter_map(|at| self.tools.get(at))
            .filter(|tool| server.is_none_or(|server| tool.name.server == server))
            .collect();
        let mut lines: Vec<String> = found
            .iter()
            .take(limit)
            .map(|tool| tool.summary())
            .collect();
        if found.len() > limit {
            lines.push(format!(
                "({} more; a narrower query or a larger limit shows them)",
                found.len() - limit
            ));
        }
        if lines.is_empty() {
            lines.push(format!("no tool matches. Servers: {}", self.list_servers()));
        }
        lines.join("\n")
    }

    /// The servers with the number of their tools, such as `github (35), files (not connected: …)`.
    pub(crate) fn list_servers(&self) -> String {
        let each = self.servers.iter().map(|(name, tools)| match tools {
            Ok(count) => format!("{name} ({count})"),
            Err(why) => format!("{name} (not connected: {})", one_line(why, SUMMARY_CHARS)),
        });
        let mut all: Vec<String> = each.take(NAMED_SERVERS).collect();
        if self.servers.len() > all.len() {
            all.push(format!("and {} more", self.servers.len() - all.len()));
        }
        all.join(", ")
    }

    /// The answer of `describe_tools`: the declarations of the tools with these paths.
    pub(crate) fn describe(&self, paths: &[String]) -> String {
        let mut servers: Vec<(&str, String)> = Vec::new();
        let mut notes = String::new();
        let mut bytes = 0;
        for path in paths {
            let path = path.strip_prefix("tools.").unwrap_or(path);
            let name = path.split_once('.').map(|(server, name)| ToolName {
                server: server.to_owned(),
                name: name.to_owned(),
            });
            let Some(tool) = name.and_then(|name| self.tool(&name)) else {
                notes += &format!(
                    "// no tool {}; search_tools finds names\n",
                    one_line(path, SUMMARY_CHARS)
                );
                continue;
            };
            let method = tool.method();
            bytes += method.len();
            if bytes > DESCRIBE_BYTES {
                notes += &format!(
                    "// {path} and what follows: describe fewer tools at once ({DESCRIBE_BYTES} bytes)\n"
                );
                break;
            }
            let server = tool.name.server.as_str();
            match servers.iter_mut().find(|(name, _)| *name == server) {
                Some((_, methods)) => *methods += &method,
                None => servers.push((server, method)),
            }
        }
        let mut text = notes;
        if !servers.is_empty() {
            text += "declare const tools: {\n";
            for (server, methods) in servers {
                text += &format!("  {server}: {{\n{methods}  }};\n");
            }
            text += "};\n";
        }
        text
    }
}

/// The catalog that is current, which changes when servers come, go or change their tools.
pub(crate) struct LiveCatalog {
    servers: RwLock<Vec<(String, Offered)>>,
    current: RwLock<Arc<Catalog>>,
}

impl LiveCatalog {
    /// A catalog of servers that have not answered yet.
    pub(crate) fn new(identifiers: &[String]) -> Self {
        let starting = || Err("it starts".to_owned());
        let servers: Vec<(String, Offered)> = identifiers
            .iter()
            .map(|name| (name.clone(), starting()))
            .collect();
        Self {
            current: RwLock::new(Arc::new(Catalog::new(&servers))),
            servers: RwLock::new(servers),
        }
    }

    pub(crate) fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read())
    }

    /// Replaces what a server has.
    pub(crate) fn set(&self, server: usize, tools: Result<Vec<CatalogTool>, String>) {
        let mut servers = self.servers.write();
        if let Some((_, place)) = servers.get_mut(server) {
            *place = tools.map(|tools| tools.into_iter().map(Arc::new).collect());
        }
        *self.current.write() = Arc::new(Catalog::new(&servers));
    }
}

/// How long a call may take for the code, in words.
pub(crate) fn in_words(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::glob::Glob;

    fn tool(name: &str, description: &str, input: Value) -> Tool {
        let Value::Object(input) = input else {
            panic!("not an object")
        };
        Tool::new(name.to_owned(), description.to_owned(), Arc::new(input))
    }

    fn rules(ask: &str, deny: &str) -> Rules {
        Rules {
            allow: vec![Glob::new("*")],
            ask: vec![Glob::new(ask)],
            deny: vec![Glob::new(deny)],
        }
    }

    fn catalog(tools: Vec<Tool>) -> Catalog {
        let taken = take_tools(0, "shop", &rules("buy", "drop_*"), tools);
        let offered = Ok(taken.into_iter().map(Arc::new).collect());
        Catalog::new(&[
            ("shop".to_owned(), offered),
            ("down".to_owned(), Err("exit 1".to_owned())),
        ])
    }

    #[test]
    fn denied_tools_are_in_no_answer() {
        let catalog = catalog(vec![
            tool("find", "Finds things", json!({ "type": "object" })),
            tool(
                "drop_all",
                "Finds and removes things",
                json!({ "type": "object" }),
            ),
        ]);
        assert_eq!(
            catalog.search("things", None, 10),
            "shop.find: Finds things"
        );
        assert!(
            catalog
                .describe(&["shop.drop_all".to_owned()])
                .starts_with("// no tool shop.drop_all")
        );
        assert_eq!(catalog.names().len(), 1);
    }

    #[test]
    fn describe_declares_the_named_tools() {
        let buy = json!({ "type": "object", "properties": { "what": { "type": "string" } }, "required": ["what"] });
        let catalog = catalog(vec![tool("buy", "Buys.\nFor money */", buy)]);
        assert_eq!(
            catalog.describe(&["tools.shop.buy".to_owned(), "x".to_owned()]),
            "// no tool x; search_tools finds names\ndeclare const tools: {\n  shop: {\n    /**\n     * Buys.\n     * For \
             money * /\n     */\n    buy(input: {\n      what: string;\n    }): Promise<string>;\n  };\n};\n"
        );
        assert_eq!(
            catalog.search("", None, 10),
            "shop.buy (asks the user): Buys. For money * /"
        );
        assert_eq!(
            catalog.list_servers(),
            "shop (1), down (not connected: exit 1)"
        );
    }

    #[test]
    fn hostile_lists_are_cut() {
        let bomb: Map<String, Value> = (0..20_000).map(|n| (format!("k{n}"), json!({}))).collect();
        let mut tools: Vec<Tool> = (0..UPSTREAM_TOOLS + 10)
            .map(|_| tool("same", "", json!({})))
            .collect();
        tools[0] = tool(
            "__proto__",
            &"x".repeat(1 << 20),
            json!({ "properties": bomb }),
        );
        tools[1] = tool(&"n".repeat(NAME_CHARS + 1), "", json!({}));
        let taken = take_tools(0, "shop", &rules("", "-"), tools);
        assert_eq!(taken.len(), UPSTREAM_TOOLS - 1);
        assert_eq!(taken[0].name.name, "_proto__");
        assert!(taken[0].input.is_none());
        assert!(taken[0].description.len() < DESCRIPTION_BYTES + 8);
        let names: std::collections::HashSet<_> = taken.iter().map(|tool| &tool.name).collect();
        assert_eq!(names.len(), taken.len());
    }

    #[test]
    fn server_with_many_tools_takes_no_places_of_others() {
        let offered = |server: usize, name: &str, count: usize| {
            let tools = (0..count).map(|n| tool(&format!("t{n}"), "", json!({})));
            let taken = take_tools(server, name, &rules("", "-"), tools.collect());
            let tools: Vec<_> = taken.into_iter().map(Arc::new).collect();
            (name.to_owned(), Ok(tools))
        };
        let catalog = Catalog::new(&[
            offered(0, "a", UPSTREAM_TOOLS),
            offered(1, "b", 30),
            offered(2, "c", UPSTREAM_TOOLS),
        ]);
        assert_eq!(catalog.list_servers(), "a (485), b (30), c (485)");
        assert_eq!(catalog.names().len(), TOOLS);
    }

    #[test]
    fn schemas_of_a_server_are_bounded_together() {
        let large = json!({ "description": "x".repeat(SCHEMA_BYTES - 100) });
        let tools = (0..100).map(|n| tool(&format!("t{n}"), "", large.clone()));
        let taken = take_tools(0, "shop", &rules("", "-"), tools.collect());
        let kept = taken.iter().filter(|tool| tool.input.is_some()).count();
        assert_eq!(
            (taken.len(), kept),
            (100, UPSTREAM_SCHEMA_BYTES / SCHEMA_BYTES)
        );
    }

    #[test]
    fn answers_are_bounded() {
        let tools = (0..500)
            .map(|n| tool(&format!("t{n}"), &"word ".repeat(700), json!({})))
            .collect();
        let catalog = catalog(tools);
        let all: Vec<String> = (0..500).map(|n| format!("shop.t{n}")).collect();
        assert!(catalog.describe(&all).len() < DESCRIBE_BYTES + 500);
        assert!(catalog.search("word", None, 50).len() < 50 * (SUMMARY_CHARS + 20) + 200);
    }
}
