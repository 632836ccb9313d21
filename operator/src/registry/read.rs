//! Reading the registry from the JSON of `ASYA_TRANSPORT_CONFIG`.
//!
//! Strict where a slip of the pen would go unnoticed, and patient where the original or its documentation was not
//! (contract operator §4.1): one report with every mistake, none of them fatal below a disabled entry.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{Fields, Notes, Report, member};
use super::{Broker, DeadLetter, Queues, RabbitMq, Registry, SecretKey, Sqs, SqsCredentials, Transport};

/// Names of the types that an entry may have.
const TYPES: [&str; 2] = ["rabbitmq", "sqs"];
/// Most seconds for which SQS hides a message.
const MOST_VISIBILITY: u32 = 43_200;
/// Most seconds of one long poll of SQS.
const MOST_WAIT: u32 = 20;
/// Most days for which SQS keeps a message.
const MOST_RETENTION: u32 = 14;
/// No broker and nobody needs more; keeps sums far from overflow.
const MOST_RETRIES: u32 = 100_000;

/// Reads the registry. The lines of both lists are `<key path>: <what>; <what to do>` and repeat no values.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn read(text: &str) -> Result<(Registry, Vec<String>), Vec<String>> {
    if text.trim().is_empty() {
        return Ok((Registry::default(), Vec::new()));
    }
    let document: Value = serde_json::from_str(text).map_err(|error| vec![not_json(&error)])?;
    let notes = Notes::new(false);
    let root = Fields::new(String::new(), Some(&document), &notes);
    let transports = root.object("transports");
    let mut registry = Registry::default();
    let mut reports = Vec::new();
    for (name, entry) in transports.members() {
        reports.push(add(&mut registry, name, entry, transports.path(name)));
    }
    root.finish();
    let Report {
        mut problems,
        mut warnings,
    } = notes.into_report();
    for report in reports {
        problems.extend(report.problems);
        warnings.extend(report.warnings);
    }
    if problems.is_empty() {
        Ok((registry, warnings))
    } else {
        Err(problems)
    }
}

fn not_json(error: &serde_json::Error) -> String {
    format!(
        "not JSON ({error}); expected {{\"transports\": {{\"<name>\": {{\"type\": \"rabbitmq\", \"enabled\": true, \
         \"config\": {{…}}}}}}}}"
    )
}

fn add(registry: &mut Registry, name: &str, entry: &Value, path: String) -> Report {
    let enabled = entry.as_object().and_then(|entry| member(entry, "enabled"));
    let notes = Notes::new(!matches!(enabled, Some((_, Value::Bool(true)))));
    let fields = Fields::new(path, Some(entry), &notes);
    let enabled = fields.flag("enabled", false);
    let broker = match fields.text("type") {
        Some("rabbitmq") => Some(Broker::RabbitMq(rabbitmq(&fields.object("config")))),
        Some("sqs") => Some(Broker::Sqs(sqs(&fields.object("config")))),
        other => {
            fields.value("config");
            let what = if other.is_some() {
                "unknown type"
            } else {
                "not set"
            };
            fields.problem("type", format!("{what}; expected one of {}", TYPES.join(", ")));
            None
        }
    };
    fields.finish();
    match broker {
        Some(broker) => {
            registry.transports.insert(
                name.to_owned(),
                Transport {
                    name: name.to_owned(),
                    enabled,
                    broker,
                },
            );
        }
        None => {
            registry.unreadable.insert(name.to_owned());
        }
    }
    notes.into_report()
}

fn rabbitmq(config: &Fields<'_>) -> RabbitMq {
    let tls = config.flag("tls", false);
    let port = |key| {
        config
            .number(key, u16::MAX.into())
            .and_then(|port| u16::try_from(port).ok())
    };
    let broker = RabbitMq {
        host: host(config),
        port: port("port").unwrap_or(if tls { 5671 } else { 5672 }),
        username: config.text("username").unwrap_or("guest").to_owned(),
        password: secret(config, "passwordSecretRef"),
        exchange: config.text("exchange").unwrap_or("asya").to_owned(),
        vhost: config.text("vhost").unwrap_or("/").to_owned(),
        tls,
        management_port: port("managementPort"),
        queues: queues(&config.object("queues"), u32::MAX),
        behavior: behavior(config),
    };
    if config.has("password") {
        config.value("password");
        config.problem(
            "password",
            "passwords do not stand here in clear; put it into a Secret in the namespace of each actor and name \
             that under passwordSecretRef: {name, key}",
        );
    }
    config.finish();
    broker
}

fn host(config: &Fields<'_>) -> String {
    let Some(host) = config.text("host") else {
        config.lacks("host", "not set; no actor can use this transport until it is");
        return String::new();
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    let has_port = bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err();
    if has_port || bare.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@')) {
        config.problem(
            "host",
            "expected the name or the address of a host alone; the port stands under port, the user under username",
        );
    }
    bare.to_owned()
}

fn sqs(config: &Fields<'_>) -> Sqs {
    let needed = |key, without: &str| {
        let text = config.text(key);
        if text.is_none() {
            config.lacks(key, format!("not set; {without}"));
        }
        text.unwrap_or_default().to_owned()
    };
    let account = config.object("serviceAccount");
    let broker = Sqs {
        region: needed(
            "region",
            "autoscaling needs it, and so does the broker's client unless AWS_REGION is set",
        ),
        account_id: needed("accountId", "autoscaled actors need it"),
        endpoint: config
            .text("endpoint")
            .map(|url| url.trim_end_matches('/').to_owned()),
        actor_role_arn: config.text("actorRoleArn").map(str::to_owned),
        service_account_per_actor: account.flag("perActor", false),
        visibility_timeout: config.number("visibilityTimeout", MOST_VISIBILITY),
        wait_time: config.number("waitTimeSeconds", MOST_WAIT),
        credentials: credentials(config),
        queues: queues(&config.object("queues"), MOST_RETENTION),
        tags: config.texts("tags").collect::<BTreeMap<_, _>>(),
        behavior: behavior(config),
    };
    account.finish();
    config.ignored(
        "queueBaseUrl",
        "addresses of queues follow from endpoint, region and accountId",
    );
    config.finish();
    broker
}

fn credentials(config: &Fields<'_>) -> Option<SqsCredentials> {
    config.value("credentials")?;
    let fields = config.object("credentials");
    let id = secret(&fields, "accessKeyIdSecretRef");
    let secret_key = secret(&fields, "secretAccessKeySecretRef");
    for (key, given, other) in [
        ("accessKeyIdSecretRef", id.is_some(), secret_key.is_some()),
        ("secretAccessKeySecretRef", secret_key.is_some(), id.is_some()),
    ] {
        if !given && other && !fields.has(key) {
            fields.problem(
                key,
                "not set, but the other half is; expected both or none of the two",
            );
        }
    }
    fields.finish();
    Some(SqsCredentials {
        access_key_id: id?,
        secret_access_key: secret_key?,
    })
}

fn secret(config: &Fields<'_>, key: &'static str) -> Option<SecretKey> {
    config.value(key)?;
    let fields = config.object(key);
    let (name, item) = (fields.text("name"), fields.text("key"));
    let optional = fields.flag("optional", false);
    for (field, value) in [("name", name), ("key", item)] {
        if value.is_none() {
            fields.problem(
                field,
                "not set; expected {\"name\": \"<Secret>\", \"key\": \"<key in it>\"}",
            );
        }
    }
    fields.finish();
    Some(SecretKey {
        name: name?.to_owned(),
        key: item?.to_owned(),
        optional,
    })
}

fn queues(fields: &Fields<'_>, most_retention: u32) -> Queues {
    let letters = fields.object("dlq");
    let read = Queues {
        auto_create: fields.flag("autoCreate", true),
        force_recreate: fields.flag("forceRecreate", false),
        dead_letter: DeadLetter {
            enabled: letters.flag("enabled", false),
            max_retry_count: letters.number("maxRetryCount", MOST_RETRIES).unwrap_or(3),
            retention_days: letters.number("retentionDays", most_retention).unwrap_or(14),
            per_actor: letters.flag("perActor", false),
        },
        arguments: arguments(fields),
        quorum: fields.flag("quorum", true),
    };
    name_template(fields);
    if letters.has("maxReceiveCount") {
        letters.value("maxReceiveCount");
        letters.problem("maxReceiveCount", "unknown key; it is called maxRetryCount here");
    }
    letters.finish();
    fields.finish();
    read
}

fn arguments(fields: &Fields<'_>) -> Map<String, Value> {
    fields.value("arguments");
    if !fields.has("arguments") {
        return Map::new();
    }
    let arguments = fields.object("arguments").members().clone();
    for (name, value) in &arguments {
        if value.is_array() || value.is_object() || value.is_null() {
            let text = "expected a text, a number, or true or false";
            fields.problem("arguments", format!("{name}: {text}"));
        }
    }
    arguments
}

/// Nothing but what everybody calls the queues may be said.
fn name_template(fields: &Fields<'_>) {
    let template = fields.text("nameTemplate");
    if template.is_some_and(|template| template != "asya-{actor}") {
        fields.problem(
            "nameTemplate",
            "expected asya-{actor}, since sidecars and the gateway know queues by no other names; leave it out",
        );
    }
}

fn behavior(config: &Fields<'_>) -> Option<Value> {
    let value = config.value("behavior")?;
    if !value.is_object() {
        config.problem(
            "behavior",
            "expected an object as in a HorizontalPodAutoscaler: {\"scaleUp\": {…}, …}",
        );
    }
    Some(value.clone())
}

impl Registry {
    /// One line for the log: names and types, without settings.
    pub fn summary(&self) -> String {
        let read = self.transports.values().map(|transport| {
            let state = if transport.enabled { "" } else { ", disabled" };
            format!("{} ({}{state})", transport.name, transport.broker.kind())
        });
        let unreadable = self.unreadable.iter().map(|name| format!("{name} (disabled)"));
        let all: BTreeSet<String> = read.chain(unreadable).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.into_iter().collect::<Vec<_>>().join(", ")
        }
    }
}
