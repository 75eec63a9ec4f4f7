//! A supervisor and a client of it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A supervisor with a socket of its own. It ends with this.
pub(crate) struct Server {
    process: Child,
    path: PathBuf,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("a.sock");
        let mut process = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["supervise", "--socket"])
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says when the socket is there.
        let mut line = String::new();
        let errors = process.stderr.take().unwrap();
        let mut errors = BufReader::new(errors);
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        // What else it says must not fill a pipe.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self {
            process,
            path,
            _folder: folder,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, and waits.
    pub(crate) fn terminate(mut self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.path)
    }

    /// How many clients it has, as another client sees it.
    pub(crate) fn clients(&self) -> u64 {
        let stats = self.client().call("stats", json!({}));
        stats["result"]["clients"].as_u64().unwrap()
    }
}

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) reader: BufReader<UnixStream>,
    next: u64,
    /// Notifications that came while answers were waited for.
    pub(crate) notes: Vec<Value>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
            next: 0,
            notes: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, line: &str) {
        self.stream.write_all(line.as_bytes()).unwrap();
        self.stream.write_all(b"\n").unwrap();
    }

    /// Sends a request and returns its id.
    pub(crate) fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.write(&request.to_string());
        self.next
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
            }
        }
    }

    /// Waits for the answer to a request; tools are answered by `tool`.
    pub(crate) fn answer_with(
        &mut self,
        id: u64,
        tool: impl Fn(&Value) -> Result<Value, String>,
    ) -> Value {
        self.answer_by(id, |params| {
            tool(params).map_err(|text| json!({ "code": 1, "message": text }))
        })
    }

    /// The same, with whole errors of JSON-RPC.
    pub(crate) fn answer_by(
        &mut self,
        id: u64,
        tool: impl Fn(&Value) -> Result<Value, Value>,
    ) -> Value {
        loop {
            let message = self.receive().expect("the connection ended");
            match message["method"].as_str() {
                Some("tool") => {
                    let mut answer = json!({ "jsonrpc": "2.0", "id": message["id"] });
                    match tool(&message["params"]) {
                        Ok(result) => answer["result"] = result,
                        Err(error) => answer["error"] = error,
                    }
                    self.write(&answer.to_string());
                }
                Some(_) => self.notes.push(message),
                None if message["id"] == id => return message,
                None => panic!("an unexpected answer: {message}"),
            }
        }
    }

    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        self.answer_with(id, |_| Err("no tool is expected".to_owned()))
    }

    /// Opens a sandbox.
    pub(crate) fn open(&mut self, params: Value) -> String {
        let answer = self.call("open", params);
        let name = answer["result"]["sandbox"].as_str();
        name.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Runs code and returns the outcome.
    pub(crate) fn run(&mut self, sandbox: &str, code: &str) -> Value {
        let answer = self.call("run", json!({ "sandbox": sandbox, "code": code }));
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }
}
