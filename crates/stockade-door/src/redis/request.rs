//! Commands of the guest: arrays of strings, `*2\r\n$3\r\nGET\r\n$1\r\na\r\n`.

/// Longest line that holds a length.
const MAX_LENGTH_LINE: usize = 24;
/// Longest name of a command.
const MAX_COMMAND_NAME: usize = 64;
/// Most arguments of a command; Redis has the same.
const MAX_ARGUMENTS: u64 = 1 << 20;
/// Most bytes of a command that is read completely.
const MAX_WHOLE: usize = 4096;

/// Bytes that are not a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forged;

/// The beginning of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes up to the end of the name.
    pub(crate) length: usize,
    /// In upper case. Empty for a name that is too long for every command.
    pub(crate) name: String,
    /// Arguments that follow.
    pub(crate) left: u64,
}

/// The arguments of a command without its name, and the length of the command.
pub(crate) type Whole = (Vec<Vec<u8>>, usize);

/// Reads the beginning of a command. `None` if it is not there completely.
///
/// # Errors
/// What is not one. Commands in one line, as people type them, are not taken: browsers send such lines too.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Forged> {
    let Some((count, at)) = length(bytes, b'*')? else {
        return Ok(None);
    };
    if !(1..=MAX_ARGUMENTS).contains(&count) {
        return Err(Forged);
    }
    let Some((size, after)) = length(&bytes[at..], b'$')? else {
        return Ok(None);
    };
    if size > MAX_COMMAND_NAME as u64 {
        return Err(Forged);
    }
    let (begin, end) = (at + after, at + after + size as usize);
    match bytes.get(begin..end + 2) {
        Some([name @ .., b'\r', b'\n']) => Ok(Some(Head {
            length: end + 2,
            name: String::from_utf8_lossy(name).to_ascii_uppercase(),
            left: count - 1,
        })),
        Some(_) => Err(Forged),
        None => Ok(None),
    }
}

/// The length of an argument, and of its line. `None` if it is not there completely.
///
/// # Errors
/// What is not one.
pub(crate) fn argument(bytes: &[u8]) -> Result<Option<(u64, usize)>, Forged> {
    length(bytes, b'$')
}

/// Reads a command completely: its arguments without the name, and its length. `None` if it is not there completely.
///
/// # Errors
/// What is not one, or is longer than those that need to be read completely.
pub(crate) fn whole(bytes: &[u8], head: &Head) -> Result<Option<Whole>, Forged> {
    let (mut at, mut arguments) = (head.length, Vec::new());
    if head.left > 16 {
        return Err(Forged);
    }
    for _ in 0..head.left {
        let Some((size, line)) = argument(&bytes[at..])? else {
            return Ok(None);
        };
        if size > (MAX_WHOLE - at.min(MAX_WHOLE)) as u64 {
            return Err(Forged);
        }
        let end = at + line + size as usize;
        match bytes.get(at + line..end + 2) {
            Some([argument @ .., b'\r', b'\n']) => arguments.push(argument.to_vec()),
            Some(_) => return Err(Forged),
            None => return Ok(None),
        }
        at = end + 2;
    }
    Ok(Some((arguments, at)))
}

/// A command.
pub(crate) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend(*argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A number in a line that begins with `kind`, and the length of the line.
fn length(bytes: &[u8], kind: u8) -> Result<Option<(u64, usize)>, Forged> {
    if bytes.first().is_some_and(|first| *first != kind) {
        return Err(Forged);
    }
    let start = &bytes[..bytes.len().min(MAX_LENGTH_LINE)];
    let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
        return if start.len() == MAX_LENGTH_LINE {
            Err(Forged)
        } else {
            Ok(None)
        };
    };
    let digits = &start[1..end];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Forged);
    }
    let number = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok());
    let number = number.filter(|number| *number <= 1 << 40);
    number.ok_or(Forged).map(|number| Some((number, end + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_read_back_and_waited_for() {
        let bytes = command(&[b"get", b"a\r\nb", b""]);
        let read = head(&bytes).unwrap().unwrap();
        assert_eq!((read.name.as_str(), read.left), ("GET", 2));
        let (arguments, length) = whole(&bytes, &read).unwrap().unwrap();
        assert_eq!(
            (arguments, length),
            (vec![b"a\r\nb".to_vec(), Vec::new()], bytes.len())
        );
        for end in 0..read.length {
            assert_eq!(head(&bytes[..end]), Ok(None), "{end}");
        }
        for end in read.length..bytes.len() {
            assert_eq!(whole(&bytes[..end], &read), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_is_not_a_command_is_refused() {
        for bytes in [
            &b"PING\r\n"[..],
            b"GET / HTTP/1.1\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$+4\r\nPING\r\n",
            b"*1\r\n$65\r\n",
            b"*1\r\n$1\r\nabc",
            b"*9999999\r\n$1\r\na\r\n",
            b"*00000000000000000000000000001\r\n",
        ] {
            assert_eq!(head(bytes), Err(Forged), "{}", bytes.escape_ascii());
        }
        let read = head(b"*2\r\n$4\r\nAUTH\r\n$9999\r\n").unwrap().unwrap();
        assert_eq!(whole(b"*2\r\n$4\r\nAUTH\r\n$9999\r\n", &read), Err(Forged));
    }
}
