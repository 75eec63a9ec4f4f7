//! A guest: a client that speaks a protocol by hand through a door.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// Most that anything here may take; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it must not take this long")
}

/// Waits until `check` holds, by asking again and again.
pub(crate) async fn until(mut check: impl FnMut() -> bool) {
    soon(async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A frame of PostgreSQL.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A frame with texts that end with a zero.
pub(crate) fn query(statement: &str) -> Vec<u8> {
    frame(b'Q', format!("{statement}\0").as_bytes())
}

/// A client of PostgreSQL.
pub(crate) struct Postgres {
    pub(crate) stream: DuplexStream,
    /// The key for cancellations.
    pub(crate) key: [u8; 8],
    /// All that was ever read.
    pub(crate) seen: Vec<u8>,
}

/// What came up to a `ReadyForQuery`, or the end of the stream.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Vec<Option<String>>>,
    /// Code and message.
    pub(crate) error: Option<(String, String)>,
    /// The state of the transaction; `None` at the end of the stream.
    pub(crate) state: Option<u8>,
    pub(crate) tags: String,
}

impl Answer {
    /// The first column of the first row.
    pub(crate) fn value(&self) -> &str {
        assert_eq!(self.error, None);
        self.rows[0][0].as_deref().unwrap()
    }

    pub(crate) fn code(&self) -> &str {
        self.error.as_ref().map_or("", |error| &error.0)
    }
}

impl Postgres {
    /// A client that has not said anything.
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            key: [0; 8],
            seen: Vec::new(),
        }
    }

    /// Logs in, with a password that is wrong.
    pub(crate) async fn login(stream: DuplexStream, settings: &str) -> (Self, Answer) {
        let mut client = Self::new(stream);
        let body = format!("\0\u{3}\0\0user\0guest\0database\0none\0{settings}\0");
        let length = u32::try_from(body.len() + 4).unwrap();
        client.send(&length.to_be_bytes()).await;
        client.send(body.as_bytes()).await;
        let answer = client.answer().await;
        (client, answer)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A door that has ended does not read.
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        soon(self.stream.read_exact(&mut header)).await.ok()?;
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        soon(self.stream.read_exact(&mut body)).await.ok()?;
        self.seen.extend(&body);
        Some((header[0], body))
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        while let Some((tag, body)) = self.receive().await {
            answer.tags.push(tag.into());
            match tag {
                b'Z' => {
                    answer.state = Some(body[0]);
                    break;
                }
                b'K' => self.key = body.try_into().unwrap(),
                b'E' => {
                    let field = |name: u8| {
                        let mut fields = body.split(|byte| *byte == 0);
                        let field = fields.find_map(|field| field.strip_prefix(&[name]));
                        String::from_utf8(field.unwrap().to_vec()).unwrap()
                    };
                    answer.error.get_or_insert((field(b'C'), field(b'M')));
                }
                b'D' => answer.rows.push(columns(&body)),
                _ => {}
            }
        }
        answer
    }

    pub(crate) async fn query(&mut self, statement: &str) -> Answer {
        self.send(&query(statement)).await;
        self.answer().await
    }
}

fn columns(body: &[u8]) -> Vec<Option<String>> {
    let (mut rest, mut columns) = (&body[2..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (value, after) = after.split_at(length.unwrap_or(0));
        columns.push(length.map(|_| String::from_utf8(value.to_vec()).unwrap()));
        rest = after;
    }
    columns
}
