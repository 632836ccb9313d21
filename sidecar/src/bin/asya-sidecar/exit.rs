//! What the exit codes of the program mean; `--help` and `docs/sidecar.md` show them.

/// Code and meaning, for people.
pub(crate) const MEANINGS: &[(&str, &str)] = &[
    (
        "0",
        "Asked to end by SIGTERM or SIGINT, at any time; what was not finished within the grace is back in its queue. Or the work is done (`ASYA_RUN_UNTIL`). `--check`: the configuration is good.",
    ),
    (
        "1",
        "Cannot go on: the configuration is wrong, the broker refused login, virtual host or exchange at the start, the runtime was never ready or never free again, or a part of the sidecar failed too often.",
    ),
    ("2", "Unknown option on the command line."),
    (
        "130, 143",
        "A second SIGINT or SIGTERM came while it drained; it ended at once. What it held returns to the queue.",
    ),
];
