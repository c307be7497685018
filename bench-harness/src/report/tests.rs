//! The page says everything that the result says, fetches nothing, and nothing in a result can break out of it.

use super::*;
use crate::fixture;

/// Void elements of HTML: they have no end.
const VOID: [&str; 2] = ["meta", "br"];

/// Panics unless every element is closed by its own end; returns how many there are. The text of `style` and `script` is skipped.
fn elements(page: &str) -> usize {
    let (mut open, mut count, mut rest) = (Vec::<&str>::new(), 0, page);
    while let Some((_, tail)) = rest.split_once('<') {
        let (tag, after) = tail.split_once('>').expect("a tag has an end");
        rest = after;
        let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
        if tag.starts_with('!') || tag.ends_with('/') || VOID.contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "before `{}`", rest.chars().take(60).collect::<String>());
            continue;
        }
        count += 1;
        open.push(name);
        if ["style", "script"].contains(&name) {
            rest = &rest[rest.find(&format!("</{name}>")).expect("it has an end")..];
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    count
}

#[test]
fn every_case_every_host_fact_and_every_note_is_on_the_page() {
    let outcome = fixture::outcome();
    let page = page(&outcome).unwrap();
    let shown = page.split("<script").next().unwrap();
    for case in &outcome.cases {
        assert!(shown.contains(&escape(&case.id)), "{}", case.id);
        assert!(shown.contains(&crate::figures::count(case.entries_per_s)), "{}", case.id);
        assert!(shown.contains(&escape(&case.settings)));
    }
    for text in outcome.notes.iter().chain([&outcome.host.kernel]).chain(&outcome.host.cpu) {
        assert!(shown.contains(&escape(text)), "{text}");
    }
    for floor in &outcome.device {
        assert!(shown.contains(&escape(&floor.name)), "{}", floor.name);
    }
    assert!(shown.contains("payload = [64, 256, 1024, 4096]"), "the plan");
    assert!(
        shown.contains("range ") && !shown.contains("95 % 0") && !shown.contains("95 % 1"),
        "five rounds have no 95 %"
    );
    assert!(shown.contains("the floor pipelined 4 deep; the case has 64 in flight"));
    assert!(elements(&page) > 500);
}

#[test]
fn the_page_fetches_nothing_and_runs_nothing() {
    let page = page(&fixture::outcome()).unwrap();
    for outside in ["http:", "https:", "src=", "href=", "@import", "url(", "onload", "<link", "<img"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<script").count(), 1, "the one that carries the JSON");
}

#[test]
fn names_that_try_to_be_html_stay_text_and_come_back_as_they_were() {
    let mut outcome = fixture::outcome();
    let evil = "</script></style></title>\"'><script>alert(1)</script><!--";
    outcome.notes.push(evil.into());
    outcome.kind = evil.into();
    outcome.plan = evil.into();
    outcome.cases[0].settings = evil.into();
    outcome.cases[0].target = evil.into();
    outcome.cases[0].id = format!("{evil} durable 256B");
    outcome.cases[0].steady.verdict = evil.into();
    outcome.cases[0].steady.steady = false;
    outcome.device[0].name = evil.into();
    outcome.ratios[0].peer = evil.into();
    outcome.ratios[0].case = evil.into();
    let page = page(&outcome).unwrap();
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<!--"));
    elements(&page);
    let back: Outcome = serde_json::from_str(embedded(&page).unwrap()).unwrap();
    let (back, before) = (serde_json::to_value(&back).unwrap(), serde_json::to_value(&outcome).unwrap());
    assert!(back == before, "what came back is not what was put in");
}

#[test]
fn what_makes_a_figure_doubtful_stands_beside_it() {
    let mut outcome = fixture::outcome();
    let plain = page(&outcome).unwrap();
    let words = |page: &str, word: &str| page.matches(&format!(">{word}</span>")).count();
    assert_eq!((words(&plain, "noisy"), words(&plain, "not steady"), words(&plain, "check failed")), (0, 0, 0));
    assert!(
        words(&plain, "overloaded") >= 3,
        "the open loop of the fixture: in the bars, with its plots, in the table"
    );

    outcome.cases[1].searched = Some(fixture::searched(false));
    outcome.cases[1].failed_rounds = 2;
    outcome.lost = vec![fixture::lost(&outcome.cases[2])];
    outcome.noise.noisy = true;
    outcome.smoke = true;
    outcome.release = false;
    outcome.cases[0].steady.steady = false;
    outcome.cases[0].steady.verdict = "not steady: fell by 12 % over the window".into();
    outcome.cases[0].checks[0].ok = false;
    let page = page(&outcome).unwrap();
    assert!(words(&page, "noisy") >= 2 * outcome.cases.len(), "beside every figure");
    assert!(words(&page, "not steady") >= 3 && words(&page, "check failed") >= 3);
    assert!(words(&page, "rounds failed") >= 2 && page.contains("Nothing was measured of"));
    assert!(words(&page, "does not hold") >= 2 && page.contains("does not hold p99 &lt;= 2000 us in 1 of 5 rounds"));
    assert!(page.contains("fell by 12 %") && page.contains("A smoke run") && page.contains("without optimisations"));
    assert!(page.find("A check failed in 1 case").unwrap() < page.find("Percentage of the device").unwrap());
}

#[test]
fn a_full_sweep_is_a_table_and_one_axis_alone_is_a_line() {
    let mut outcome = fixture::outcome();
    let table = page(&outcome).unwrap();
    assert_eq!(table.matches("class=\"heat\"").count(), 1, "four payloads by three batches");
    let sizes = ["64 B", "256 B", "1 KiB", "4 KiB"];
    assert!(sizes.iter().all(|size| table.contains(&format!("<th scope=\"row\">{size}</th>"))));

    outcome.cases.retain(|case| case.spec.batch == 256 && case.spec.followers == 0);
    let line = page(&outcome).unwrap();
    assert_eq!(line.matches("class=\"heat\"").count(), 0);
    assert!(line.contains("aria-label=\"entries a second by payload"));

    outcome.cases.truncate(2);
    assert!(!page(&outcome).unwrap().contains("Sweeps"), "two points are no sweep");
}

#[test]
fn a_run_of_the_device_alone_has_a_page_without_cases() {
    let mut outcome = fixture::outcome();
    outcome.cases.clear();
    outcome.ratios.clear();
    outcome.kind = "device".into();
    let page = page(&outcome).unwrap();
    elements(&page);
    assert!(page.contains("The device alone") && !page.contains("All figures"));
}

#[test]
fn what_was_not_measured_is_not_a_nought() {
    let mut outcome = fixture::outcome();
    for case in &mut outcome.cases {
        (case.floor, case.response, case.service, case.cost) = (None, None, None, crate::result::Cost::default());
        case.rounds.iter_mut().for_each(|round| round.intervals.clear());
    }
    let page = page(&outcome).unwrap();
    elements(&page);
    assert!(page.matches("<td class=\"none\">n/a</td>").count() >= 16 * outcome.cases.len());
}

#[test]
fn a_flush_that_many_share_is_so_many_times_the_floor_and_no_percentage_of_it() {
    let mut outcome = fixture::outcome();
    let shared = outcome.cases.iter_mut().find(|case| case.spec.producers == 64).unwrap();
    shared.floor.as_mut().unwrap().share = 55.4;
    let page = page(&outcome).unwrap();
    assert!(page.contains("<p class=\"big\">30 % to 96 %</p>"), "it is not the nearest to the device");
    assert!(page.contains("1 case with many callers to a flush is beyond it: up to 55.4×"));
    assert!(page.contains("<div class=\"num\">55.4×</div>") && page.contains(">»</text>"));
}

#[test]
fn an_open_loop_has_a_solid_response_and_a_dashed_service() {
    let mut outcome = fixture::outcome();
    let dashed = |outcome: &Outcome| page(outcome).unwrap().matches("class=\"line s0 dashed\"").count();
    assert_eq!(dashed(&outcome), 1);
    outcome.cases.retain(|case| case.spec.rate_per_s.is_none());
    assert_eq!(dashed(&outcome), 0);
}
