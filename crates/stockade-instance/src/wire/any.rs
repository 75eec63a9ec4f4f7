//! Every parser of what a guest sends, behind one door, for fuzzing.

use stockade_protocol::Payload;

use super::{
    import, parse_ask, parse_cron_done, parse_failed, parse_fields, parse_ready, parse_response,
    parse_settled, parse_socket_open,
};
use crate::limits::InstanceLimits;

/// Parses any bytes as any of a guest's messages: the first says which, the second how many binary parts
/// there are and whether there are marks, the rest is the text.
pub fn parse_guest_message(bytes: &[u8]) {
    let [which, parts, text @ ..] = bytes else {
        return;
    };
    let payload = Payload {
        json: String::from_utf8_lossy(text).into_owned(),
        bytes: vec![vec![1, 2, 3]; usize::from(parts & 7)],
        marked: parts & 8 != 0,
    };
    let limits = InstanceLimits::default();
    match which % 14 {
        0 => drop(parse_response(payload, &limits)),
        1 => drop(parse_failed(&payload)),
        2 => drop(parse_settled(&payload)),
        3 => drop(parse_cron_done(&payload)),
        4 => drop(parse_ready(parts & 16 != 0, &payload)),
        5 => drop(parse_socket_open(&payload)),
        6 => drop(parse_ask("fetch", payload, &limits)),
        7 => drop(parse_ask("binding.fetch", payload, &limits)),
        8 => drop(parse_ask("binding.call", payload, &limits)),
        9 => drop(import(payload, Ok, Ok)),
        10 => drop(parse_ask("binding.open", payload, &limits)),
        11 => drop(parse_ask("socket.connect", payload, &limits)),
        12 => drop(parse_ask("target.call", payload, &limits)),
        _ => {
            if let Ok(fields) = parse_fields(payload) {
                let _ = fields.close();
                let _ = fields.into_socket_message();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&str; 14] = [
        r#"[7,200,["content-type","text/plain","content-length","5"],"\u0000b0",3,true]"#,
        r#"[1,"TypeError","message \ud800","at x"]"#,
        "[5]",
        r#"[5,"why"]"#,
        r#"{"handlers":["fetch"],"exports":["default"],"name":"a","message":"b","stack":"c"}"#,
        r#"{"conn_id":1,"url":"wss://a/","protocols":["p"]}"#,
        r#"{"url":"https://a/x","method":"GET","headers":{"a":"b"},"body":"\u0000s1"}"#,
        r#"{"binding":"A","url":"https://a/x","method":"PUT","headers":["a","b"],"body":null}"#,
        r#"{"binding":"A","method":"put","args":[{"key":"\u0000b1"},"\u0000s3"]}"#,
        r#"[{"a":["\u0000s4","\u0000\u0000x",1e99,null]}]"#,
        r#"{"binding":"A","method":"connect","args":[{"port":5432}]}"#,
        r#"{"host":"db.example","port":5432,"secure":"starttls","serverName":"a"}"#,
        r#"{"id":3,"method":"next","property":"value","args":["\u0000r5",1]}"#,
        r#"{"id":3,"n":8,"data":"\u0000b0","reason":"é","code":4000,"message":"m"}"#,
    ];

    /// The generator of <https://prng.di.unimi.it/splitmix64.c>, for the same run every time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) % bound as u64) as usize
        }
    }

    #[test]
    fn guest_messages_changed_at_random_are_never_a_panic() {
        let pieces: [&[u8]; 12] = [
            b"\\u0000", b"\\ud800", b"\"", b"[", b"]", b"{", b"}", b",", b"-1", b"1e400", b"\xff",
            b"null",
        ];
        let mut random = Random(4);
        for round in 0..60_000 {
            let which = round % SEEDS.len();
            let mut text = SEEDS[which].as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(text.len().max(1)).min(text.len());
                match random.below(4) {
                    0 => text.truncate(at),
                    1 if at < text.len() => text[at] = random.below(256) as u8,
                    2 if at < text.len() => drop(text.remove(at)),
                    _ => {
                        let piece = pieces[random.below(pieces.len())];
                        text.splice(at..at, piece.iter().copied());
                    }
                }
            }
            let mut message = vec![which as u8, random.below(32) as u8];
            message.extend(text);
            parse_guest_message(&message);
        }
    }
}
