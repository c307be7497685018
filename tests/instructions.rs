//! What the gate of instruction counts lets pass. That it counts at all is `.ci/run instructions`, where valgrind is.

#[path = "../benches/hot/kept.rs"]
mod kept;

use kept::{Counts, compare};

fn counts(rows: &[(&str, u64)]) -> Counts {
    let counts = rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Counts { with: "rustc 1".to_owned(), counts }
}

fn passes(before: &[(&str, u64)], now: &[(&str, u64)]) -> bool {
    compare(&counts(before), &counts(now)).is_same()
}

#[test]
fn a_count_may_move_by_two_per_cent_and_not_by_more_up_or_down() {
    let before = [("encode", 1000), ("decode", 5000)];
    for (encode, same) in [(1000, true), (1020, true), (1021, false), (980, true), (979, false), (0, false)] {
        assert_eq!(passes(&before, &[("encode", encode), ("decode", 5000)]), same, "{encode}");
    }
    assert!(!passes(&[("encode", 0)], &[("encode", 0)]), "nothing was counted");
}

#[test]
fn a_name_that_is_new_or_gone_is_no_pass_nor_is_a_file_without_any() {
    assert!(!passes(&[("encode", 1000)], &[("encode", 1000), ("decode", 5000)]));
    assert!(!passes(&[("encode", 1000), ("decode", 5000)], &[("encode", 1000)]));
    assert!(!passes(&[], &[]));
}

#[test]
fn another_compiler_is_named_where_a_count_has_moved_and_nowhere_else() {
    let before = counts(&[("encode", 1000)]);
    let other = |count| Counts { with: "rustc 2".to_owned(), ..counts(&[("encode", count)]) };
    let moved = compare(&before, &other(1100)).to_string();
    assert!(moved.contains("MOVED") && moved.contains("counted with rustc 1; these with rustc 2"), "{moved}");
    let same = compare(&before, &other(1001)).to_string();
    assert!(same.contains("all within 2 %") && !same.contains("rustc"), "{same}");
}

#[test]
fn the_kept_counts_are_read_as_they_were_written() {
    let text = include_str!("../benches/instructions.txt");
    let kept = Counts::parse(text).expect("the file can be read");
    assert_eq!(kept.to_string(), text, "`-- --count --update` writes it");
    assert!(kept.counts.len() >= 14 && kept.counts.iter().all(|(_, count)| *count > 0), "{kept:?}");
    assert!(Counts::parse("encode a block\n").is_err_and(|wrong| wrong.contains("line 1")));
}
