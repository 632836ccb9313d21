//! `docs/sidecar.md` and `--help` say what the program does.

use std::collections::BTreeSet;

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;

use crate::setup::{address, get, run, serving};

const PAGE: &str = include_str!("../../docs/sidecar.md");

fn generated() -> String {
    let ended = run(&["--markdown"], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    ended.output
}

/// The parts between markers, with the markers.
fn parts(text: &str) -> Vec<&str> {
    let begins: Vec<_> = text.match_indices("<!-- begin ").map(|(at, _)| at).collect();
    let part = |at: usize| {
        let end = text[at..].find("<!-- end ").expect("a marker at the end");
        text[at..at + end].trim_end()
    };
    begins.into_iter().map(part).collect()
}

#[test]
fn the_tables_of_the_page_are_those_of_the_program() {
    let generated = generated();
    let (page, program) = (parts(PAGE), parts(&generated));
    assert_eq!(page.len(), program.len());
    for (page, program) in page.into_iter().zip(program) {
        assert_eq!(
            page, program,
            "run `asya-sidecar --markdown` and put this part into docs/sidecar.md"
        );
    }
}

#[test]
fn help_lists_every_variable() {
    let help = run(&["--help"], &[]).output;
    let generated = generated();
    let names = generated
        .split('`')
        .filter(|word| word.starts_with("ASYA_") && !word.contains(' '));
    let names: BTreeSet<_> = names.collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(help.contains(name), "{name}");
    }
    assert!(!help.contains('\u{1b}'), "no colour where no terminal is");
}

#[test]
fn the_page_lists_every_metric_that_is_there() {
    let mut plant = Plant::new(Broker::shared());
    let spec = serving(Spec::native("one")).sidecar_env("ASYA_GATEWAY_URL", "http://127.0.0.1:1");
    let at = address(&mut plant.add(&spec).sidecar);
    let (_, text) = get(&at, "/metrics");
    let metrics: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE asya_actor_")?.split_once(' '))
        .collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    for (name, kind) in metrics {
        assert!(PAGE.contains(&format!("| `{name}` | {kind} |")), "{name} {kind}");
    }
}
