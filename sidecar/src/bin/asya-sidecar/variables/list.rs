//! The table itself, group by group.

use asya_program::Shown;
use asya_program::rabbitmq::variables as rabbitmq;

use super::{Group, Variable};

/// Declares the variables and the list of them all.
macro_rules! variables {
    ($($name:ident = $variable:expr;)*) => {
        $(pub(crate) static $name: Variable = $variable;)*

        /// Every variable, in the order in which they are shown.
        pub(crate) static VARIABLES: &[&Variable] = &[$(&$name),*];
    };
}

variables! {
    ACTOR_NAME = Variable::contract("ASYA_ACTOR_NAME", "", Group::Actor,
        "Name of the actor; its queue is `asya-<name>`.")
        .otherwise("required").fatal();
    TRANSPORT = Variable::contract("ASYA_TRANSPORT", "rabbitmq", Group::Actor,
        "Kind of broker. This build has `rabbitmq` alone.")
        .fatal();
    IS_END_ACTOR = Variable::contract("ASYA_IS_END_ACTOR", "false", Group::Actor,
        "Whether routes end here: nothing is published, the final status is reported.");
    HAPPY_END = Variable::contract("ASYA_ACTOR_HAPPY_END", "happy-end", Group::Actor,
        "Actor that takes envelopes at the end of their route.")
        .aliases(&["ASYA_STEP_HAPPY_END"]).fatal();
    ERROR_END = Variable::contract("ASYA_ACTOR_ERROR_END", "error-end", Group::Actor,
        "Actor that takes envelopes that failed.")
        .aliases(&["ASYA_STEP_ERROR_END"]).fatal();

    RABBITMQ_URL = rabbitmq::url(Group::RabbitMq);
    RABBITMQ_HOST = rabbitmq::host(Group::RabbitMq);
    RABBITMQ_PORT = rabbitmq::port(Group::RabbitMq);
    RABBITMQ_USERNAME = rabbitmq::username(Group::RabbitMq);
    RABBITMQ_PASSWORD = rabbitmq::password(Group::RabbitMq);
    RABBITMQ_PASSWORD_FILE = rabbitmq::password_file(Group::RabbitMq);
    RABBITMQ_VHOST = rabbitmq::vhost(Group::RabbitMq);
    RABBITMQ_TLS = rabbitmq::tls(Group::RabbitMq);
    RABBITMQ_CA_FILE = rabbitmq::ca_file(Group::RabbitMq);
    RABBITMQ_CERT_FILE = rabbitmq::cert_file(Group::RabbitMq);
    RABBITMQ_KEY_FILE = rabbitmq::key_file(Group::RabbitMq);
    RABBITMQ_EXCHANGE = rabbitmq::exchange(Group::RabbitMq);
    RABBITMQ_PREFETCH = Variable::contract("ASYA_RABBITMQ_PREFETCH", "", Group::RabbitMq,
        "How many messages may be held unsettled. Unset: chosen by how long the handler takes.")
        .otherwise("tuned, 1 to 1024");

    QUEUE_AUTO_CREATE = Variable::contract("ASYA_QUEUE_AUTO_CREATE", "false", Group::Queues,
        "Whether the actor's own queue is created, durable, when it is missing; for an end actor also its dead-letter queue.");
    QUEUE_ARGUMENTS = Variable::new("ASYA_QUEUE_ARGUMENTS", "{}", Group::Queues,
        "Arguments of a queue that is created, as a JSON object. An existing queue is used as it is.");
    UNROUTABLE_TIMEOUT = Variable::new("ASYA_UNROUTABLE_TIMEOUT", "30s", Group::Queues,
        "How long a publish to a missing queue is tried before the envelope goes to error-end.");

    SOCKET_DIR = Variable::contract("ASYA_SOCKET_DIR", "/var/run/asya", Group::Runtime,
        "Directory of the runtime's socket and ready file.")
        .aliases(&["ASYA_SOCKETS_DIR"]);
    SOCKET_NAME = Variable::contract("ASYA_SOCKET_NAME", "asya-runtime.sock", Group::Runtime,
        "File name of the socket.");
    SOCKET_PATH = Variable::contract("ASYA_SOCKET_PATH", "", Group::Runtime,
        "Full path of the socket, in place of the two above; either of them wins over its part of it.");
    RUNTIME_TIMEOUT = Variable::contract("ASYA_RUNTIME_TIMEOUT", "5m", Group::Runtime,
        "Longest time for one call of the handler.");
    RUNTIME_READY_TIMEOUT = Variable::contract("ASYA_RUNTIME_READY_TIMEOUT", "5m", Group::Runtime,
        "Longest wait for the runtime at the start and after it went away.");
    RUNTIME_PROTOCOL = Variable::new("ASYA_RUNTIME_PROTOCOL", "auto", Group::Runtime,
        "`auto`: protocol v2 where the runtime offers it, else v1. `v1`: v1 always.");

    MAX_DELIVERIES = Variable::new("ASYA_MAX_DELIVERIES", "3", Group::Limits,
        "Deliveries above which a message runs alone; only its own failure condemns it then.");
    MAX_MESSAGE_SIZE = Variable::new("ASYA_MAX_MESSAGE_SIZE", "64Mi", Group::Limits,
        "Largest message in bytes; `Ki`, `Mi`, `k` and `M` are understood. At most 64Mi.");
    MAX_HOPS = Variable::new("ASYA_MAX_HOPS", "10000", Group::Limits,
        "Hops after which an envelope is taken for a loop and fails.");

    RETRY_MAX_ATTEMPTS = Variable::new("ASYA_RETRY_MAX_ATTEMPTS", "1", Group::Retries,
        "Runs of a message, the first included. 1 is no retry.");
    RETRY_INITIAL_BACKOFF = Variable::new("ASYA_RETRY_INITIAL_BACKOFF", "1s", Group::Retries,
        "Wait before the second run.");
    RETRY_MAX_BACKOFF = Variable::new("ASYA_RETRY_MAX_BACKOFF", "5m", Group::Retries,
        "Longest wait between two runs.");
    RETRY_MULTIPLIER = Variable::new("ASYA_RETRY_MULTIPLIER", "2", Group::Retries,
        "By how much each wait is longer than the one before.");
    RETRY_JITTER = Variable::new("ASYA_RETRY_JITTER", "0.5", Group::Retries,
        "Part of each wait, 0 to 1, that is left to chance.");
    RETRY_MAX_DURATION = Variable::new("ASYA_RETRY_MAX_DURATION", "", Group::Retries,
        "Time after the first run in which a further one may begin.")
        .otherwise("no limit");
    RETRY_ON = Variable::new("ASYA_RETRY_ON", "", Group::Retries,
        "Exceptions (with all that derive from them) and error codes that are retried, separated by commas.")
        .otherwise("all");
    RETRY_NEVER_ON = Variable::new("ASYA_RETRY_NEVER_ON", "", Group::Retries,
        "Exceptions and error codes that are never retried. Wins over `ASYA_RETRY_ON`.")
        .otherwise("none");

    GATEWAY_URL = Variable::contract("ASYA_GATEWAY_URL", "", Group::Gateway,
        "Base URL of the gateway. A gateway that is away never stops a message of a step.")
        .otherwise("no reports").shown(Shown::Url).fatal();
    GATEWAY_PROTOCOL = Variable::new("ASYA_GATEWAY_PROTOCOL", "auto", Group::Gateway,
        "`auto`: gRPC where the gateway offers it, HTTP otherwise; it is asked again every minute. `http`: HTTP always.");
    GATEWAY_TOKEN = Variable::new("ASYA_GATEWAY_TOKEN", "", Group::Gateway,
        "Bearer token that the gateway asks sidecars for. It wins over a user and password in the URL.")
        .otherwise("none").shown(Shown::Never);
    GATEWAY_TOKEN_FILE = Variable::new("ASYA_GATEWAY_TOKEN_FILE", "", Group::Gateway,
        "File with that token, read again every 30 s.")
        .otherwise("none");
    GATEWAY_TIMEOUT = Variable::new("ASYA_GATEWAY_TIMEOUT", "5s", Group::Gateway,
        "Longest time for one request to the gateway, and for the acknowledgement of a report.");
    GATEWAY_FINAL_PATIENCE = Variable::new("ASYA_GATEWAY_FINAL_PATIENCE", "30s", Group::Gateway,
        "How long an end actor tries to report a final status before its message returns to the queue.");
    GATEWAY_PROGRESS_RATE = Variable::new("ASYA_GATEWAY_PROGRESS_RATE", "100", Group::Gateway,
        "Most progress reports per second; 0 for no limit. What is beyond is left out. Children, retries, items of streams and final reports do not count.");
    GATEWAY_REGISTER_CHILDREN = Variable::new("ASYA_GATEWAY_REGISTER_CHILDREN", "true", Group::Gateway,
        "Whether results of a fan-out are made known to the gateway. The original's gateway also runs them, with a null payload: set this to false with such a gateway.");

    METRICS_ENABLED = Variable::contract("ASYA_METRICS_ENABLED", "true", Group::Endpoints,
        "Whether metrics and health are served at all.");
    METRICS_ADDR = Variable::contract("ASYA_METRICS_ADDR", ":8080", Group::Endpoints,
        "Where they are served, as `HOST:PORT`; without a host on all addresses.");
    METRICS_NAMESPACE = Variable::contract("ASYA_METRICS_NAMESPACE", "asya_actor", Group::Endpoints,
        "What the names of all metrics begin with.");
    CUSTOM_METRICS = Variable::contract("ASYA_CUSTOM_METRICS", "[]", Group::Endpoints,
        "Further metrics as a JSON array of `{name, type, help, labels, buckets}`. Checked; nothing sets them yet.")
        .fatal();

    LOG_LEVEL = Variable::contract("ASYA_LOG_LEVEL", "INFO", Group::Logs,
        "`DEBUG`, `INFO`, `WARN` (`WARNING`) or `ERROR`, in any case.");
    LOG_FORMAT = Variable::new("ASYA_LOG_FORMAT", "", Group::Logs,
        "`json`; `text`, which is `key=value` as the original writes it; or `pretty`.")
        .otherwise("`pretty` on a terminal, else `json`");

    SHUTDOWN_GRACE = Variable::new("ASYA_SHUTDOWN_GRACE", "25s", Group::Shutdown,
        "How long running calls may take after SIGTERM. What is not finished then returns to its queue. Keep it \
         below the pod's `terminationGracePeriodSeconds`.");

    RUN_UNTIL = Variable::new("ASYA_RUN_UNTIL", "stopped", Group::Shutdown,
        "When the work is done. `stopped`: never; `empty`: when the queue is empty; `one`: after one message, or when \
         the queue is empty. What waits for a retry elsewhere does not count.");

    AWS_REGION = Variable::contract("ASYA_AWS_REGION", "us-east-1", Group::WithoutEffect,
        "Region of SQS.")
        .aliases(&["ASYA_SQS_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]);
    SQS_ENDPOINT = Variable::contract("ASYA_SQS_ENDPOINT", "", Group::WithoutEffect,
        "Endpoint of SQS.")
        .aliases(&["ASYA_SQS_BASE_URL", "ASYA_QUEUE_BASE_URL"]).shown(Shown::Url);
    SQS_VISIBILITY_TIMEOUT = Variable::contract("ASYA_SQS_VISIBILITY_TIMEOUT", "0", Group::WithoutEffect,
        "Visibility timeout of SQS.");
    SQS_WAIT_TIME_SECONDS = Variable::contract("ASYA_SQS_WAIT_TIME_SECONDS", "20", Group::WithoutEffect,
        "Long poll of SQS.");
    SQS_MAX_MESSAGES = Variable::contract("ASYA_SQS_MAX_MESSAGES", "", Group::WithoutEffect,
        "Batch size of SQS.");
    QUEUE_RETRY_MAX_ATTEMPTS = Variable::contract("ASYA_QUEUE_RETRY_MAX_ATTEMPTS", "10", Group::WithoutEffect,
        "A missing queue of the actor's own is looked for until it is there.");
    QUEUE_RETRY_BACKOFF = Variable::contract("ASYA_QUEUE_RETRY_BACKOFF", "1s", Group::WithoutEffect,
        "Looking for a missing queue has a backoff of its own, at most 10 s.");
}

/// Variables of the runtime and the crew (contract data-plane §5.2, §5.3) and of the rest of the system: not ours,
/// and no misspelling of ours.
pub(crate) static ELSEWHERE: &[&str] = &[
    "ASYA_HANDLER",
    "ASYA_HANDLER_MODE",
    "ASYA_ENABLE_VALIDATION",
    "ASYA_SOCKET_CHMOD",
    "ASYA_CHUNK_SIZE",
    "ASYA_WORKERS",
    "ASYA_CONCURRENCY",
    "ASYA_BATCH_SIZE",
    "ASYA_BATCH_WAIT",
    "ASYA_STREAM",
    "ASYA_ROUTE_UNCHANGED",
    "ASYA_INCLUDE_METADATA",
    "ASYA_INCLUDE_ROUTE_INFO",
    "ASYA_CUDA_CLEANUP_ON_OOM",
    "ASYA_PARENT_PID",
    "ASYA_READY_FILE",
    "ASYA_S3_BUCKET",
    "ASYA_S3_ENDPOINT",
    "ASYA_S3_ACCESS_KEY",
    "ASYA_S3_SECRET_KEY",
    "ASYA_S3_REGION",
    "ASYA_S3_RESULTS_PREFIX",
    "ASYA_S3_ERRORS_PREFIX",
    "ASYA_STORAGE",
    "ASYA_RESULTS_BUCKET",
    "ASYA_ERRORS_BUCKET",
    "ASYA_RESULTS_URL",
    "ASYA_CLAIM_CHECK_URL",
    "ASYA_CLAIM_CHECK_THRESHOLD",
    "ASYA_STATE_DIR",
    "ASYA_PYTHON",
    "ASYA_AWS_ACCESS_KEY_ID",
];
