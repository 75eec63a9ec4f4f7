//! A copy that works for one grant: it seals itself, and answers requests until the supervisor closes the socket.

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;

use stockade_jail::{EXIT_FAILED, Inside};

use crate::failure::Failed;
use crate::keys::Keys;
use crate::message::{self, Answer, Request};
use crate::operations;

/// What runs in a copy of this program.
pub(crate) fn main(mut inside: Inside) {
    let Some(socket) = inside.take_socket() else {
        return;
    };
    stockade_jail::show("pgp");
    if inside.seal().is_err() {
        stockade_jail::leave(EXIT_FAILED);
    }
    serve(UnixStream::from(socket));
}

fn serve(mut from: UnixStream) {
    let mut keys = None;
    while let Ok(Some((request, data))) = read(&mut from) {
        let (answer, result) = match answer(&mut keys, request, data) {
            Ok((signatures, result)) => (Answer::Done { signatures }, result),
            Err(failed) => (failed.answer(), Vec::new()),
        };
        let mut to = BufWriter::with_capacity(64 << 10, &from);
        if message::write(&mut to, &answer, &result).is_err() || to.flush().is_err() {
            return;
        }
    }
}

fn answer(
    keys: &mut Option<Keys>,
    request: Request,
    data: Vec<u8>,
) -> Result<operations::Done, Failed> {
    if let Request::Open(settings) = request {
        *keys = Some(Keys::read(&data, settings)?);
        return Ok((Vec::new(), Vec::new()));
    }
    match keys {
        Some(keys) => operations::perform(keys, request, data),
        None => Err(Failed::grant("the first request must open the keys")),
    }
}

/// Reads one request with its data; `None` at the end. The supervisor keeps to the bounds of both.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<(Request, Vec<u8>)>> {
    let mut parts = [Vec::new(), Vec::new()];
    for (index, part) in parts.iter_mut().enumerate() {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && index == 0 => {
                return Ok(None);
            }
            other => other?,
        }
        part.resize(u32::from_le_bytes(length) as usize, 0);
        from.read_exact(part)?;
    }
    let [request, data] = parts;
    let request = postcard::from_bytes(&request).map_err(io::Error::other)?;
    Ok(Some((request, data)))
}
