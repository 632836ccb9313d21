//! `--help` below the options, and the generated parts of a program's page, both made from its tables.

use crate::table::Table;
use crate::variable::{Group, Severity, Variable};

/// Width of `--help` below the options.
const WIDTH: usize = 100;

/// What stands below the variables in `--help`.
#[derive(Debug, Clone, Copy)]
pub struct Below {
    /// Lines about the values of variables.
    pub notes: &'static [&'static str],
    /// Exit codes and what they mean.
    pub exit_codes: &'static [(&'static str, &'static str)],
    /// What stands above the examples.
    pub examples_title: &'static str,
    /// Examples, line by line.
    pub examples: &'static [&'static str],
}

/// The text below the options.
pub fn text<G: Group>(table: &Table<G>, below: &Below) -> String {
    let header = clap::builder::styling::Styles::styled().get_header().to_owned();
    let title = |text: &str| format!("{header}{text}{header:#}");
    let mut lines = Vec::new();
    for group in G::ALL {
        lines.push(title(&format!("Variables: {}", group.title())));
        for variable in table.of(*group) {
            lines.push(named(variable));
            wrap(&mut lines, variable.meaning);
        }
        lines.push(String::new());
    }
    lines.extend(below.notes.iter().map(|note| (*note).to_owned()));
    lines.extend([String::new(), title("Exit codes")]);
    for (code, meaning) in below.exit_codes {
        lines.push(format!("  {code}"));
        wrap(&mut lines, meaning);
    }
    lines.extend([String::new(), title(below.examples_title)]);
    lines.extend(below.examples.iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// Its name, its other names and its default.
fn named<G>(variable: &Variable<G>) -> String {
    let aliases = match variable.aliases {
        [] => String::new(),
        aliases => format!(" (also {})", aliases.join(", ")),
    };
    let default = match variable.default_in_words() {
        "" => String::new(),
        default => format!(" [{}]", default.replace('`', "")),
    };
    format!("  {}{aliases}{default}", variable.name)
}

/// Adds `text` as indented lines, without the marks of Markdown.
fn wrap(lines: &mut Vec<String>, text: &str) {
    const INDENT: &str = "     ";
    let mut line = String::from(INDENT);
    for word in text.replace('`', "").split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, INDENT.into()));
        }
        line.push(' ');
        line += word;
    }
    lines.push(line);
}

/// Generated parts of a page, each between the markers that stand there. A part is its name and its lines.
pub fn markdown<const N: usize>(parts: [(&str, Vec<String>); N]) -> String {
    parts
        .map(|(name, lines)| {
            let table = lines.join("\n");
            format!("<!-- begin {name} -->\n{table}\n\n<!-- end {name} -->\n")
        })
        .concat()
}

/// The tables of variables, group by group.
pub fn variables<G: Group>(table: &Table<G>) -> Vec<String> {
    let mut lines = Vec::new();
    for group in G::ALL {
        lines.extend(heading(
            group.title(),
            "| Variable | Default | Meaning |\n|---|---|---|",
        ));
        lines.extend(table.of(*group).map(row));
    }
    lines
}

/// The lines above the rows of a table.
pub fn heading(title: &str, columns: &str) -> [String; 4] {
    [
        String::new(),
        format!("### {title}"),
        String::new(),
        columns.to_owned(),
    ]
}

fn row<G: Group>(variable: &Variable<G>) -> String {
    let aliases = variable.aliases.iter().map(|alias| format!(" Also `{alias}`."));
    let mark = if variable.severity == Severity::Default && variable.group.has_effect() {
        " †"
    } else {
        ""
    };
    let default = match (variable.default, variable.otherwise) {
        ("", otherwise) => otherwise.to_owned(),
        (default, _) => format!("`{default}`"),
    };
    let meaning = escaped(variable.meaning) + &aliases.collect::<String>();
    format!("| `{}` | {default} | {meaning}{mark} |", variable.name)
}

/// The table of exit codes.
pub fn exit_codes(meanings: &[(&str, &str)]) -> Vec<String> {
    let rows = meanings
        .iter()
        .map(|(code, meaning)| format!("| {code} | {meaning} |"));
    let head = [String::new(), "| Code | Meaning |\n|---|---|".into()];
    head.into_iter().chain(rows).collect()
}

/// Text for a cell of a table.
pub fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
