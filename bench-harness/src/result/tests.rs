//! `schema.json` says what a result is: neither less nor more.

use serde_json::Value;

use crate::fixture;
use crate::result::{Cost, Outcome};
use crate::schema_check::complaints;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../schema.json")).unwrap()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::to_value(outcome).unwrap()
}

/// A result in which every optional part is there.
fn full() -> Outcome {
    let mut outcome = fixture::outcome();
    for latency in outcome.cases.iter_mut().flat_map(|case| [&mut case.response, &mut case.service]).flatten() {
        (latency.p9999_us, latency.p99999_us) = (Some(latency.max_us), Some(latency.max_us));
    }
    outcome.lost = vec![fixture::lost(&outcome.cases[0])];
    outcome
}

#[test]
fn a_result_is_as_the_schema_says() {
    assert_eq!(complaints(&schema(), &json(&full())), Vec::<String>::new());
}

#[test]
fn a_result_that_knows_next_to_nothing_is_as_the_schema_says_too() {
    let mut outcome = fixture::outcome();
    outcome.noise = crate::result::Noise::default();
    for case in &mut outcome.cases {
        (case.floor, case.response, case.service, case.lag, case.cost) = (None, None, None, None, Cost::default());
        (case.steady.slope, case.steady.halves) = (None, None);
        for round in &mut case.rounds {
            (round.floor_per_s, round.floor_share, round.cpu_us_per_entry) = (None, None, None);
        }
    }
    outcome.ratios.iter_mut().for_each(|ratio| (ratio.low, ratio.high) = (None, None));
    assert_eq!(complaints(&schema(), &json(&outcome)), Vec::<String>::new());
}

/// Fields that came later: a result without them can be read.
const MAY_BE_MISSING: [&str; 6] =
    ["/due", "/unsent", "/searched", "/lost", "/rounds/0/number", "/cases/0/failed_rounds"];

/// Every value of `json`, by its path, with a way to it.
fn paths(json: &Value, at: &str, out: &mut Vec<String>) {
    match json {
        Value::Object(parts) => {
            for (name, part) in parts {
                out.push(format!("{at}/{name}"));
                paths(part, &format!("{at}/{name}"), out);
            }
        }
        Value::Array(parts) => parts.first().into_iter().for_each(|part| paths(part, &format!("{at}/0"), out)),
        _ => {}
    }
}

#[test]
fn a_field_taken_away_renamed_or_of_another_type_is_seen_wherever_it_stands() {
    let (schema, mut outcome) = (schema(), full());
    // The first of each list stands for all: the one with every part.
    outcome.cases.sort_by_key(|case| case.lag.is_none());
    outcome.cases.truncate(1);
    let whole = json(&outcome);
    assert_eq!(complaints(&schema, &whole), Vec::<String>::new());
    let mut all = Vec::new();
    paths(&whole, "", &mut all);
    // Of the host only some facts are asked for.
    let of_the_host = ["/host/cpu", "/host/cores", "/host/memory_bytes", "/host/file_system", "/host/device"];
    let asked = |path: &&String| !path.starts_with("/host/") || of_the_host.contains(&path.as_str());
    let mut seen = 0;
    for path in all.iter().filter(asked) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut without = whole.clone();
        let parts = without.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let value = parts.remove(name).unwrap();
        let expected = usize::from(!MAY_BE_MISSING.iter().any(|name| path.ends_with(name)));
        assert_eq!(complaints(&schema, &without).len(), expected, "{path} taken away");

        let mut renamed = without.clone();
        renamed.pointer_mut(parent).unwrap()[format!("{name}_ms")] = value;
        assert!(!complaints(&schema, &renamed).is_empty(), "{path} renamed");

        without.pointer_mut(parent).unwrap()[name] = serde_json::json!([[[]]]);
        assert!(!complaints(&schema, &without).is_empty(), "{path} of another type");
        seen += 1;
    }
    assert!(seen > 100, "{seen} fields");
}

#[test]
fn a_result_from_before_the_fields_that_may_be_missing_can_be_read() {
    let mut old = json(&full());
    old.as_object_mut().unwrap().remove("lost");
    for case in old["cases"].as_array_mut().unwrap() {
        let case = case.as_object_mut().unwrap();
        ["searched", "failed_rounds"].iter().for_each(|name| drop(case.remove(*name)));
        for round in case["rounds"].as_array_mut().unwrap() {
            let round = round.as_object_mut().unwrap();
            ["number", "due", "unsent"].iter().for_each(|name| drop(round.remove(*name)));
        }
    }
    old["ratios"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .for_each(|ratio| drop(ratio.as_object_mut().unwrap().remove("searched")));
    assert_eq!(complaints(&schema(), &old), Vec::<String>::new());
    let read: Outcome = serde_json::from_value(old).unwrap();
    assert!(read.lost.is_empty() && read.cases.iter().all(|case| case.failed_rounds == 0 && case.searched.is_none()));
}
