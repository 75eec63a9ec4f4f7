//! Functions and objects that guests pass to each other.

use serde_json::Value;
use stockade_capability::{CallPayload, Part};
use stockade_instance::FetchError;
use stockade_protocol::{FromIsolate, GuestError, Payload};
use tokio::sync::mpsc;

use crate::guest::{self, Guest, Received};
use crate::site::Site;

fn plain(json: &str) -> CallPayload {
    Payload::from_json(json.to_owned()).into()
}

fn marked(json: String) -> Payload {
    Payload {
        json,
        bytes: Vec::new(),
        marked: true,
    }
}

/// What guests received that a test waits for.
type Notes = mpsc::UnboundedReceiver<String>;

/// A site that lends the target 5, or as many as its argument says, and doubles a number with it.
fn lender() -> (Site, Notes) {
    let (notes, noted) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(move |guest: &Guest, received: Received| {
        if let Some(release) = received.control("target.release") {
            let _ = notes.send(format!("released {}", release["id"]));
        }
        let Received::Call(id, name, args) = received else {
            return;
        };
        let args: Vec<Value> = serde_json::from_str(&args.json).unwrap();
        let result = match name.as_str() {
            "\0lend" => {
                let count = args[0].as_u64().unwrap();
                let marks: Vec<_> = (0..count).map(|_| "\"\\u0000r5\"").collect();
                Ok(marked(format!("[{}]", marks.join(","))))
            }
            "\0\x005" => Ok(Payload::from_json(
                (2 * args[0].as_i64().unwrap()).to_string(),
            )),
            "\0\x005:never" => {
                let _ = notes.send("called".to_owned());
                return;
            }
            "\0\x005:end" => {
                let reason = stockade_supervisor::TerminateReason::CpuLimit;
                return guest.context.terminate(reason, "test");
            }
            other => Err(GuestError::new(format!("there is no {other:?}"))),
        };
        guest.send(FromIsolate::Reply { id, result });
    }));
    (site, noted)
}

/// A site that holds what it is given, asks its host for what `ask` is called with, and reports the answer.
fn holder() -> (Site, Notes) {
    let (notes, noted) = mpsc::unbounded_channel();
    let site = Site::new(guest::scripted(
        move |guest: &Guest, received: Received| match received {
            // A call that is not over: what a guest with nothing to do holds is dropped.
            Received::Call(_, name, args) if name == "\0hold" => {
                let _ = notes.send(args.json.clone());
            }
            Received::Call(id, name, args) if name == "\0ask" => {
                let mut args: Vec<Value> = serde_json::from_str(&args.json).unwrap();
                guest.ask(7, "target.call", args.remove(0));
                let result = Ok(Payload::default());
                guest.send(FromIsolate::Reply { id, result });
            }
            Received::Call(id, name, args) if name == "\0dispose" => {
                let args: Vec<Value> = serde_json::from_str(&args.json).unwrap();
                guest.control("target.dispose", format!("{{\"id\":{}}}", args[0]));
                let result = Ok(Payload::default());
                guest.send(FromIsolate::Reply { id, result });
            }
            Received::Call(_, name, _) if name == "\0end" => {
                let reason = stockade_supervisor::TerminateReason::CpuLimit;
                guest.context.terminate(reason, "test");
            }
            Received::Answer(7, answer) => {
                let _ = notes.send(match answer {
                    Ok(value) => value.json,
                    Err(error) => format!("{}: {}", error.name, error.message),
                });
            }
            _ => {}
        },
    ));
    (site, noted)
}

/// A call of the guest that holds; aborted, it is over.
type Holding = tokio::task::JoinHandle<Result<CallPayload, FetchError>>;

async fn hold(holder: &Site, noted: &mut Notes, lent: CallPayload) -> (Holding, String) {
    let instance = holder.instance.clone();
    let holding = tokio::spawn(async move { instance.call("hold", lent).await });
    (holding, noted.recv().await.unwrap())
}

/// Has `holder` hold the target that `lender` lends, under the number 1 of its own.
async fn pass(lender: &Site, holder: &Site, noted: &mut Notes) -> Holding {
    let lent = lender.instance.call("lend", plain("[1]")).await.unwrap();
    assert_eq!(
        (lent.payload.json.as_str(), lent.targets.len()),
        (r#"["\u0000r0"]"#, 1)
    );
    let (holding, args) = hold(holder, noted, lent).await;
    assert_eq!(args, r#"["\u0000r1"]"#);
    holding
}

async fn ask(holder: &Site, noted: &mut Notes, request: &str) -> String {
    holder
        .instance
        .call("ask", plain(&format!("[{request}]")))
        .await
        .unwrap();
    noted.recv().await.unwrap()
}

#[tokio::test]
async fn target_is_called_by_the_guest_that_holds_it_until_it_is_disposed_of() {
    let ((lender, mut lent), (holder, mut held)) = (lender(), holder());
    let _holding = pass(&lender, &holder, &mut held).await;
    let answer = ask(&holder, &mut held, r#"{"id":1,"args":[21]}"#).await;
    assert_eq!(answer, "42");
    let answer = ask(&holder, &mut held, r#"{"id":1,"method":"m","args":[]}"#).await;
    assert!(answer.contains("there is no"), "{answer}");
    holder.instance.call("dispose", plain("[1]")).await.unwrap();
    assert_eq!(lent.recv().await.unwrap(), "released 5");
    let answer = ask(&holder, &mut held, r#"{"id":1,"args":[21]}"#).await;
    assert_eq!(answer, "TypeError: the stub has been disposed of");
    // Once more is no breach.
    holder.instance.call("dispose", plain("[1]")).await.unwrap();
}

#[tokio::test]
async fn target_of_others_has_no_number_that_a_guest_could_guess() {
    let ((lender, _lent), (holder, mut held)) = (lender(), holder());
    let (stranger, mut strange) = self::holder();
    let _holding = pass(&lender, &holder, &mut held).await;
    for id in [0, 1, 2, 5, u64::MAX] {
        let answer = ask(
            &stranger,
            &mut strange,
            &format!(r#"{{"id":{id},"args":[1]}}"#),
        )
        .await;
        assert_eq!(answer, "TypeError: the stub has been disposed of", "{id}");
    }
    // What a site has lent is none of its methods.
    for method in ["\x005", "\x005:end"] {
        let error = lender
            .instance
            .call(method, plain("[1]"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("has no method"), "{error}");
    }
    // A number of the one that lends means nothing to the one that holds.
    let answer = ask(&holder, &mut held, r#"{"id":5,"args":[1]}"#).await;
    assert_eq!(answer, "TypeError: the stub has been disposed of");
}

#[tokio::test]
async fn targets_are_bounded_on_both_sides() {
    let ((lender, mut lent), (holder, mut held)) = (lender(), holder());
    let error = lender
        .instance
        .call("lend", plain("[10001]"))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::BadResponse { .. }), "{error}");
    // What was lent before the bound is released.
    for _ in 0..10_000 {
        assert_eq!(lent.recv().await.unwrap(), "released 5");
    }
    let all = lender.instance.call("lend", plain("[1000]")).await.unwrap();
    let _holding = hold(&holder, &mut held, all).await;
    let (other, _other_lent) = self::lender();
    let more = other.instance.call("lend", plain("[1]")).await.unwrap();
    let error = holder.instance.call("hold", more).await.unwrap_err();
    assert!(error.to_string().contains("1000 functions"), "{error}");
    let nine = lender.instance.call("lend", plain("[9000]")).await.unwrap();
    let error = lender
        .instance
        .call("lend", plain("[1]"))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::BadResponse { .. }), "{error}");
    drop(nine);
    assert!(lender.instance.call("lend", plain("[1]")).await.is_ok());
}

#[tokio::test]
async fn targets_end_with_the_work_that_they_were_held_for() {
    let ((lender, mut lent), (holder, mut held)) = (lender(), holder());
    let holding = pass(&lender, &holder, &mut held).await;
    assert_eq!(ask(&holder, &mut held, r#"{"id":1,"args":[4]}"#).await, "8");
    holding.abort();
    assert_eq!(lent.recv().await.unwrap(), "released 5");
}

#[tokio::test]
async fn parts_of_a_target_are_methods_and_properties() {
    let ((lender, _lent), (holder, mut held)) = (lender(), holder());
    let _holding = pass(&lender, &holder, &mut held).await;
    for (part, name) in [
        (r#""method":"m""#, "\"\\0\\05:m\""),
        (r#""property":"p""#, "\"\\0\\05.p\""),
        (r#""method":null,"property":"p""#, "\"\\0\\05.p\""),
        (r#""method":".:\u0000""#, "\"\\0\\05:.:\\0\""),
    ] {
        let answer = ask(&holder, &mut held, &format!(r#"{{"id":1,{part}}}"#)).await;
        assert!(answer.contains(name), "{answer}");
    }
    // It would be the number of a call that is traced.
    let numbered = r#"{"id":1,"method":"m\u00007"}"#;
    let answer = ask(&holder, &mut held, numbered).await;
    assert!(answer.contains("a name like that"), "{answer}");
    let long = "x".repeat(100_000);
    for part in ["method", "property"] {
        let answer = ask(
            &holder,
            &mut held,
            &format!(r#"{{"id":1,"{part}":"{long}"}}"#),
        )
        .await;
        assert!(answer.contains("as long as 'xxx"), "{answer}");
        assert!(answer.len() < 200, "{answer}");
    }
    assert_eq!(ask(&holder, &mut held, r#"{"id":1,"args":[4]}"#).await, "8");
}

#[tokio::test]
async fn targets_end_with_either_guest() {
    let ((lender, mut lent), (holder, mut held)) = (lender(), holder());
    let _holding = pass(&lender, &holder, &mut held).await;
    assert!(holder.instance.call("end", plain("[]")).await.is_err());
    assert_eq!(lent.recv().await.unwrap(), "released 5");
    let (holder, mut held) = self::holder();
    let _holding = pass(&lender, &holder, &mut held).await;
    let answer = ask(&holder, &mut held, r#"{"id":1,"method":"end","args":[]}"#).await;
    assert!(answer.contains("ended"), "{answer}");
    let answer = ask(&holder, &mut held, r#"{"id":1,"args":[1]}"#).await;
    assert!(answer.contains("has ended there"), "{answer}");
}

#[tokio::test]
async fn calls_of_targets_are_bounded() {
    let (lender, mut lent) = lender();
    let mut value = lender.instance.call("lend", plain("[1]")).await.unwrap();
    let target = value.targets.pop().unwrap();
    let never: Vec<_> = (0..100)
        .map(|_| tokio::spawn(target.call(&Part::Method("never".to_owned()), plain("[]"))))
        .collect();
    for _ in 0..100 {
        assert_eq!(lent.recv().await.unwrap(), "called");
    }
    let error = target.call(&Part::Itself, plain("[1]")).await.unwrap_err();
    assert!(error.message.contains("100 calls"), "{error}");
    for task in never {
        task.abort();
        let _ = task.await;
    }
    assert_eq!(
        target
            .call(&Part::Itself, plain("[1]"))
            .await
            .unwrap()
            .payload
            .json,
        "2"
    );
}
