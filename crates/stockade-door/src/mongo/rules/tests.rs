use std::time::Duration;

use super::super::frame::message;
use super::*;

fn command(name: &str) -> Writer {
    Writer::new().text(name, "things")
}

fn checked(body: &[u8]) -> Result<String, Refusal> {
    checked_with(body, &Commands::default())
}

fn checked_with(body: &[u8], commands: &Commands) -> Result<String, Refusal> {
    let bytes = message(1, 0, body);
    let message = Message::read(&bytes).unwrap().unwrap();
    check(&message, commands, "shop").map(|kind| format!("{kind:?}"))
}

fn of_shop(writer: Writer) -> Vec<u8> {
    writer.text("$db", "shop").finish()
}

#[test]
fn commands_that_are_usual_pass_and_others_do_not() {
    for name in [
        "find",
        "insert",
        "aggregate",
        "dbStats",
        "createIndexes",
        "count",
    ] {
        checked(&of_shop(command(name))).unwrap();
    }
    for name in [
        "mapReduce",
        "eval",
        "$eval",
        "saslStart",
        "authenticate",
        "bulkWrite",
        "shutdown",
        "createUser",
        "listDatabases",
        "renameCollection",
        "fsync",
        "_mergeAuthzCollections",
        "FIND",
        "dropDatabase",
        "",
    ] {
        let refused = checked(&of_shop(command(name))).unwrap_err();
        assert_eq!(refused.code, 13, "{name}");
    }
    let commands = Commands::new(
        &["drop".to_owned()],
        &["collMod".to_owned(), "eval".to_owned()],
    );
    checked_with(&of_shop(command("collMod")), &commands).unwrap();
    for name in ["drop", "eval", "validate"] {
        checked_with(&of_shop(command(name)), &commands).unwrap_err();
    }
}

#[test]
fn databases_of_others_are_refused_wherever_they_are_named() {
    checked(&of_shop(command("find"))).unwrap();
    for body in [
        command("find").text("$db", "admin").finish(),
        command("find")
            .text("$db", "shop")
            .text("$db", "admin")
            .finish(),
        command("find").int32("$db", 1).finish(),
    ] {
        checked(&body).unwrap_err();
    }
    let stage = |name: &str, place: &str, database: &str| {
        let named = Writer::new()
            .text("db", database)
            .text("coll", "x")
            .finish();
        let inner = match place {
            "" => named,
            place => Writer::new().document(place, &named).finish(),
        };
        let stage = Writer::new().document(name, &inner).finish();
        let pipeline = Writer::new().document("0", &stage).finish();
        let facet = Writer::new().raw(ARRAY, "pipeline", &pipeline).finish();
        of_shop(command("aggregate").document("d", &facet))
    };
    for (name, place) in [
        ("$out", ""),
        ("$merge", "into"),
        ("$lookup", "from"),
        ("$unionWith", "coll"),
    ] {
        checked(&stage(name, place, "shop")).unwrap();
        let refused = checked(&stage(name, place, "other")).unwrap_err();
        assert!(refused.message.contains("alone"), "{refused:?}");
    }
}

#[test]
fn javascript_is_refused_at_any_depth_and_in_sequences() {
    let deep = |inner: Writer| {
        let mut bytes = inner.finish();
        for _ in 0..50 {
            bytes = Writer::new().raw(ARRAY, "a", &bytes).finish();
        }
        of_shop(command("find").document("filter", &bytes))
    };
    checked(&deep(Writer::new().text("where", "1"))).unwrap();
    for name in ["$where", "$function", "$accumulator"] {
        let refused = checked(&deep(Writer::new().text(name, "1"))).unwrap_err();
        assert!(refused.message.contains("JavaScript"), "{refused:?}");
    }
    let code = [&5_i32.to_le_bytes()[..], b"true\0"].concat();
    checked(&deep(Writer::new().raw(CODE, "c", &code))).unwrap_err();
    let with_scope = [&[0; 4][..], &code, &[5, 0, 0, 0, 0]].concat();
    let mut with_scope = with_scope;
    let length = i32::try_from(with_scope.len()).unwrap();
    with_scope[..4].copy_from_slice(&length.to_le_bytes());
    checked(&deep(Writer::new().raw(CODE_WITH_SCOPE, "c", &with_scope))).unwrap_err();
    // In a document of a sequence.
    let mut bytes = message(1, 0, &of_shop(command("update")));
    let filter = Writer::new().text("$where", "1").finish();
    let update = Writer::new().document("q", &filter).finish();
    let sequence = [&b"updates\0"[..], &update].concat();
    bytes.push(1);
    bytes.extend_from_slice(&(u32::try_from(sequence.len()).unwrap() + 4).to_le_bytes());
    bytes.extend_from_slice(&sequence);
    let length = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    let message = Message::read(&bytes).unwrap().unwrap();
    check(&message, &Commands::default(), "shop").unwrap_err();
}

#[test]
fn stages_and_options_of_servers_are_refused() {
    for name in [
        "$currentOp",
        "$listSessions",
        "$changeStream",
        "$indexStats",
        "$_internalInhibit",
    ] {
        let stage = Writer::new()
            .document(name, &Writer::new().finish())
            .finish();
        let body = of_shop(command("aggregate").raw(ARRAY, "pipeline", &stage));
        checked(&body).unwrap_err();
    }
    for name in ["lsid", "txnNumber", "$clusterTime", "$audit"] {
        checked(&of_shop(command("find").int32(name, 1))).unwrap_err();
    }
    checked(&of_shop(command("find").boolean("noCursorTimeout", true))).unwrap_err();
    checked(&of_shop(command("find").boolean("noCursorTimeout", false))).unwrap();
}

#[test]
fn explained_commands_are_those_that_pass() {
    let explain = |inner: Vec<u8>| of_shop(Writer::new().document("explain", &inner));
    checked(&explain(command("find").finish())).unwrap();
    for name in ["mapReduce", "insert", "explain", "eval"] {
        checked(&explain(command(name).finish())).unwrap_err();
    }
    checked(&explain(Writer::new().finish())).unwrap_err();
}

fn rewritten(name: &str, more: Writer, kind: Kind<'_>) -> Vec<(String, Option<i64>)> {
    let _ = name;
    let limits = Limits {
        statement: Duration::from_secs(5),
        rows: 100,
        ..Limits::default()
    };
    let body = of_shop(more);
    let bytes = rewrite(Document::at(&body).unwrap(), kind, &limits, "shop").unwrap();
    let document = Document::at(&bytes).unwrap();
    assert_eq!(document.get("$db").unwrap().text(), Some("shop"));
    let fields = document.elements().map(|element| {
        let element = element.unwrap();
        (element.name.to_owned(), element.integer())
    });
    fields.collect()
}

fn value(fields: &[(String, Option<i64>)], name: &str) -> Option<i64> {
    let mut named = fields.iter().filter(|(of, _)| of == name);
    let first = named.next().and_then(|(_, value)| *value);
    assert!(named.next().is_none(), "{name} twice");
    first
}

#[test]
fn commands_get_a_time_and_batches_within_the_limits() {
    let opens = Kind::Opens("things");
    for (given, expected) in [
        (None, 5000),
        (Some(0), 5000),
        (Some(100), 100),
        (Some(1 << 30), 5000),
    ] {
        let find = given.map_or_else(
            || command("find"),
            |given| command("find").int32("maxTimeMS", given),
        );
        let fields = rewritten("find", find, opens);
        assert_eq!(value(&fields, "maxTimeMS"), Some(expected));
        assert_eq!(fields[0].0, "find");
    }
    // The last one of several is not what the server takes.
    let twice = command("find")
        .int32("maxTimeMS", 1)
        .int32("maxTimeMS", 1 << 30);
    assert_eq!(
        value(&rewritten("find", twice, opens), "maxTimeMS"),
        Some(5000)
    );
    let find = command("find").int32("batchSize", 1000);
    assert_eq!(
        value(&rewritten("find", find, opens), "batchSize"),
        Some(100)
    );
    assert_eq!(
        value(&rewritten("find", command("find"), opens), "batchSize"),
        None
    );
    let more = Kind::GetMore {
        cursor: 1,
        collection: "things",
    };
    let fields = rewritten("getMore", Writer::new().int64("getMore", 1), more);
    assert_eq!(
        (value(&fields, "batchSize"), value(&fields, "maxTimeMS")),
        (Some(100), None)
    );
    let fields = rewritten(
        "getMore",
        Writer::new().int64("getMore", 1).int32("maxTimeMS", 9000),
        more,
    );
    assert_eq!(value(&fields, "maxTimeMS"), Some(5000));
}

#[test]
fn replies_show_nothing_of_the_server() {
    let body = Writer::new()
        .document(
            "serverInfo",
            &Writer::new().text("host", "db.internal").finish(),
        )
        .int64("operationTime", 1)
        .double("ok", 1.0)
        .finish();
    let bytes = without_server(Document::at(&body).unwrap()).unwrap();
    assert_eq!(bytes, Writer::new().double("ok", 1.0).finish());
}
