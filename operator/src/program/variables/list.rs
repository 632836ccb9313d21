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
    TRANSPORT_CONFIG = Variable::contract("ASYA_TRANSPORT_CONFIG", "", Group::Brokers,
        "The transport registry as JSON: which brokers there are, and how they are used.")
        .otherwise("no transports").shown(Shown::Never).fatal();
    DISABLE_QUEUE_MANAGEMENT = Variable::contract("ASYA_DISABLE_QUEUE_MANAGEMENT", "", Group::Brokers,
        "Exactly `true`: no queue is created, changed or deleted. Any other value has no effect.")
        .otherwise("queues are managed");
    QUEUE_HEALTH_CHECK_INTERVAL = Variable::contract("ASYA_QUEUE_HEALTH_CHECK_INTERVAL", "", Group::Brokers,
        "How often each queue is looked for and made again if it is missing. A value that cannot be read is 5m.")
        .otherwise("not looked for");
    RABBITMQ_CA_FILE = rabbitmq::ca_file(Group::Brokers);

    SIDECAR_IMAGE = Variable::contract("ASYA_SIDECAR_IMAGE", "asya-sidecar:latest", Group::Pods,
        "Image of sidecars, unless the actor names another.");
    SIDECAR_RESOURCES = Variable::new("ASYA_SIDECAR_RESOURCES", "", Group::Pods,
        "Resources of sidecars, unless the actor names others: a JSON object with `requests` and `limits`.")
        .otherwise("none");
    SIDECAR_MODE = Variable::new("ASYA_SIDECAR_MODE", "container", Group::Pods,
        "Where the sidecar stands in the pod: `container`, beside the runtime; or `native`, an init container that \
         keeps running, from Kubernetes 1.29. The annotation `asya.sh/sidecar-mode` of an actor says otherwise for it.");
    RUNTIME_SCRIPT_PATH = Variable::contract("ASYA_RUNTIME_SCRIPT_PATH", "", Group::Pods,
        "File with the script that Python runtimes run. The path of older charts, `/runtime/asya_runtime.py`, may be \
         absent; any other must be readable.")
        .otherwise("the script of this build").fatal();
    RUNTIME_LOCAL_PATH = Variable::contract("ASYA_RUNTIME_LOCAL_PATH", "", Group::Pods,
        "The same, after it; ignored with a warning if it cannot be read.");
    RUNTIME_SOURCE = Variable::contract("ASYA_RUNTIME_SOURCE", "", Group::Pods,
        "`github` is a warning: nothing is fetched, the script of this build is used.");
    DISRUPTION_BUDGETS = Variable::new("ASYA_DISRUPTION_BUDGETS", "true", Group::Pods,
        "Whether actors that may have more than one pod get a PodDisruptionBudget.");

    WATCH_NAMESPACES = Variable::new("ASYA_WATCH_NAMESPACES", "", Group::Cluster,
        "Namespaces whose actors are worked on, separated by commas.")
        .otherwise("all");
    CLUSTER_NAME = Variable::new("ASYA_CLUSTER_NAME", "", Group::Cluster,
        "What this cluster is called on brokers that several clusters share. Never change it while there are queues.")
        .otherwise("uid of the namespace `kube-system`");
    RUNTIME_NAMESPACE = Variable::contract("ASYA_RUNTIME_NAMESPACE", "asya", Group::Cluster,
        "Namespace that gets the ConfigMap `asya-runtime` even without actors; `--runtime-namespace` wins.");
    POD_NAMESPACE = Variable::new("POD_NAMESPACE", "", Group::Cluster,
        "Namespace of the lease.")
        .otherwise("that of the service account or of the kubeconfig's context");
    MAX_CONCURRENT_RECONCILES = Variable::contract("ASYA_MAX_CONCURRENT_RECONCILES", "10", Group::Cluster,
        "Most actors that are worked on at a time; below 1 means 1; `--max-concurrent-reconciles` wins.");
    MAX_ROLLOUTS = Variable::new("ASYA_MAX_ROLLOUTS", "5", Group::Cluster,
        "Most workloads that roll at a time because of a new runtime script, sidecar or other setting of the operator.");
    STATUS_REFRESH = Variable::new("ASYA_STATUS_REFRESH", "1m", Group::Cluster,
        "How often counts of queues are refreshed. Nothing is written when they are the same.");
    KUBECONFIG = Variable::contract("KUBECONFIG", "", Group::Cluster,
        "Kubeconfig files, separated by colons; `--kubeconfig` wins.")
        .otherwise("the pod's service account, then `~/.kube/config`");

    GATEWAY_URL = Variable::contract("ASYA_GATEWAY_URL", "", Group::Gateway,
        "Gateway that sidecars report to, and that is told the status of every actor over gRPC.")
        .otherwise("none").shown(Shown::Url);
    GATEWAY_TOKEN = Variable::new("ASYA_GATEWAY_TOKEN", "", Group::Gateway,
        "Token that the operator shows to the gateway, which calls it `ASYA_AUTH_OPERATOR_TOKEN`.")
        .shown(Shown::Never);
    GATEWAY_TOKEN_FILE = Variable::new("ASYA_GATEWAY_TOKEN_FILE", "", Group::Gateway,
        "File that holds it. A line end at its end does not count.");

    LOG_LEVEL = Variable::contract("ASYA_LOG_LEVEL", "INFO", Group::Logs,
        "`DEBUG`, `INFO`, `WARN` (`WARNING`) or `ERROR`, in any case; `--zap-log-level` wins.");
    LOG_FORMAT = Variable::new("ASYA_LOG_FORMAT", "", Group::Logs,
        "`json`; `text`, which is `key=value`; or `pretty`; `--zap-encoder` wins.")
        .otherwise("`pretty` on a terminal, else `json`");

    RUNTIME_GITHUB_RELEASE = Variable::contract("ASYA_RUNTIME_GITHUB_RELEASE", "", Group::WithoutEffect,
        "Release that the original's chart names. Nothing is fetched.");
}

/// Variables of the rest of the system: not ours, and no misspelling of ours.
pub(super) static ELSEWHERE: &[&str] = &[
    "ASYA_ACTOR_NAME",
    "ASYA_ACTOR_HAPPY_END",
    "ASYA_ACTOR_ERROR_END",
    "ASYA_HANDLER",
    "ASYA_HANDLER_MODE",
    "ASYA_AUTH_OPERATOR_TOKEN",
    "ASYA_AUTH_OPERATOR_TOKEN_FILE",
    "ASYA_GATEWAY_PORT",
    "ASYA_GATEWAY_BIND",
    "ASYA_GATEWAY_TIMEOUT",
    "ASYA_TRANSPORT",
    "ASYA_RABBITMQ_URL",
    "ASYA_RABBITMQ_HOST",
    "ASYA_RUNTIME_TIMEOUT",
    "ASYA_QUEUE_ARGUMENTS",
    "ASYA_QUEUE_AUTO_CREATE",
    "ASYA_SOCKET_DIR",
    "ASYA_STATE_DIR",
];
