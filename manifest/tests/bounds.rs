//! Whatever a file holds, reading it ends, soon and without a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, helpers included"
)]

use std::fmt::Write as _;
use std::fs;

use asya_manifest::{Directory, Tools};
use proptest::prelude::*;

fn message(content: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), content).unwrap();
    Directory::load(dir.path())
        .expect_err("no actor in there")
        .to_string()
}

#[test]
fn nested_aliases_do_not_explode() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    let report = message(&bomb);
    assert!(
        report.contains("a.yaml:5:") && report.contains("more than 100000 values"),
        "{report}"
    );
}

#[test]
fn nested_anchors_and_depth_are_bounded() {
    let anchors = (0..60).fold(String::new(), |text, level| text + &format!("&a{level} ["));
    let report = message(&format!("{anchors}{}{}", "x, ".repeat(50_000), "]".repeat(60)));
    assert!(report.contains("more than 100000 values"), "{report}");
    for nested in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
    ] {
        assert!(message(&nested).contains("1 problem"));
    }
    let deep = format!(
        "a: &a {}{}\nb: {}*a{}",
        "[".repeat(40),
        "]".repeat(40),
        "[".repeat(40),
        "]".repeat(40)
    );
    assert!(message(&deep).contains("more than 64 levels"));
}

#[test]
fn an_alias_to_itself_or_to_nothing_is_refused() {
    assert!(
        message("a: &a [*a]").contains("a.yaml:1:8: a[0]: an alias refers to the value that contains it")
    );
    assert!(message("a: *b").contains("not valid YAML"));
    assert!(message("a: {<<: 5}").contains("a merge key `<<` needs a mapping"));
    assert!(message("? [a]\n: b").contains("a key must be text, not a list"));
}

/// Pieces that make YAML more often than random bytes do.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: [&str; 40] = [
        "a",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "- name: ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "&a ",
        "*a",
        "<<: *a",
        "---\n",
        "...\n",
        "'",
        "\"",
        "|\n",
        ">\n",
        "!!str ",
        "!x ",
        "? ",
        "#",
        "%YAML 1.2\n",
        "\t",
        "~",
        "1e999",
        "0x",
        "é",
        "\u{0}",
        "kind: AsyncActor\n",
        "spec:\n",
        "metadata: {name: x}\n",
        "apiVersion: asya.sh/v1alpha1\n",
        "tools:\n",
        "workload: {template: {spec: {containers: [{name: asya-runtime}]}}}\n",
        "parameters: {p: {type: string}}\n",
    ];
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

/// A good file with some lines taken out, doubled or cut short.
fn damaged() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = include_str!("fixtures/good/configured.yaml").lines().collect();
    let damage = prop::collection::vec((0..lines.len(), 0..3_u8, 0..30_usize), 1..6);
    damage.prop_map(move |damage| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for (at, kind, cut) in damage {
            let at = at % lines.len();
            match kind {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                _ => lines[at].truncate(cut),
            }
        }
        lines.join("\n")
    })
}

fn load_both(content: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, tools) = (dir.path().join("a.yaml"), dir.path().join("asya.yaml"));
    fs::write(&manifest, content).unwrap();
    fs::write(&tools, content).unwrap();
    for problems in [Directory::load(dir.path()).err(), Tools::load(&tools).err()]
        .into_iter()
        .flatten()
    {
        assert!(!problems.is_empty(), "an error says what is wrong");
        assert!(problems.iter().all(|problem| !problem.message.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(content in prop::collection::vec(any::<u8>(), 0..300)) {
        load_both(&content);
    }

    #[test]
    fn arbitrary_yaml_never_panics(content in pieces()) {
        load_both(content.as_bytes());
    }

    /// Also shows that what the checks admit can always be read into the types: the one other source of errors.
    #[test]
    fn damaged_manifests_are_read_or_refused_by_a_check(content in damaged()) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), &content).unwrap();
        if let Err(problems) = Directory::load(dir.path()) {
            for serde in ["invalid type", "missing field", "unknown variant", "invalid value"] {
                prop_assert!(!problems.to_string().contains(serde), "{}\n{}", problems, content);
            }
        }
    }
}
