//! What a guest threw, as the script gets it.

use serde_json::{Value, json};
use stockade_protocol::{GuestError, Related};

/// An error of a guest as JSON: `name`, `message`, `stack`, `source`, `line`, `column`, and `cause` and
/// `errors` of the same form where there are any.
#[must_use]
pub fn error_json(error: &GuestError) -> Value {
    let mut value = texts(error);
    add_related(&mut value, &error.related, &texts);
    value
}

fn texts(error: &GuestError) -> Value {
    let position = error.position.as_ref();
    json!({
        "name": error.name,
        "message": error.message,
        "stack": error.stack,
        "source": position.map(|p| &p.source),
        "line": position.map(|p| p.line),
        "column": position.map(|p| p.column),
    })
}

/// Puts what an error came of where scripts look for it: under `cause` and `errors` of the error that it
/// belongs to. `texts` makes the object of one error.
fn add_related(target: &mut Value, related: &[Related], texts: &impl Fn(&GuestError) -> Value) {
    let mut rest = related;
    while let Some((first, after)) = rest.split_first() {
        let own = after.iter().take_while(|next| next.depth > first.depth);
        let (own, others) = after.split_at(own.count());
        let mut value = texts(&first.error);
        add_related(&mut value, own, texts);
        if !first.member {
            target["cause"] = value;
        } else if let Some(Value::Array(errors)) = target.get_mut("errors") {
            errors.push(value);
        } else {
            target["errors"] = json!([value]);
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_related_nests_by_depth() {
        let related = |depth, member, text: &str| Related {
            depth,
            member,
            error: GuestError::new(text),
        };
        let list = [
            related(1, true, "a"),
            related(2, false, "why a"),
            related(1, true, "b"),
            related(1, false, "why"),
        ];
        let mut value = json!({});
        add_related(&mut value, &list, &|error| json!({ "m": error.message }));
        assert_eq!(
            value,
            json!({
                "errors": [{ "m": "a", "cause": { "m": "why a" } }, { "m": "b" }],
                "cause": { "m": "why" },
            })
        );
    }
}
