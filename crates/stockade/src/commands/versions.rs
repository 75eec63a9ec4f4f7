//! `stockade versions`: the code of each instance, and which of it gets requests.

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use stockade_protocol::harmless_line;

use super::deploy::{Place, checked};
use super::guest::Refusal;
use super::units::exact_bytes;
use super::{exit, output};

pub(crate) const VERSIONS_EXAMPLES: &str = "\
Examples:
  stockade versions
  stockade versions --instance shop
  stockade versions --json | jq '.instances[0].file'

The version `file` is the code that the configuration names. It gets all requests until something is deployed.

Exit codes: 0 done, 1 no server, or it refused, 2 bad usage.";

/// Characters of a cell.
const MAX_SHOWN: usize = 1000;

#[derive(Args)]
pub(crate) struct VersionsArgs {
    /// Only this instance [default: all with code]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    #[command(flatten)]
    place: Place,
}

/// Runs the command and gives the exit code.
pub(crate) fn versions(args: &VersionsArgs) -> Result<i32, Refusal> {
    let server = args.place.server()?;
    let names = match &args.instance {
        Some(name) => vec![checked(name)?],
        None => server.with_code()?,
    };
    let mut instances = Vec::new();
    for name in names {
        let path = format!("/v1/instances/{name}/versions");
        let mut found = server.json(Method::GET, &path, None)?;
        found["instance"] = name.into();
        instances.push(found);
    }
    if args.place.json {
        output::value(&json!({ "instances": instances }).to_string())?;
    } else {
        output::print(&table(&instances))?;
    }
    Ok(exit::DONE)
}

/// A line for each version: the one of the configuration first, then those that were uploaded.
fn table(instances: &[Value]) -> String {
    let head = [
        "instance", "version", "requests", "uploaded", "size", "from", "message",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for of in instances {
        let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let percent = |one: &Value| format!("{} %", one["percent"].as_u64().unwrap_or_default());
        let (name, file) = (text(of, "instance"), &of["file"]);
        let cells = [
            name.clone(),
            "file".to_owned(),
            percent(file),
            "-".to_owned(),
            "-".to_owned(),
            text(file, "code"),
            String::new(),
        ];
        rows.push(cells.to_vec());
        for one in of["versions"].as_array().into_iter().flatten() {
            let cells = [
                name.clone(),
                text(one, "version"),
                percent(one),
                text(one, "created"),
                exact_bytes(one["bytes"].as_u64().unwrap_or_default()),
                text(one, "caller"),
                text(one, "message"),
            ];
            rows.push(cells.to_vec());
        }
    }
    for cell in rows.iter_mut().flatten() {
        *cell = harmless_line(cell, MAX_SHOWN);
    }
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_the_code_of_the_configuration_and_what_was_uploaded() {
        let uploaded = json!({
            "version": "3f2a9c0d1b4e5f67", "percent": 10, "created": "2026-11-30T12:00:00Z", "bytes": 2048,
            "caller": "control socket", "message": "first\u{1b}[2J",
        });
        let instances = [
            json!({ "instance": "api", "file": { "code": "/srv/api.ts", "percent": 100 }, "versions": [] }),
            json!({ "instance": "shop", "file": { "code": "/srv/shop", "percent": 90 }, "versions": [uploaded] }),
        ];
        let text = table(&instances);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[1].starts_with("api       file              100 %  "),
            "{text}"
        );
        assert!(lines[1].ends_with("  /srv/api.ts"), "{text}");
        assert!(lines[2].contains(" 90 % "), "{text}");
        assert!(
            lines[3].contains("3f2a9c0d1b4e5f67  10 %  ") && lines[3].contains("2.0 kB"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
