//! The variables that the crew reads, as one table (contract data-plane §5.2, §5.3).

use asya_program::{Shown, Table};

/// One variable of the crew.
pub(crate) type Variable = asya_program::Variable<Group>;

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Actor,
    Results,
    Socket,
    Logs,
}

impl asya_program::Group for Group {
    const ALL: &'static [Self] = &[Self::Actor, Self::Results, Self::Socket, Self::Logs];

    fn title(self) -> &'static str {
        match self {
            Self::Actor => "Actor",
            Self::Results => "Results",
            Self::Socket => "Socket",
            Self::Logs => "Logs",
        }
    }
}

pub(crate) static HANDLER: Variable = Variable::new(
    "ASYA_HANDLER",
    "",
    Group::Actor,
    "Which end this is: `handlers.end_handlers.happy_end_handler` or `handlers.end_handlers.error_end_handler`; also just `happy-end` or `error-end`.",
)
.otherwise("required");
pub(crate) static HANDLER_MODE: Variable = Variable::new(
    "ASYA_HANDLER_MODE",
    "envelope",
    Group::Actor,
    "An end actor takes whole envelopes, so anything but `envelope` is refused.",
);
pub(crate) static VALIDATION: Variable = Variable::new(
    "ASYA_ENABLE_VALIDATION",
    "false",
    Group::Actor,
    "An end actor takes every envelope as it is, so `true` is refused.",
);
pub(crate) static RESULTS_URL: Variable = Variable::new(
    "ASYA_RESULTS_URL",
    "",
    Group::Results,
    "Where results are kept if `ASYA_S3_BUCKET` is not set: a directory, `file:///PATH` or `s3://BUCKET/PREFIX`.",
)
.otherwise("results are not kept");
pub(crate) static BUCKET: Variable = Variable::contract(
    "ASYA_S3_BUCKET",
    "",
    Group::Results,
    "Name of the bucket for results.",
)
.otherwise("no bucket");
pub(crate) static ENDPOINT: Variable = Variable::contract(
    "ASYA_S3_ENDPOINT",
    "",
    Group::Results,
    "Where the bucket is, if not at AWS, e.g. `http://minio:9000`.",
)
.otherwise("AWS");
pub(crate) static ACCESS_KEY: Variable = Variable::contract(
    "ASYA_S3_ACCESS_KEY",
    "",
    Group::Results,
    "Access key id; with an endpoint `minioadmin` unless set. Without both keys the `AWS_*` variables and the pod's role count.",
)
.otherwise("see there")
.shown(Shown::Never);
pub(crate) static SECRET_KEY: Variable = Variable::contract(
    "ASYA_S3_SECRET_KEY",
    "",
    Group::Results,
    "Secret access key; with an endpoint `minioadmin` unless set.",
)
.otherwise("see there")
.shown(Shown::Never);
pub(crate) static REGION: Variable = Variable::contract(
    "ASYA_S3_REGION",
    "us-east-1",
    Group::Results,
    "Region of the bucket.",
)
.aliases(&["AWS_REGION"]);
pub(crate) static RESULTS_PREFIX: Variable = Variable::contract(
    "ASYA_S3_RESULTS_PREFIX",
    "happy-asya/",
    Group::Results,
    "Begins the keys of what `happy-end` stores.",
);
pub(crate) static ERRORS_PREFIX: Variable = Variable::contract(
    "ASYA_S3_ERRORS_PREFIX",
    "error-asya/",
    Group::Results,
    "Begins the keys of what `error-end` stores.",
);
pub(crate) static SOCKET_DIR: Variable = Variable::contract(
    "ASYA_SOCKET_DIR",
    "/var/run/asya",
    Group::Socket,
    "Directory of the sockets and the ready file, shared with the sidecar.",
);
pub(crate) static SOCKET_NAME: Variable = Variable::contract(
    "ASYA_SOCKET_NAME",
    "asya-runtime.sock",
    Group::Socket,
    "Name of the socket in it.",
);
pub(crate) static MAX_MESSAGE_SIZE: Variable = Variable::new(
    "ASYA_MAX_MESSAGE_SIZE",
    "64Mi",
    Group::Socket,
    "Largest envelope.",
);
pub(crate) static CONCURRENCY: Variable = Variable::new(
    "ASYA_CONCURRENCY",
    "32",
    Group::Socket,
    "Envelopes that are stored side by side.",
);
pub(crate) static SHUTDOWN_GRACE: Variable = Variable::new(
    "ASYA_SHUTDOWN_GRACE",
    "30s",
    Group::Socket,
    "After SIGTERM serve on so long, or until the sidecar has said goodbye or left `sidecar-drained` beside the socket.",
);
pub(crate) static LOG_LEVEL: Variable = Variable::contract(
    "ASYA_LOG_LEVEL",
    "info",
    Group::Logs,
    "Least important lines that are written: `debug`, `info`, `warn` or `error`.",
);
pub(crate) static LOG_FORMAT: Variable = Variable::new(
    "ASYA_LOG_FORMAT",
    "",
    Group::Logs,
    "How lines are written: `json`, or `pretty` for people.",
)
.otherwise("`pretty` on a terminal, else `json`");

/// All of them.
pub(crate) static TABLE: Table<Group> = Table {
    variables: &[
        &HANDLER,
        &HANDLER_MODE,
        &VALIDATION,
        &RESULTS_URL,
        &BUCKET,
        &ENDPOINT,
        &ACCESS_KEY,
        &SECRET_KEY,
        &REGION,
        &RESULTS_PREFIX,
        &ERRORS_PREFIX,
        &SOCKET_DIR,
        &SOCKET_NAME,
        &MAX_MESSAGE_SIZE,
        &CONCURRENCY,
        &SHUTDOWN_GRACE,
        &LOG_LEVEL,
        &LOG_FORMAT,
    ],
    elsewhere: &[
        "ASYA_GATEWAY_URL",
        "ASYA_RESULTS_BUCKET",
        "ASYA_ERRORS_BUCKET",
        "ASYA_STORAGE",
    ],
};

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_in_order() {
        assert_eq!(super::TABLE.mistakes(), Vec::<String>::new());
    }
}
