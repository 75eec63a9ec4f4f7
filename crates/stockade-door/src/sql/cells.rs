//! The values of a result, in the form of [`Rows::cells`](super::Rows::cells).

/// Values, one after another.
#[derive(Debug, Default)]
pub(crate) struct Cells(Vec<u8>);

impl Cells {
    pub(crate) fn null(&mut self) {
        self.0.extend((-1_i32).to_be_bytes());
    }

    /// Adds a value. `None` where it is too long for its length to be written.
    pub(crate) fn value(&mut self, bytes: &[u8]) -> Option<()> {
        let length = i32::try_from(bytes.len()).ok()?;
        self.0.extend(length.to_be_bytes());
        self.0.extend(bytes);
        Some(())
    }

    /// Adds values that are in this form already. `None` where they are not `count` whole values.
    pub(crate) fn row(&mut self, bytes: &[u8], count: usize) -> Option<()> {
        let mut rest = bytes;
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let length = i32::from_be_bytes(*length);
            rest = match length {
                -1 => after,
                _ => after.get(usize::try_from(length).ok()?..)?,
            };
        }
        if !rest.is_empty() {
            return None;
        }
        self.0.extend(bytes);
        Some(())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_take_whole_rows_alone() {
        let mut cells = Cells::default();
        cells.null();
        cells.value(b"ab").unwrap();
        let row = std::mem::take(&mut cells).into_bytes();
        assert_eq!(row, b"\xff\xff\xff\xff\0\0\0\x02ab");
        assert!(cells.row(&row, 2).is_some());
        assert_eq!(cells.0, row);
        let longer = [&row[..], b"x"].concat();
        let forged: [(&[u8], usize); 7] = [
            (&row, 1),
            (&row, 3),
            (&row[..9], 2),
            (&longer, 2),
            (b"\xff\xff\xff\xfe", 1),
            (b"\x7f\xff\xff\xff", 1),
            (b"\x80\0\0\0", 1),
        ];
        for (bytes, count) in forged {
            assert!(cells.row(bytes, count).is_none(), "{bytes:?}");
        }
        assert_eq!(cells.0, row);
    }
}
