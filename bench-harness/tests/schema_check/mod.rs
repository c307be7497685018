//! JSON against the part of JSON Schema that `schema.json` uses. A keyword that is not known here is a panic: a schema that asks for what
//! nobody checks would be a promise without anybody behind it.
//!
//! Seventy-five crates would do the same; the schema needs a dozen keywords.

use serde_json::Value;

/// Words that ask for nothing.
const SAID_ONLY: [&str; 5] = ["$schema", "$id", "$defs", "title", "description"];

/// What is wrong with `value`, with the place of each: nothing, if it is as `schema` says.
pub(crate) fn complaints(schema: &Value, value: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    check(schema, schema, value, "result", &mut complaints);
    complaints
}

fn check(root: &Value, schema: &Value, value: &Value, place: &str, complaints: &mut Vec<String>) {
    let words = schema.as_object().expect("a schema is an object");
    for (word, asked) in words {
        let mut complain = |what: String| complaints.push(format!("{place}: {what}"));
        match word.as_str() {
            word if SAID_ONLY.contains(&word) => {}
            "type" if !types(asked).any(|name| is_a(value, name)) => {
                complain(format!("{} is not {asked}", short(value)))
            }
            "enum" if !list(asked).contains(value) => complain(format!("{} is none of {asked}", short(value))),
            "minimum" if value.as_f64().is_some_and(|number| number < asked.as_f64().unwrap()) => {
                complain(format!("{value} is below {asked}"));
            }
            "minItems" if value.as_array().is_some_and(|all| (all.len() as u64) < asked.as_u64().unwrap()) => {
                complain(format!("fewer than {asked} items"));
            }
            "maxItems" if value.as_array().is_some_and(|all| all.len() as u64 > asked.as_u64().unwrap()) => {
                complain(format!("more than {asked} items"));
            }
            "type" | "enum" | "minimum" | "minItems" | "maxItems" => {}
            "$ref" => check(root, referred(root, asked), value, place, complaints),
            "anyOf" => {
                let one_of = |schema: &Value| {
                    let mut here = Vec::new();
                    check(root, schema, value, place, &mut here);
                    here
                };
                let all: Vec<Vec<String>> = list(asked).iter().map(one_of).collect();
                // The first one says more than "or null" does.
                if all.iter().all(|here| !here.is_empty()) {
                    complaints.extend(all.into_iter().next().unwrap());
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, asked, item, &format!("{place}[{at}]"), complaints);
                }
            }
            "required" => {
                let there = |name: &&Value| value.get(name.as_str().unwrap()).is_some();
                let missing = list(asked).iter().filter(|name| value.is_object() && !there(name));
                complaints.extend(missing.map(|name| format!("{place}: {name} is missing")));
            }
            "properties" => {
                for (name, schema) in asked.as_object().unwrap() {
                    if let Some(part) = value.get(name) {
                        check(root, schema, part, &format!("{place}.{name}"), complaints);
                    }
                }
            }
            "additionalProperties" => {
                for (name, part) in value.as_object().into_iter().flatten() {
                    let is_known = schema["properties"].get(name).is_some();
                    match asked {
                        _ if is_known => {}
                        Value::Bool(false) => complaints.push(format!("{place}: \"{name}\" is not in the schema")),
                        asked => check(root, asked, part, &format!("{place}.{name}"), complaints),
                    }
                }
            }
            other => panic!("the schema asks for `{other}`, which nobody checks"),
        }
    }
}

fn types(asked: &Value) -> impl Iterator<Item = &str> {
    let all = asked.as_array().map_or(std::slice::from_ref(asked), Vec::as_slice);
    all.iter().map(|name| name.as_str().expect("a type has a name"))
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("no such type: {other}"),
    }
}

fn list(asked: &Value) -> &[Value] {
    asked.as_array().expect("a list")
}

/// `#/$defs/case`.
fn referred<'a>(root: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).expect("a place in the schema itself");
    root.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in the schema"))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}
