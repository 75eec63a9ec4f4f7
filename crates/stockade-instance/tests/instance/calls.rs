//! Methods that one instance offers to others.

use http_body_util::BodyExt;
use stockade_capability::CallPayload;
use stockade_instance::FetchError;
use stockade_protocol::{FromIsolate, GuestError, Payload};

use crate::guest::{self, Guest, Received};
use crate::site::{Site, full};

fn args(json: &str) -> CallPayload {
    Payload::from_json(json.to_owned()).into()
}

fn calculator(guest: &Guest, received: Received) {
    let Received::Call(id, name, args) = received else {
        return;
    };
    let result = match name.as_str() {
        "\0add" => {
            let numbers: Vec<i64> = serde_json::from_str(&args.json).unwrap();
            Ok(Payload::from_json(numbers.iter().sum::<i64>().to_string()))
        }
        "\0stream" => {
            assert!(args.json.contains("\\u0000s"), "{}", args.json);
            Ok(Payload {
                json: r#"{"it":"\u0000s5"}"#.to_owned(),
                bytes: Vec::new(),
                marked: true,
            })
        }
        "\0nothing" => Ok(Payload::no_export()),
        "\0forged" => Ok(Payload {
            marked: true,
            ..Payload::from_json(r#"["\u0000n"]"#.to_owned())
        }),
        "\0garbage" => Ok(Payload::from_json("[1,".to_owned())),
        "\0end" => {
            return guest
                .context
                .terminate(stockade_supervisor::TerminateReason::CpuLimit, "test");
        }
        _ => Err(GuestError::new("no such method")),
    };
    guest.send(FromIsolate::Reply { id, result });
}

#[tokio::test]
async fn call_gives_the_value_or_what_was_thrown() {
    let site = Site::new(guest::scripted(calculator));
    let value = site.instance.call("add", args("[1,2]")).await.unwrap();
    assert_eq!(value.payload.json, "3");
    let error = site.instance.call("other", args("[]")).await.unwrap_err();
    assert!(matches!(&error, FetchError::Threw(error) if error.message == "no such method"));
    for (method, begins) in [
        ("nothing", "the site \"site\" has no method \"nothing\""),
        (
            &*"x".repeat(2000),
            "the site \"site\" has no method \"xxxxxxxx",
        ),
    ] {
        let error = site.instance.call(method, args("[]")).await.unwrap_err();
        let FetchError::Threw(error) = &error else {
            panic!("{error}")
        };
        assert_eq!(error.name, "TypeError");
        assert!(error.message.starts_with(begins), "{error}");
    }
    let error = site.instance.call("forged", args("[]")).await.unwrap_err();
    assert!(matches!(error, FetchError::BadResponse { .. }), "{error}");
    let error = site.instance.call("garbage", args("[]")).await.unwrap_err();
    assert!(matches!(error, FetchError::BadResponse { .. }), "{error}");
    let error = site.instance.call("end", args("[]")).await.unwrap_err();
    assert!(matches!(error, FetchError::Ended { .. }), "{error}");
}

#[tokio::test]
async fn call_carries_streams() {
    let site = Site::new(guest::scripted(|guest, received| {
        if let Some(pull) = received.control("stream.pull") {
            assert_eq!(pull["id"], 5);
            guest.chunk(5, b"abc");
            guest.end_stream(5);
        } else {
            calculator(guest, received);
        }
    }));
    let args = CallPayload {
        payload: Payload {
            json: r#"["\u0000s0"]"#.to_owned(),
            bytes: Vec::new(),
            marked: true,
        },
        streams: vec![full("for the guest")],
        targets: Vec::new(),
    };
    let mut value = site.instance.call("stream", args).await.unwrap();
    assert_eq!(value.payload.json, r#"{"it":"\u0000s0"}"#);
    let stream = value.streams.pop().unwrap();
    assert_eq!(stream.collect().await.unwrap().to_bytes(), "abc");
}
