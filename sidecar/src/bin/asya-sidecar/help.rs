//! `--help`, and the tables of `docs/sidecar.md`, both made from the tables of variables, metrics and exit codes.

use asya_sidecar::{METRICS, MetricKind};
use clap::Parser;

use crate::exit::MEANINGS;
use crate::variables::{Group, Severity, VARIABLES, Variable};

/// Moves messages between the queue of one actor and its runtime, and never loses one.
///
/// It is configured by environment variables alone; they are listed below.
#[derive(Debug, Parser)]
#[command(name = "asya-sidecar", version, after_long_help = after(), max_term_width = 120)]
pub(crate) struct Arguments {
    /// Check the configuration, say all that is wrong with it, and end with 0 or 1; nothing is connected
    #[arg(long)]
    pub(crate) check: bool,
    /// Print the variables that are set as JSON, without secrets, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Print the tables of the documentation
    #[arg(long, hide = true)]
    pub(crate) markdown: bool,
}

/// Width of `--help` below the options.
const WIDTH: usize = 100;

fn after() -> String {
    let header = clap::builder::styling::Styles::styled().get_header().to_owned();
    let title = |text: &str| format!("{header}{text}{header:#}");
    let mut lines = Vec::new();
    for group in Group::ALL {
        lines.push(title(&format!("Variables: {}", group.title())));
        for variable in of(group) {
            lines.push(named(variable));
            wrap(&mut lines, variable.meaning);
        }
        lines.push(String::new());
    }
    lines.extend([
        "In brackets: the default. An empty value counts as unset. Durations: 90s, 5m, 1h30m, or seconds."
            .into(),
        "A bad value of a variable that the original sidecar has too is a warning, of most others the end."
            .into(),
        String::new(),
        title("Exit codes"),
    ]);
    for (code, meaning) in MEANINGS {
        lines.push(format!("  {code}"));
        wrap(&mut lines, meaning);
    }
    lines.extend([
        String::new(),
        title("Example"),
        "  ASYA_ACTOR_NAME=worker ASYA_RABBITMQ_URL=amqp://guest:guest@localhost/ \\".into(),
        "  ASYA_SOCKET_DIR=/tmp/worker ASYA_QUEUE_AUTO_CREATE=true asya-sidecar".into(),
    ]);
    lines.join("\n")
}

fn of(group: Group) -> impl Iterator<Item = &'static &'static Variable> {
    VARIABLES.iter().filter(move |variable| variable.group == group)
}

/// Its name, its other names and its default.
fn named(variable: &Variable) -> String {
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

/// The generated parts of `docs/sidecar.md`, each between the markers that stand there.
pub(crate) fn markdown() -> String {
    let parts = [
        ("variables", variables()),
        ("metrics", metrics()),
        ("exit-codes", exit_codes()),
    ];
    parts
        .map(|(name, lines)| {
            let table = lines.join("\n");
            format!("<!-- begin {name} -->\n{table}\n\n<!-- end {name} -->\n")
        })
        .concat()
}

fn variables() -> Vec<String> {
    let mut lines = Vec::new();
    for group in Group::ALL {
        lines.extend(heading(
            group.title(),
            "| Variable | Default | Meaning |\n|---|---|---|",
        ));
        lines.extend(of(group).map(|variable| row(variable)));
    }
    lines
}

fn heading(title: &str, columns: &str) -> [String; 4] {
    [
        String::new(),
        format!("### {title}"),
        String::new(),
        columns.to_owned(),
    ]
}

fn row(variable: &Variable) -> String {
    let aliases = variable.aliases.iter().map(|alias| format!(" Also `{alias}`."));
    let mark = if variable.severity == Severity::Default && variable.group != Group::WithoutEffect {
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

fn metrics() -> Vec<String> {
    let mut lines = Vec::new();
    for (title, is_contract) in [("As the original has them", true), ("Added", false)] {
        let columns = "| Name | Type | Labels | Meaning |\n|---|---|---|---|";
        lines.extend(heading(title, columns));
        for metric in METRICS.iter().filter(|metric| metric.is_contract == is_contract) {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let buckets = match metric.kind {
                MetricKind::Histogram(buckets) => format!(". Buckets: {}", listed(buckets)),
                MetricKind::Counter | MetricKind::Gauge => String::new(),
            };
            lines.push(format!(
                "| `{}` | {} | {} | {}{buckets} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                escaped(metric.help)
            ));
        }
    }
    lines
}

fn listed(buckets: &[f64]) -> String {
    let texts: Vec<_> = buckets.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

fn exit_codes() -> Vec<String> {
    let rows = MEANINGS
        .iter()
        .map(|(code, meaning)| format!("| {code} | {meaning} |"));
    let head = [String::new(), "| Code | Meaning |\n|---|---|".into()];
    head.into_iter().chain(rows).collect()
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
