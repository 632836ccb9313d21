//! `--help`, and the tables of `docs/gateway.md`, both made from the tables of variables, metrics and exit codes.

use asya_program::help::{self, Below};

use super::metrics;
use super::variables::TABLE;

/// Code and meaning, for people.
const MEANINGS: &[(&str, &str)] = &[
    (
        "0",
        "Asked to end by SIGTERM or SIGINT, at any time; everything that was answered is durable. `--check`: the configuration is good. `migrate`: the tables are up to date.",
    ),
    (
        "1",
        "Cannot go on: the configuration or a tool file is wrong, the port is taken, the database refused or did not answer for 10 s, or the broker refused login, virtual host or exchange. `migrate --status`: some steps were not taken yet.",
    ),
    ("2", "Unknown option or command."),
    (
        "130, 143",
        "A second SIGINT or SIGTERM came while it ended; it ended at once. What was answered is durable all the same.",
    ),
];

/// What stands below the options.
pub fn long_help() -> String {
    let below = Below {
        notes: &[
            "In brackets: the default. An empty value counts as unset. Durations: 90s, 5m, 1h30m, or seconds.",
            "A bad value of a variable that the original gateway has too is a warning, of most others the end.",
        ],
        exit_codes: MEANINGS,
        examples_title: "Examples",
        examples: &[
            "On this machine, with the queues of `asya up DIR`:",
            "  ASYA_TRANSPORT=local ASYA_STATE_DIR=DIR/.asya ASYA_CONFIG_PATH=tools.yaml asya-gateway",
            "For others, with RabbitMQ and PostgreSQL:",
            "  ASYA_AUTH=keys ASYA_AUTH_KEYS_FILE=keys ASYA_CONFIG_PATH=tools.yaml \\",
            "  ASYA_RABBITMQ_URL=amqp://guest:guest@localhost/ \\",
            "  ASYA_DATABASE_URL=postgres://asya:secret@localhost/asya_gateway asya-gateway",
            "Before that, the mistakes, the tables and a key:",
            "  asya-gateway --check; asya-gateway migrate; asya-gateway key alice",
        ],
    };
    help::text(&TABLE, &below)
}

/// The generated parts of `docs/gateway.md`, each between the markers that stand there.
pub(super) fn markdown() -> String {
    help::markdown([
        ("variables", help::variables(&TABLE)),
        ("metrics", metrics::table()),
        ("exit-codes", help::exit_codes(MEANINGS)),
    ])
}
