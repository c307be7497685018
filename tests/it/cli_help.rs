//! Help that helps: short, with examples that can be run, and a word for who types nothing.

use crate::cli::walrus;

const COMMANDS: [&[&str]; 14] = [
    &[],
    &["demo"],
    &["serve"],
    &["append"],
    &["tail"],
    &["topics"],
    &["status"],
    &["verify"],
    &["dump"],
    &["diff"],
    &["cert"],
    &["cert", "init"],
    &["cert", "issue"],
    &["cert", "check"],
];

#[test]
fn no_arguments_print_help_and_name_the_demo_and_are_a_misuse() {
    let done = walrus(&[]).with(2);
    assert!(done.out.is_empty());
    assert!(done.err.ends_with("Try: walrus-node demo\n"), "{}", done.err);
}

#[test]
fn the_help_of_every_command_fits_a_screen_and_ends_with_examples() {
    for command in COMMANDS {
        let done = walrus(&[command, &["-h"]].concat()).ok();
        let lines: Vec<_> = done.text().lines().collect();
        assert!(lines.len() <= 40, "{command:?} has {} lines", lines.len());
        let examples = lines.iter().position(|line| *line == "Examples:").unwrap_or_else(|| panic!("{command:?}"));
        assert!(lines[examples + 1..].iter().all(|line| line.starts_with("  ") && line.contains("walrus-node ")));
        assert!(!lines[0].ends_with('.') && !lines[0].contains(". "), "one sentence: {}", lines[0]);
    }
}

#[test]
fn the_examples_of_the_help_are_understood() {
    for command in COMMANDS {
        let help = walrus(&[command, &["-h"]].concat()).ok();
        let examples = help.text().split("Examples:\n").nth(1).unwrap().to_owned();
        for example in examples.lines() {
            let typed = example.rsplit("| ").next().unwrap().trim().replace('\'', "");
            let words: Vec<_> = typed.split(' ').skip(1).collect();
            // With `--help` behind it clap looks no further, so a wrong flag must come before.
            let done = walrus(&[&words[..], &["--no-such-flag"]].concat()).with(2);
            assert!(done.error().contains("'--no-such-flag'"), "{example}: {}", done.err);
        }
    }
}

#[test]
fn a_misuse_names_what_is_wrong_and_the_help_of_that_very_command() {
    let done = walrus(&["cert", "issue", "pki", "me", "--role", "boss"]).with(2);
    assert!(done.error().contains("boss"));
    assert_eq!(done.hint(), "walrus-node cert issue --help");
    assert_eq!(walrus(&["append", "t", "--frob"]).with(2).hint(), "walrus-node append --help");
    assert_eq!(walrus(&["frob"]).with(2).hint(), "walrus-node --help");
}
