//! `--help`, and the tables of `docs/operator.md`, both made from the tables of variables, flags, metrics and exit
//! codes.

use asya_program::help::{self, Below, escaped};
use clap::Args as _;

use super::arguments::Arguments;
use super::metrics;
use super::variables::TABLE;

/// Code and meaning, for people.
const MEANINGS: &[(&str, &str)] = &[
    (
        "0",
        "Asked to end by SIGTERM or SIGINT, at any time: what was being written is written, and the lease is given back. `--check`: the configuration is good. `--dry-run`: every actor can be applied.",
    ),
    (
        "1",
        "Cannot go on: the configuration is wrong, no cluster is known or it does not know who asks, the cluster has no name, an address is taken. `--check`: mistakes were found. `--dry-run`, `convert`: so they were in a manifest.",
    ),
    ("2", "Unknown option or command, or a bad value of an option."),
    (
        "3",
        "The lease was lost: another replica holds it, or it could not be renewed for 10 s. Nothing more is written; Kubernetes starts the replica again, and it waits for the lease.",
    ),
    (
        "130, 143",
        "A second SIGINT or SIGTERM came while it ended; it ended at once, and the lease expires by itself.",
    ),
];

/// What stands below the options.
pub fn long_help() -> String {
    let below = Below {
        notes: &[
            "In brackets: the default. An empty value counts as unset. Durations: 90s, 5m, 1h30m, or seconds.",
            "A bad value of a variable that the original operator has too is a warning, of most others the end.",
        ],
        exit_codes: MEANINGS,
        examples_title: "Examples",
        examples: &[
            "What would be applied for the manifests of a directory, without any cluster:",
            "  export ASYA_TRANSPORT_CONFIG='{\"transports\": {\"rabbitmq\": {\"type\": \"rabbitmq\", \"enabled\": true,",
            "    \"config\": {\"host\": \"rabbitmq\", \"passwordSecretRef\": {\"name\": \"rabbitmq\", \"key\": \"password\"}}}}}'",
            "  asya-operator --dry-run examples/document-pipeline",
            "The custom resource definition:",
            "  asya-operator crd | kubectl apply --server-side -f -",
            "Against the cluster of the present kubeconfig:",
            "  asya-operator --kubeconfig ~/.kube/config",
        ],
    };
    help::text(&TABLE, &below)
}

/// The generated parts of `docs/operator.md`, each between the markers that stand there.
pub(super) fn markdown() -> String {
    help::markdown([
        ("flags", flags()),
        ("variables", help::variables(&TABLE)),
        ("metrics", metrics::table()),
        ("exit-codes", help::exit_codes(MEANINGS)),
    ])
}

/// The table of options that take part in running.
fn flags() -> Vec<String> {
    let command = Arguments::augment_args(clap::Command::new("asya-operator"));
    let mut lines = vec![
        String::new(),
        "| Option | Default | Meaning |\n|---|---|---|".to_owned(),
    ];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let Some(name) = argument.get_long() else { continue };
        let values = argument
            .get_value_names()
            .filter(|_| argument.get_action().takes_values());
        let value = values
            .map(|names| format!(" {}", names.join(" ")))
            .unwrap_or_default();
        let value = if argument.is_require_equals_set() {
            value.replacen(' ', "=", 1)
        } else {
            value
        };
        let default = argument
            .get_default_values()
            .first()
            .and_then(|value| value.to_str());
        let default = default.map(|value| format!("`{value}`")).unwrap_or_default();
        let meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
        lines.push(format!(
            "| `--{name}{value}` | {default} | {}. |",
            escaped(meaning.trim_end_matches('.'))
        ));
    }
    lines
}
