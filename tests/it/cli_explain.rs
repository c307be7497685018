//! `explain`, for somebody who has just met a code.

use crate::cli::walrus;

#[test]
fn every_code_that_is_listed_is_explained_and_an_unknown_one_is_not_guessed() {
    let list = walrus(&["explain"]).ok();
    let codes: Vec<_> = list.text().lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(codes.contains(&"75") && codes.contains(&"rolled-back") && codes.contains(&"net-12"), "{codes:?}");
    for code in codes {
        let page = walrus(&["explain", code]).ok();
        assert!(page.text().lines().count() >= 3, "{code}: {}", page.text());
    }
    // As the messages write it, `code 12`: where that number is an exit code too, the page says where the other is.
    assert_eq!(walrus(&["explain", "12"]).ok().text(), walrus(&["explain", "net-12"]).ok().text());
    assert!(walrus(&["explain", "5"]).ok().text().ends_with("walrus-node explain net-5\n"));
    let unknown = walrus(&["explain", "nonsense"]).with(2);
    assert!(unknown.hint().contains("walrus-node explain"), "{}", unknown.err);
}
