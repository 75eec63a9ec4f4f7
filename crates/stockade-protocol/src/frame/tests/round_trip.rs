//! What is sent arrives, however it is cut on the way.

use super::*;

fn check_round_trip<T: Frame + std::fmt::Debug>(frames: &[T]) {
    let mut stream = Vec::new();
    for frame in frames {
        check(frame).unwrap();
        let encoded = encode(frame);
        let before = stream.len();
        let size = encoded.size();
        encode(frame).write_to(&mut stream).unwrap();
        assert_eq!(stream.len() - before, size);
        let mut appended = stream[..before].to_vec();
        append(frame, &mut appended);
        assert!(appended == stream);
        assert!(bulk_size(frame) < size);
    }
    let expected = shown(frames);
    for sizes in [vec![usize::MAX], vec![1, 5, 40_000, 3], vec![70_001]] {
        let source = Trickle {
            bytes: &stream,
            sizes,
            calls: 0,
        };
        assert!(shown(&read_all::<T>(source).unwrap()) == expected);
    }
    assert!(shown(&read_all::<T>(&stream[..]).unwrap()) == expected);
}

#[test]
fn every_frame_round_trips_with_payloads_of_all_sizes() {
    let long = "é\n".repeat(20_000);
    let name = "n".repeat(MAX_NAME_BYTES);
    let cases = [
        ("", "", payload("", &[])),
        ("name", "text", payload("{\"a\":1}", &[])),
        ("ñ", "text é", payload("[]", &[0, 1, 0, 300])),
        (
            &*name,
            "code",
            payload(&long, &[5000, 0, 4095, 4096, 100_000, 1]),
        ),
    ];
    for (name, text, data) in &cases {
        check_round_trip(&every_to_worker(name, text, data));
        check_round_trip(&every_from_worker(name, text, data));
    }
    check_round_trip(&every_to_worker("long", &long, &Payload::default()));
    check_round_trip(&every_from_worker(
        "long",
        &long[..12_000],
        &Payload::default(),
    ));
}

#[test]
fn control_message_with_a_borrowed_part_is_one_with_its_own() {
    for size in [0, 1, 4096, 200_000] {
        let data = payload("{\"chunk\":\"\\u0000b0\"}", &[size]);
        let borrowed = BorrowedControl {
            isolate: 7,
            name: "stream.chunk",
            json: &data.json,
            bytes: &data.bytes[0],
        };
        let (mut whole, mut appended) = (Vec::new(), Vec::new());
        encode(borrowed).write_to(&mut whole).unwrap();
        append(&borrowed, &mut appended);
        let name = "stream.chunk".to_owned();
        let message = FromIsolate::Control { name, data };
        let owned = FromWorker::Message {
            isolate: 7,
            message,
        };
        assert!(whole == bytes(&owned) && appended == whole);
    }
}

#[test]
fn frame_split_at_every_byte_arrives() {
    let data = payload("{\"a\":\"é\"}", &[3, 0, 20]);
    let from = every_from_worker("name", "text", &data);
    let to = every_to_worker("name", "text", &data);
    fn split<T: Frame + std::fmt::Debug>(frames: &[T]) {
        let stream: Vec<u8> = frames.iter().flat_map(bytes).collect();
        let expected = shown(frames);
        for at in 0..=stream.len() {
            let (one, two) = stream.split_at(at);
            let sizes = vec![one.len().max(1), two.len().max(1)];
            let source = Trickle {
                bytes: &stream,
                sizes,
                calls: 0,
            };
            assert!(shown(&read_all::<T>(source).unwrap()) == expected, "{at}");
        }
    }
    split(&from);
    split(&to);
}

#[test]
fn many_frames_come_by_one_read() {
    struct Counted<'a>(&'a [u8], usize);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            self.0.read(buffer)
        }
    }
    let frame = event(payload("[1]", &[]));
    let stream = bytes(&frame).repeat(500);
    let mut source = Counted(&stream, 0);
    let mut reader = Reader::<FromWorker>::new();
    for _ in 0..500 {
        assert!(reader.read_from(&mut source).unwrap().is_some());
    }
    assert_eq!(source.1, 1);
    assert!(reader.read_from(&mut source).unwrap().is_none());
    assert!(reader.read_from(&mut source).unwrap().is_none());
}

/// Takes a few bytes a call, of a few slices, and then none for a while.
struct Narrow {
    taken: Vec<u8>,
    calls: usize,
    most: usize,
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.calls += 1;
        assert!(slices.len() <= MAX_SLICES);
        match self.calls % 3 {
            0 => return Err(ErrorKind::WouldBlock.into()),
            1 => return Err(ErrorKind::Interrupted.into()),
            _ => {}
        }
        let mut left = self.most;
        for slice in slices {
            let count = slice.len().min(left);
            self.taken.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Ok(self.most - left)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn encoded_frame_is_written_bit_by_bit() {
    let frame = event(payload("[1]", &[10, 5000, 0, 20, 9000, 9000, 7]));
    let whole = bytes(&frame);
    for most in [1, 7, 4096, 5000, 100_000] {
        let mut narrow = Narrow {
            taken: Vec::new(),
            calls: 0,
            most,
        };
        let mut encoded = encode(&frame);
        while let Err(error) = encoded.write_to(&mut narrow) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(encoded.remaining(), 0);
        assert!(encoded.slices().is_empty());
        assert!(narrow.taken == whole, "{most}");
    }
}

#[test]
fn encoded_large_pieces_are_not_copied() {
    let data = payload(&"x".repeat(5000), &[100, 6000]);
    let (json, part) = (data.json.as_ptr(), data.bytes[1].as_ptr());
    let frame = event(data);
    let encoded = encode(&frame);
    let slices = encoded.slices();
    assert_eq!(slices.len(), 4, "header, text, small part, large part");
    assert_eq!(slices[1].as_ptr(), json);
    assert_eq!(slices[3].as_ptr(), part);
    assert_eq!(encode(event(payload("[]", &[100, 200]))).slices().len(), 1);
}

#[test]
fn encoded_frame_of_many_large_pieces_is_given_in_turns() {
    let frame = event(payload("[]", &[4096; 3000]));
    let mut encoded = encode(&frame);
    let mut turns = 0;
    while encoded.remaining() > 0 {
        let count = encoded.slices().iter().map(|slice| slice.len()).sum();
        encoded.advance(count);
        turns += 1;
    }
    assert_eq!(turns, 3);
}

#[test]
fn payload_of_64_mib_round_trips() {
    let data = Payload {
        json: "[\"\\u0000b0\"]".to_owned(),
        bytes: vec![(0..64 << 20).map(|i: u32| (i >> 7) as u8).collect()],
        marked: true,
    };
    let stream = bytes(&event(data.clone()));
    let mut frames = read_all::<FromWorker>(&stream[..]).unwrap();
    let Some(FromWorker::Message {
        message: FromIsolate::Event { data: back, .. },
        ..
    }) = frames.pop()
    else {
        panic!("an event");
    };
    assert!(back == data);
}

#[test]
fn most_parts_and_longest_name_fit_the_header() {
    let frame = ToWorker::Message {
        isolate: u32::MAX,
        message: ToIsolate::Call {
            id: u64::MAX,
            name: "n".repeat(MAX_NAME_BYTES),
            args: payload("[]", &[1; MAX_MESSAGE_PARTS]),
        },
    };
    check(&frame).unwrap();
    let stream = bytes(&frame).repeat(2);
    let source = Trickle {
        bytes: &stream,
        sizes: vec![10_000],
        calls: 0,
    };
    assert_eq!(read_all::<ToWorker>(source).unwrap().len(), 2);
}

/// xorshift64: the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

#[test]
fn random_streams_of_frames_arrive_cut_at_random() {
    let mut numbers = Numbers(0x5eed_0001_0203_0405);
    for _ in 0..300 {
        let mut frames = Vec::new();
        for _ in 0..numbers.below(12) + 1 {
            let scale = [1, 10, 1000, 40_000][numbers.below(4)];
            let json = "j".repeat(numbers.below(scale));
            let parts: Vec<usize> = (0..numbers.below(5))
                .map(|_| numbers.below(scale))
                .collect();
            let text = "t".repeat(numbers.below(scale.min(10_000)));
            let mut every = every_from_worker("name", &text, &payload(&json, &parts));
            frames.push(every.swap_remove(numbers.below(every.len())));
        }
        let stream: Vec<u8> = frames.iter().flat_map(bytes).collect();
        let sizes = (0..7)
            .map(|_| {
                let scale = [2, 100, 20_000][numbers.below(3)];
                numbers.below(scale) + 1
            })
            .collect();
        let source = Trickle {
            bytes: &stream,
            sizes,
            calls: 0,
        };
        assert!(shown(&read_all::<FromWorker>(source).unwrap()) == shown(&frames));
        // What is broken anywhere never panics and never gives more frames than there were.
        let mut broken = stream.clone();
        for _ in 0..3 {
            let at = numbers.below(broken.len());
            broken[at] ^= 1 << numbers.below(8);
        }
        let _ = read_all::<FromWorker>(&broken[..]);
        let _ = read_all::<ToWorker>(&broken[..]);
        broken.truncate(numbers.below(broken.len()));
        let _ = read_all::<FromWorker>(&broken[..]);
    }
}

/// `cargo test --release -p stockade-protocol --lib -- --ignored --nocapture frame_cost`
#[test]
#[ignore = "a measurement, not a check"]
fn frame_cost() {
    const COUNT: u32 = 1_000_000;
    let frame = event(payload("{\"answer\":42}", &[]));
    let mut stream = Vec::with_capacity(64 << 20);
    let begin = std::time::Instant::now();
    for _ in 0..COUNT {
        encode(&frame).write_to(&mut stream).unwrap();
    }
    println!("encode a small frame: {:?}", begin.elapsed() / COUNT);
    let mut reader = Reader::<FromWorker>::new();
    let mut source = &stream[..];
    let begin = std::time::Instant::now();
    for _ in 0..COUNT {
        assert!(reader.read_from(&mut source).unwrap().is_some());
    }
    println!("read a small frame: {:?}", begin.elapsed() / COUNT);
    let stream = bytes(&event(payload("[]", &[64 << 20])));
    let begin = std::time::Instant::now();
    read_all::<FromWorker>(&stream[..]).unwrap();
    println!("read 64 MiB: {:?}", begin.elapsed());
}
