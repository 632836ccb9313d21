//! The table itself, group by group.

use asya_program::Shown;
use asya_program::rabbitmq::variables as rabbitmq;

use super::{Group, Variable};

/// Declares the variables and the list of them all.
macro_rules! variables {
    ($($name:ident = $variable:expr;)*) => {
        $(pub(in crate::program) static $name: Variable = $variable;)*

        /// Every variable, in the order in which they are shown.
        pub(super) static VARIABLES: &[&Variable] = &[$(&$name),*];
    };
}

variables! {
    PORT = Variable::contract("ASYA_GATEWAY_PORT", "8080", Group::Listener,
        "Port for everything: REST, streams, MCP and gRPC. `0` takes a free one, which the log names.");
    BIND = Variable::new("ASYA_GATEWAY_BIND", "", Group::Listener,
        "IP address to listen on.")
        .otherwise("127.0.0.1; with `ASYA_AUTH` all addresses");
    TLS_CERT_FILE = Variable::new("ASYA_TLS_CERT_FILE", "", Group::Listener,
        "PEM file with the certificate of the gateway, then those that signed it. Read again when it changes.")
        .otherwise("no TLS");
    TLS_KEY_FILE = Variable::new("ASYA_TLS_KEY_FILE", "", Group::Listener,
        "PEM file with the private key of that certificate.");
    PUBLIC_URL = Variable::new("ASYA_PUBLIC_URL", "", Group::Listener,
        "Under which address clients know the gateway, for OAuth.")
        .otherwise("as each request says").shown(Shown::Url);

    CONFIG_PATH = Variable::contract("ASYA_CONFIG_PATH", "", Group::Tools,
        "File with tools, or directory with `*.yaml` and `*.yml` files. Read again when it changes.")
        .otherwise("no tools").fatal();

    DATABASE_URL = Variable::contract("ASYA_DATABASE_URL", "", Group::Database,
        "`postgres://USER:PASSWORD@HOST:PORT/DATABASE`, a PostgreSQL DSN (`host=… dbname=…`), or `sqlite://PATH`.")
        .otherwise("SQLite in `ASYA_STATE_DIR`").shown(Shown::Url).fatal();
    DATABASE_MIGRATE = Variable::new("ASYA_DATABASE_MIGRATE", "true", Group::Database,
        "Whether the start brings the tables of PostgreSQL up to date. If not, it only checks them: run \
         `asya-gateway migrate` before.");
    DATABASE_MIRROR = Variable::new("ASYA_DATABASE_MIRROR", "true", Group::Database,
        "Whether payloads and results are also written where replicas of the original read them. Without such replicas \
         over the same PostgreSQL, `false` saves space and time.");
    DB_MAX_CONNS = Variable::contract("ASYA_DB_MAX_CONNS", "10", Group::Database,
        "Most connections to PostgreSQL, beside two for notices and the housekeeping.");
    DB_MIN_CONNS = Variable::contract("ASYA_DB_MIN_CONNS", "2", Group::Database,
        "Connections to PostgreSQL that are kept when idle.");
    DB_MAX_CONN_LIFETIME = Variable::contract("ASYA_DB_MAX_CONN_LIFETIME", "1h", Group::Database,
        "How old a connection may become.");
    DB_MAX_CONN_IDLE_TIME = Variable::contract("ASYA_DB_MAX_CONN_IDLE_TIME", "30m", Group::Database,
        "How long a connection may be idle.");
    STATE_DIR = Variable::new("ASYA_STATE_DIR", ".asya", Group::Database,
        "Directory of the embedded database and of local queues. Made if missing.");

    TRANSPORT = Variable::new("ASYA_TRANSPORT", "", Group::Queues,
        "`rabbitmq`; or `local`, the queues in `ASYA_STATE_DIR` that `asya up` uses. This build has no `sqs`.")
        .otherwise("`rabbitmq` if its address is given");
    SQS_ENDPOINT = Variable::contract("ASYA_SQS_ENDPOINT", "", Group::Queues,
        "Endpoint of SQS. It would choose SQS, which this build does not have: set `ASYA_TRANSPORT` beside it.")
        .shown(Shown::Url);

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

    AUTH = Variable::new("ASYA_AUTH", "", Group::Auth,
        "How clients are told apart: `none`, `keys` or `oidc`. Unset, the gateway asks nobody and listens on this \
         machine alone.")
        .otherwise("loopback only");
    AUTH_KEYS_FILE = Variable::new("ASYA_AUTH_KEYS_FILE", "", Group::Auth,
        "File with the keys of `ASYA_AUTH=keys`: one line each, with a name, `sha256:` and the hash, roles, tenant. \
         `asya-gateway key NAME` makes one. Read again when it changes.");
    AUTH_SIDECAR_TOKEN = Variable::new("ASYA_AUTH_SIDECAR_TOKEN", "", Group::Auth,
        "Token that sidecars show. With it nobody else may report about envelopes, whatever `ASYA_AUTH` says.")
        .shown(Shown::Never);
    AUTH_SIDECAR_TOKEN_FILE = Variable::new("ASYA_AUTH_SIDECAR_TOKEN_FILE", "", Group::Auth,
        "File that holds it.");
    AUTH_OPERATOR_TOKEN = Variable::new("ASYA_AUTH_OPERATOR_TOKEN", "", Group::Auth,
        "Token that the operator shows. With it nobody else may report about actors.")
        .shown(Shown::Never);
    AUTH_OPERATOR_TOKEN_FILE = Variable::new("ASYA_AUTH_OPERATOR_TOKEN_FILE", "", Group::Auth,
        "File that holds it.");
    AUTH_OIDC_ISSUER = Variable::new("ASYA_AUTH_OIDC_ISSUER", "", Group::Auth,
        "Who issues the tokens of `ASYA_AUTH=oidc`, exactly as in their claim `iss`.");
    AUTH_OIDC_AUDIENCE = Variable::new("ASYA_AUTH_OIDC_AUDIENCE", "", Group::Auth,
        "For whom the tokens must be: names separated by commas, one of which stands in the claim `aud`.");
    AUTH_OIDC_JWKS_URL = Variable::new("ASYA_AUTH_OIDC_JWKS_URL", "", Group::Auth,
        "Where the issuer's keys are.")
        .otherwise("found through the issuer").shown(Shown::Url);
    AUTH_OIDC_TENANT_CLAIM = Variable::new("ASYA_AUTH_OIDC_TENANT_CLAIM", "", Group::Auth,
        "Claim that names the caller's tenant. A caller with a tenant sees the envelopes of this tenant alone; tokens \
         without the claim are refused.")
        .otherwise("no tenants");

    ALLOWED_ORIGINS = Variable::new("ASYA_ALLOWED_ORIGINS", "", Group::Origins,
        "Origins of web pages that may speak to the gateway, such as `https://app.example.com`, separated by commas; \
         `*` for all.")
        .otherwise("none; on loopback pages of this machine");
    ALLOWED_HOSTS = Variable::new("ASYA_ALLOWED_HOSTS", "", Group::Origins,
        "Host names, without port, under which the gateway may be reached, separated by commas.")
        .otherwise("all; on loopback names of this machine");

    MAX_BODY = Variable::new("ASYA_GATEWAY_MAX_BODY", "10Mi", Group::Limits,
        "Largest request in bytes; `Ki`, `Mi`, `k` and `M` are understood. At most 64Mi, and what the queues take.");
    MAX_STREAMS = Variable::new("ASYA_GATEWAY_MAX_STREAMS", "20000", Group::Limits,
        "Most streams of events that are open at a time.");
    RETENTION_UPDATES = Variable::new("ASYA_RETENTION_UPDATES", "24h", Group::Limits,
        "How long the history of an envelope is kept after its end; `forever` for no limit.");
    RETENTION_ENVELOPES = Variable::new("ASYA_RETENTION_ENVELOPES", "720h", Group::Limits,
        "How long an envelope is kept after its end, with payload and result; `forever` for no limit.");

    LOG_LEVEL = Variable::contract("ASYA_LOG_LEVEL", "INFO", Group::Logs,
        "`DEBUG`, `INFO`, `WARN` (`WARNING`) or `ERROR`, in any case.");
    LOG_FORMAT = Variable::new("ASYA_LOG_FORMAT", "", Group::Logs,
        "`json`; `text`, which is `key=value` as the original writes it; or `pretty`.")
        .otherwise("`pretty` on a terminal, else `json`");
    METRICS_ADDR = Variable::new("ASYA_METRICS_ADDR", "", Group::Logs,
        "Further address, as `HOST:PORT` or `:PORT`, that serves `/metrics` and health alone, without asking who asks.")
        .otherwise("`/metrics` on the gateway's port only");

    RABBITMQ_POOL_SIZE = Variable::contract("ASYA_RABBITMQ_POOL_SIZE", "20", Group::WithoutEffect,
        "Channels of the original. Here one carries all messages, each confirmed.");
    SQS_REGION = Variable::contract("ASYA_SQS_REGION", "us-east-1", Group::WithoutEffect,
        "Region of SQS.");
    SQS_VISIBILITY_TIMEOUT = Variable::contract("ASYA_SQS_VISIBILITY_TIMEOUT", "300", Group::WithoutEffect,
        "Visibility timeout of SQS.");
    SQS_WAIT_TIME_SECONDS = Variable::contract("ASYA_SQS_WAIT_TIME_SECONDS", "20", Group::WithoutEffect,
        "Long poll of SQS.");
}

/// Variables of sidecars, runtimes, the crew and the command line, and some that compose files of the original set
/// and nobody reads: not ours, and no misspelling of ours.
pub(super) static ELSEWHERE: &[&str] = &[
    "ASYA_GATEWAY_URL",
    "ASYA_GATEWAY_TIMEOUT",
    "ASYA_GATEWAY_FINAL_PATIENCE",
    "ASYA_GATEWAY_PROGRESS_RATE",
    "ASYA_GATEWAY_REGISTER_CHILDREN",
    "ASYA_GATEWAY_TOKEN",
    "ASYA_GATEWAY_TOKEN_FILE",
    "ASYA_GATEWAY_PROTOCOL",
    "ASYA_GATEWAY_HOST",
    "ASYA_GATEWAY_DB_HOST",
    "ASYA_GATEWAY_DB_PORT",
    "ASYA_GATEWAY_DB_NAME",
    "ASYA_GATEWAY_DB_USER",
    "ASYA_GATEWAY_DB_PASSWORD",
    "ASYA_CLI_MCP_URL",
    "ASYA_CLI_MCP_TOKEN",
    "ASYA_CLI_MCP_DEBUG",
    "ASYA_ACTOR_NAME",
    "ASYA_ACTOR_HAPPY_END",
    "ASYA_ACTOR_ERROR_END",
    "ASYA_HANDLER",
    "ASYA_HANDLER_MODE",
    "ASYA_MAX_MESSAGE_SIZE",
    "ASYA_MAX_HOPS",
    "ASYA_METRICS_ENABLED",
    "ASYA_METRICS_NAMESPACE",
    "ASYA_QUEUE_ARGUMENTS",
    "ASYA_QUEUE_AUTO_CREATE",
    "ASYA_RABBITMQ_PREFETCH",
    "ASYA_RESULTS_URL",
    "ASYA_SQS_MAX_MESSAGES",
    "ASYA_AWS_REGION",
    "ASYA_CLAIM_CHECK_URL",
    "ASYA_CLAIM_CHECK_THRESHOLD",
    "ASYA_PYTHON",
];
