//! Servers that answer statements with anything. Each accepts every login.

use std::net::Ipv4Addr;
use std::sync::Arc;

use stockade_door::{
    Dial, Limits, Login, Parameter, Server, SqlClient, SqlError, Statement, mysql, postgres,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};

use crate::guest::{frame, soon, until};
use crate::local::{Local, pool, wide};

fn server(port: u16) -> Server {
    Server {
        dial: Arc::new(Local(port)) as Arc<dyn Dial>,
        tls: None,
        login: Login {
            user: "app".to_owned(),
            password: String::new(),
            database: "shop".to_owned(),
        },
        allow_superuser: true,
    }
}

fn limits() -> Limits {
    Limits {
        max_result: 100_000,
        ..wide()
    }
}

/// Serves every connection by `serve`, and gives the port.
async fn listen<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// What a statement gives where the server answers it with `answer`, again and again if `is_endless`.
async fn postgres_answer(answer: &[u8], is_endless: bool) -> Result<u64, SqlError> {
    let answer: Arc<[u8]> = answer.into();
    let port = listen(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            let length = stream.read_u32().await?;
            let mut body = vec![0; length as usize - 4];
            stream.read_exact(&mut body).await?;
            let key = frame(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
            let login = [frame(b'R', &[0; 4]), key, frame(b'Z', b"I")].concat();
            stream.write_all(&login).await?;
            // The first message of a statement; the rest is not read.
            stream.read_u8().await?;
            loop {
                stream.write_all(&answer).await?;
                if !is_endless {
                    break;
                }
            }
            // Until the door closes.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await? > 0 {}
            Ok(())
        }
    })
    .await;
    let name = "door-test".to_owned();
    let door = Arc::new(postgres::Door::new(server(port), name, limits(), pool()));
    let (guest, stream) = duplex(16 << 10);
    let serving = Arc::clone(&door);
    tokio::spawn(async move { serving.serve(1, stream).await });
    let mut client = soon(postgres::Client::connect(guest, &limits()))
        .await
        .unwrap();
    let statement = Statement {
        text: "select 1".to_owned(),
        parameters: Vec::new(),
    };
    let done = soon(client.query(&statement)).await;
    drop(client);
    until(|| door.usage().in_use == 0).await;
    done.map(|rows| rows.rows)
}

/// `RowDescription` of one column of texts.
fn description() -> Vec<u8> {
    let mut body = b"\0\x01a\0".to_vec();
    body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    frame(b'T', &body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_servers_that_forge_answers_end_their_session() {
    let done = [frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")].concat();
    let row = frame(b'D', b"\0\x01\0\0\0\x01a");
    // The control.
    let honest = [description(), row.clone(), done.clone()].concat();
    assert_eq!(postgres_answer(&honest, false).await.unwrap(), 1);
    let forged: [Vec<u8>; 12] = [
        b"D\xff\xff\xff\xff".to_vec(),
        b"D\0\0\0\0".to_vec(),
        b"T\x7f\xff\xff\xff".to_vec(),
        b"C\0\x01\x86\xa1".to_vec(),
        frame(b'?', b""),
        frame(b'R', &[0, 0, 0, 3]),
        frame(b'W', b"\0\0\0"),
        // More or fewer values than there are columns, and lengths that lie.
        [
            description(),
            frame(b'D', b"\0\x02\0\0\0\x01a\0\0\0\x01b"),
            done.clone(),
        ]
        .concat(),
        [
            description(),
            frame(b'D', b"\0\x01\0\0\0\x09a"),
            done.clone(),
        ]
        .concat(),
        [
            description(),
            frame(b'D', b"\0\x01\x80\0\0\0"),
            done.clone(),
        ]
        .concat(),
        [row, done.clone()].concat(),
        // A description that is cut off.
        [frame(b'T', b"\0\x02a\0\0\0"), done].concat(),
    ];
    for answer in forged {
        let done = postgres_answer(&answer, false).await;
        assert!(done.is_err(), "{answer:?}: {done:?}");
    }
    // What never ends: rows, parameters, notices, errors.
    for answer in [
        [
            description(),
            frame(b'D', &[&b"\0\x01\0\0\x03\xe8"[..], &[b'a'; 1000]].concat()),
        ]
        .concat(),
        frame(b'S', b"a\0b\0"),
        frame(b'N', b"SNOTICE\0C00000\0Mhello\0\0"),
        frame(b'E', b"SERROR\0C42601\0Mno\0\0"),
    ] {
        let done = postgres_answer(&answer, true).await;
        assert!(done.is_err(), "{answer:?}: {done:?}");
    }
}

/// A packet of MySQL.
fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];

/// What a statement with these parameters gives where the server answers `answer` to all commands after the login.
async fn mysql_answer(answer: &[u8], parameters: Vec<Parameter>) -> Result<u64, SqlError> {
    let answer: Arc<[u8]> = answer.into();
    let port = listen(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            let mut greeting = b"\x0a8.0\0\x01\0\0\x0012345678\0".to_vec();
            greeting.extend([0xff, 0xf7, 45, 2, 0, 0x0f, 0, 21]);
            greeting.extend([0; 10]);
            greeting.extend(b"123456789012\0mysql_native_password\0");
            stream.write_all(&packet(0, &greeting)).await?;
            let mut commands = 0;
            loop {
                let mut header = [0; 4];
                stream.read_exact(&mut header).await?;
                let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
                let mut payload = vec![0; length as usize];
                stream.read_exact(&mut payload).await?;
                let sequence = header[3].wrapping_add(1);
                match payload.first() {
                    // The answer to the greeting, and what every session begins with.
                    _ if sequence != 1 => stream.write_all(&packet(sequence, OK)).await?,
                    Some(3) if payload[1..].to_ascii_lowercase().starts_with(b"set ") => {
                        stream.write_all(&packet(1, OK)).await?;
                    }
                    Some(0x19) => {}
                    _ => {
                        commands += 1;
                        if commands > 2 {
                            return Ok(());
                        }
                        stream.write_all(&answer).await?;
                    }
                }
            }
        }
    })
    .await;
    let door = Arc::new(mysql::Door::new(server(port), limits(), pool()));
    let (guest, stream) = duplex(16 << 10);
    let serving = Arc::clone(&door);
    tokio::spawn(async move { serving.serve(1, stream).await });
    let mut client = soon(mysql::Client::connect(guest, &limits()))
        .await
        .unwrap();
    let statement = Statement {
        text: "select 1".to_owned(),
        parameters,
    };
    let done = tokio::time::timeout(
        std::time::Duration::from_millis(500),
        client.query(&statement),
    );
    let done = done.await.unwrap_or(Err(SqlError::Closed));
    drop(client);
    until(|| door.usage().in_use == 0).await;
    done.map(|rows| rows.rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_servers_that_forge_answers_end_their_session() {
    let definition = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\0\0\0\0\xfd\0\0\0\0\0";
    let answer = |packets: &[&[u8]]| -> Vec<u8> {
        let numbered = packets.iter().zip(1..);
        numbered
            .flat_map(|(payload, number)| packet(number, payload))
            .collect()
    };
    // The control.
    let honest = answer(&[&[1], definition, EOF, b"\x01a", EOF]);
    assert_eq!(mysql_answer(&honest, Vec::new()).await.unwrap(), 1);
    let forged = [
        answer(&[b"\xfb/etc/passwd"]),
        answer(&[b""]),
        answer(&[&[0xfd, 0xff, 0xff, 0xff]]),
        answer(&[&[1], b"\x09def", EOF, EOF]),
        answer(&[&[1], definition, EOF, b"\x09a", EOF]),
        answer(&[&[1], definition, EOF, b"\x01a\x01b", EOF]),
        answer(&[
            &[1],
            definition,
            EOF,
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
            EOF,
        ]),
        answer(&[&[1], definition, definition, EOF]),
        answer(&[&[0]]),
    ];
    for answer in &forged {
        let done = mysql_answer(answer, Vec::new()).await;
        assert!(done.is_err(), "{answer:?}: {done:?}");
    }
    // A prepared statement: counts that lie, and rows that are none.
    for answer in [
        answer(&[&[0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]]),
        answer(&[&[0, 1]]),
        answer(&[&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
        [forged[0].clone(), honest].concat(),
    ] {
        let done = mysql_answer(&answer, vec![Parameter::Null]).await;
        assert!(done.is_err(), "{answer:?}: {done:?}");
    }
}
