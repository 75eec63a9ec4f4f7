//! `stockade deploy` and `rollback`: code of an instance, uploaded to a running server.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use stockade_protocol::harmless_line;
use stockade_serve::{AdminClient, AskError};

use super::file::read_bytes;
use super::guest::Refusal;
use super::live::failed;
use super::serve::{CONFIG, control};
use super::{exit, meant, output};

/// The variable with the API key.
const KEY: &str = "STOCKADE_API_KEY";

/// Folders that are left out of a bundle, as are files and folders whose names begin with a dot.
const LEFT_OUT: [&str; 1] = ["node_modules"];

/// What begins with a dot and belongs to a site.
const WELL_KNOWN: &str = ".well-known";

/// Endings of archives that are uploaded as they are, and their media types.
const KINDS: [(&str, &str); 4] = [
    (".zip", "application/zip"),
    (".tar.gz", "application/gzip"),
    (".tgz", "application/gzip"),
    (".tar", "application/x-tar"),
];

/// Bytes of all files of a bundle. The server's own limit may be lower.
const MAX_BUNDLE: u64 = 256 << 20;

pub(crate) const DEPLOY_EXAMPLES: &str = "\
Examples:
  stockade deploy ./site                                     all requests of the only instance
  stockade deploy ./site --instance shop --percent 10        a tenth of the requests
  stockade deploy ./site --instance shop --percent 0         only upload
  STOCKADE_API_KEY=… stockade deploy ./site --instance shop --to https://admin.example.com:9901
  stockade versions --instance shop
  stockade rollback --instance shop

The version is checked and started before it gets requests; where that fails, nothing changes. Names that begin with a dot \
and node_modules are left out.

Exit codes: 0 it gets its share of the requests, 1 it does not, 2 bad usage.";

pub(crate) const ROLLBACK_EXAMPLES: &str = "\
Examples:
  stockade rollback                                          to the versions before
  stockade rollback 3f2a9c0d1b4e5f67 --instance shop         to this version
  stockade rollback file --instance shop                     to the code that the configuration names

Exit codes: 0 it gets the requests, 1 it does not, and nothing has changed, 2 bad usage.";

// Which server; a comment of documentation would become that of the command.
#[derive(Args)]
pub(super) struct Place {
    /// The server: the URL of its admin API, or the path of its control socket. With a URL, the variable STOCKADE_API_KEY
    /// has an API key with the scope admin [default: the control socket of the configuration]
    #[arg(long, value_name = "URL|PATH")]
    to: Option<String>,

    /// A file with the certificates (PEM) to trust in place of the public authorities
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// The configuration file of the server, where its control socket is to be found
    #[arg(long, value_name = "FILE", default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

// Which instance.
#[derive(Args)]
struct Named {
    /// The instance [default: the only one with code]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
}

#[derive(Args)]
pub(crate) struct DeployArgs {
    /// The folder with the code, or an archive of it: .zip, .tar.gz, .tgz or .tar
    folder: PathBuf,

    /// The share of the requests that the version gets; those of the other versions shrink in proportion
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: u8,

    /// How clients stay with a version while several get requests: `cookie`, or `header:NAME` [default: they do not]
    #[arg(long, value_name = "HOW", value_parser = sticky)]
    sticky: Option<Sticky>,

    /// The module that is run [default: as `code` of the configuration names it, else index.ts and the like]
    #[arg(long, value_name = "FILE")]
    main: Option<String>,

    /// What changed, for people
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,

    #[command(flatten)]
    named: Named,

    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(crate) struct RollbackArgs {
    /// The version, or `file` for the code that the configuration names [default: those before the current ones]
    version: Option<String>,

    #[command(flatten)]
    named: Named,

    #[command(flatten)]
    place: Place,
}

#[derive(Clone)]
struct Sticky(Value);

fn sticky(text: &str) -> Result<Sticky, String> {
    match (text, text.strip_prefix("header:")) {
        ("cookie", _) => Ok(Sticky(json!("cookie"))),
        (_, Some(name)) => Ok(Sticky(json!({ "header": name }))),
        _ => Err("expected cookie, or header:NAME".to_owned()),
    }
}

/// A server that is asked.
pub(super) struct Server {
    client: AdminClient,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    pub(super) fn server(&self) -> Result<Server, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let client = match &self.to {
            Some(to) if to.contains("://") => {
                let key = std::env::var(KEY).ok();
                let client = AdminClient::at_url(to, key.as_deref(), self.ca.as_deref());
                client.map_err(|error| Refusal(error.to_string(), exit::USAGE))?
            }
            Some(path) => AdminClient::at_socket(Path::new(path)),
            None => AdminClient::at_socket(&control(&self.config)?),
        };
        Ok(Server { client, runtime })
    }
}

impl Named {
    /// The instance that was named, or the only one with code.
    fn instance(&self, server: &Server) -> Result<String, Refusal> {
        let names = match &self.instance {
            Some(name) => vec![checked(name)?],
            None => server.with_code()?,
        };
        match names.as_slice() {
            [only] => Ok(only.clone()),
            many => Err(Refusal(
                format!(
                    "the server has {} instances with code\n  fix: name one with --instance: {}",
                    many.len(),
                    many.join(", ")
                ),
                exit::USAGE,
            )),
        }
    }
}

/// The name of an instance, which becomes a part of a path.
pub(super) fn checked(name: &str) -> Result<String, Refusal> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_name) {
        let why = format!("{name:?} is not the name of an instance");
        return Err(Refusal(why, exit::USAGE));
    }
    Ok(name.to_owned())
}

impl Server {
    /// The names of the instances with code: at least one.
    pub(super) fn with_code(&self) -> Result<Vec<String>, Refusal> {
        let all = self.json(Method::GET, "/v1/instances", None)?;
        let all = all["instances"].as_array().cloned().unwrap_or_default();
        let with_code = all.iter().filter(|one| one["has_code"] == true);
        let names = with_code.filter_map(|one| one["name"].as_str().map(str::to_owned));
        let names: Vec<String> = names.collect();
        match names.is_empty() {
            true => Err(failed(&"the server has no instance with code")),
            false => Ok(names),
        }
    }

    pub(super) fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Refusal> {
        let asking = self.client.json::<Value>(method, path, body.as_ref());
        self.runtime.block_on(asking).map_err(refused)
    }
}

fn refused(error: AskError) -> Refusal {
    failed(&error)
}

/// Runs `deploy` and gives the exit code.
pub(crate) fn deploy(args: &DeployArgs) -> Result<i32, Refusal> {
    let server = args.place.server()?;
    let instance = args.named.instance(&server)?;
    let (kind, bundle) = archive(&args.folder)?;

    // The version, without requests.
    let mut about = url_query();
    for (name, value) in [("main", &args.main), ("message", &args.message)] {
        if let Some(value) = value {
            about.append_pair(name, value);
        }
    }
    let path = format!("/v1/instances/{instance}/versions?{}", about.finish());
    let body = Some((kind, Bytes::from(bundle)));
    let uploading = async {
        let answer = server.client.send(Method::POST, &path, body).await?;
        answer.json::<Value>().await
    };
    let uploaded = server.runtime.block_on(uploading).map_err(refused)?;
    let version = uploaded["version"].as_str().unwrap_or_default().to_owned();
    if args.percent == 0 {
        return print(
            &args.place,
            &uploaded,
            &format!("{instance}: {version} is uploaded"),
        );
    }

    // Its share of the requests.
    let path = format!("/v1/instances/{instance}/deployment");
    let current = server.json(Method::GET, &path, None)?;
    let traffic = shares(&current, &version, args.percent);
    let mut request = json!({ "traffic": traffic, "replaces": current["number"] });
    if let Some(Sticky(sticky)) = &args.sticky {
        request["sticky"] = sticky.clone();
    }
    let deployed = server.json(Method::PUT, &path, Some(request))?;
    print(
        &args.place,
        &deployed,
        &format!("{instance}: {}", traffic_text(&deployed)),
    )
}

fn url_query() -> url::form_urlencoded::Serializer<'static, String> {
    url::form_urlencoded::Serializer::new(String::new())
}

/// The new shares: this one for the version, and the rest for the others in proportion to what they have.
fn shares(current: &Value, version: &str, percent: u8) -> Vec<Value> {
    let percent = u64::from(percent);
    let share = |version: &str, percent: u64| json!({ "version": version, "percent": percent });
    let all = current["traffic"].as_array().cloned().unwrap_or_default();
    let others: Vec<(String, u64)> = all
        .iter()
        .filter_map(|one| {
            Some((
                one["version"].as_str()?.to_owned(),
                one["percent"].as_u64()?,
            ))
        })
        .filter(|(name, _)| name != version)
        .collect();
    let sum: u64 = others.iter().map(|(_, percent)| percent).sum();
    if percent == 100 || sum == 0 {
        return vec![share(version, 100)];
    }
    let rest = 100 - percent;
    let mut shares: Vec<(String, u64)> = others
        .into_iter()
        .map(|(name, had)| (name, had * rest / sum))
        .collect();
    // What rounding has left out goes to the largest of them, which comes first.
    let given: u64 = shares.iter().map(|(_, percent)| percent).sum();
    if let Some((_, first)) = shares.first_mut() {
        *first += rest - given;
    }
    shares.retain(|(_, percent)| *percent > 0);
    let others = shares.iter().map(|(name, percent)| share(name, *percent));
    std::iter::once(share(version, percent))
        .chain(others)
        .collect()
}

fn traffic_text(deployment: &Value) -> String {
    let traffic = deployment["traffic"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |one: &Value| {
        let version = one["version"].as_str().unwrap_or_default();
        format!("{version} {} %", one["percent"])
    };
    traffic.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn print(place: &Place, value: &Value, text: &str) -> Result<i32, Refusal> {
    if place.json {
        output::value(&value.to_string())?;
    } else {
        output::print(&harmless_line(text, 8192))?;
    }
    Ok(exit::DONE)
}

/// Runs `rollback` and gives the exit code.
pub(crate) fn rollback(args: &RollbackArgs) -> Result<i32, Refusal> {
    let server = args.place.server()?;
    let instance = args.named.instance(&server)?;
    let request = match &args.version {
        Some(version) => json!({ "to": version }),
        None => json!({}),
    };
    let path = format!("/v1/instances/{instance}/rollback");
    let deployed = server.json(Method::POST, &path, Some(request))?;
    print(
        &args.place,
        &deployed,
        &format!("{instance}: {}", traffic_text(&deployed)),
    )
}

/// The media type and the bytes of what is uploaded: a folder as a tar archive, or an archive as it is.
fn archive(path: &Path) -> Result<(&'static str, Vec<u8>), Refusal> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = KINDS.iter().find(|(ending, _)| name.ends_with(ending));
    let Some((_, kind)) = kind.filter(|_| path.is_file()) else {
        return Ok(("application/x-tar", bundle(path)?));
    };
    let wrong = |why: &dyn std::fmt::Display| failed(&format!("{}: {why}", path.display()));
    let bytes = read_bytes(path, MAX_BUNDLE).map_err(|error| wrong(&error))?;
    Ok((kind, bytes))
}

/// A tar archive of the files in a folder.
fn bundle(folder: &Path) -> Result<Vec<u8>, Refusal> {
    let wrong =
        |path: &Path, why: &dyn std::fmt::Display| failed(&format!("{}: {why}", path.display()));
    if !folder.is_dir() {
        return Err(Refusal(
            format!(
                "{}: it is neither a folder nor a .zip, .tar.gz, .tgz or .tar file",
                folder.display()
            ),
            exit::USAGE,
        ));
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut left = MAX_BUNDLE;
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        let entries = std::fs::read_dir(&inner).map_err(|error| wrong(&inner, &error))?;
        let mut entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&inner, &error))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let is_hidden = name.starts_with('.') && name != WELL_KNOWN;
            if is_hidden || LEFT_OUT.contains(&&*name) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| wrong(&path, &error))?;
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            if !kind.is_file() {
                return Err(wrong(
                    &path,
                    &"it is neither a file nor a folder: links are not followed",
                ));
            }
            let size = entry
                .metadata()
                .map_err(|error| wrong(&path, &error))?
                .len();
            left = left.checked_sub(size).ok_or_else(|| {
                wrong(
                    folder,
                    &format!("its files have more than {} MiB", MAX_BUNDLE >> 20),
                )
            })?;
            // It may grow meanwhile.
            let contents = read_bytes(&path, size).map_err(|error| wrong(&path, &error))?;
            let size = contents.len() as u64;
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            let relative = path
                .strip_prefix(folder)
                .map_err(|error| wrong(&path, &error))?;
            let added = archive.append_data(&mut header, relative, contents.as_slice());
            added.map_err(|error| wrong(&path, &error))?;
        }
    }
    archive.into_inner().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_a_version_leaves_the_others_what_is_left() {
        let check = |current: &[(&str, u64)],
                     version: &str,
                     percent: u8,
                     expected: &[(&str, u64)]| {
            let json = |shares: &[(&str, u64)]| -> Vec<Value> {
                let share = |(version, percent): &(&str, u64)| json!({ "version": version, "percent": percent });
                shares.iter().map(share).collect()
            };
            let current = json!({ "traffic": json(current) });
            assert_eq!(
                shares(&current, version, percent),
                json(expected),
                "{version} {percent}"
            );
        };
        check(&[("file", 100)], "a", 100, &[("a", 100)]);
        check(&[("file", 100)], "a", 10, &[("a", 10), ("file", 90)]);
        check(
            &[("a", 50), ("b", 30), ("c", 20)],
            "d",
            33,
            &[("d", 33), ("a", 34), ("b", 20), ("c", 13)],
        );
        check(
            &[("a", 90), ("file", 10)],
            "file",
            50,
            &[("file", 50), ("a", 50)],
        );
        check(&[("a", 100)], "a", 10, &[("a", 100)]);
        check(&[("a", 99), ("b", 1)], "c", 99, &[("c", 99), ("a", 1)]);
    }
}
