use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use asya_gateway_store::postgres::AtStart;

use super::*;
use crate::auth::Clients;
use crate::settings::{Listen, Queues};

/// Reads these variables and no others.
fn bare(variables: &[(&str, &str)]) -> Told {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    read(&Environment {
        variables,
        read_file: &|path: &Path| match path.to_str() {
            Some("/secret") => Ok("from-file-from-file\n".into()),
            Some("/short") => Ok("x\n".into()),
            Some("/pem") => Ok("pem".into()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    })
}

/// Reads `variables` besides a transport.
fn told(variables: &[(&str, &str)]) -> Told {
    bare(&[&[("ASYA_TRANSPORT", "local")], variables].concat())
}

fn good(variables: &[(&str, &str)]) -> Settings {
    let told = told(variables);
    assert_eq!(told.reading.warnings, [], "{variables:?}");
    told.reading.settings.expect("settings").settings
}

fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    let told = told(variables);
    assert!(told.reading.settings.is_err(), "{variables:?}");
    told.reading.problems().iter().map(ToString::to_string).collect()
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn without_variables_it_serves_this_machine_from_its_state_directory() {
    let settings = good(&[]);
    assert_eq!(settings.listen, Listen::At(address("127.0.0.1:8080")));
    assert!(settings.auth.origins.loopback_only);
    assert!(matches!(settings.auth.clients, Clients::Open));
    assert!(matches!(&settings.database, Database::Sqlite(path) if path == Path::new(".asya/gateway.db")));
    assert!(matches!(&settings.queues, Queues::Local(path) if path == Path::new(".asya/queue")));
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.retention, crate::settings::DEFAULT_RETENTION);
    assert!(settings.tools.tools().tools.is_empty());
}

#[test]
fn empty_is_unset() {
    let names = v::TABLE.variables.iter().map(|variable| (variable.name, ""));
    let all: Vec<_> = names.filter(|(name, _)| *name != "ASYA_TRANSPORT").collect();
    assert_eq!(good(&all).listen, Listen::loopback(8080));
}

#[test]
fn to_be_reached_by_others_one_must_choose_who_may_do_what() {
    for bind in ["0.0.0.0", "::", "10.1.2.3"] {
        let found = problems(&[("ASYA_GATEWAY_BIND", bind)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("ASYA_AUTH: ") && found[0].contains("none, keys or oidc"),
            "{found:?}"
        );
    }
    for bind in ["127.0.0.1", "::1"] {
        assert!(good(&[("ASYA_GATEWAY_BIND", bind)]).listen.is_loopback());
    }
    let everywhere = good(&[("ASYA_AUTH", "none"), ("ASYA_GATEWAY_PORT", "9")]);
    assert_eq!(everywhere.listen, Listen::Everywhere { port: 9 });
    assert!(!everywhere.auth.origins.loopback_only);
    let one = good(&[("ASYA_AUTH", "none"), ("ASYA_GATEWAY_BIND", "10.1.2.3")]);
    assert_eq!(one.listen, Listen::At(address("10.1.2.3:8080")));
    // A slip of the pen must not open the gateway.
    assert_eq!(problems(&[("ASYA_AUTH", "nome")]).len(), 1);
}

#[test]
fn the_transport_is_chosen_by_name_or_as_the_original_chooses() {
    let rabbitmq = ("ASYA_RABBITMQ_URL", "amqp://me:hush@host/v");
    let sqs = ("ASYA_SQS_ENDPOINT", "http://localhost:4566");
    let chosen =
        |variables: &[(&str, &str)]| bare(variables).reading.settings.ok().map(|it| it.settings.queues);
    assert!(matches!(
        chosen(&[rabbitmq]),
        Some(Queues::RabbitMq { is_url: true, .. })
    ));
    assert!(matches!(
        chosen(&[("ASYA_RABBITMQ_HOST", "host")]),
        Some(Queues::RabbitMq { is_url: false, .. })
    ));
    let by_name = ("ASYA_TRANSPORT", "rabbitmq");
    assert!(matches!(
        chosen(&[by_name, sqs, rabbitmq]),
        Some(Queues::RabbitMq { .. })
    ));
    assert!(matches!(
        chosen(&[("ASYA_TRANSPORT", "local"), rabbitmq]),
        Some(Queues::Local(_))
    ));
    for (variables, hint) in [
        (&[][..], "ASYA_RABBITMQ_URL"),
        (&[sqs, rabbitmq], "expected rabbitmq or local"),
        (&[("ASYA_TRANSPORT", "sqs")], "not in this build"),
        (&[("ASYA_TRANSPORT", "kafka")], "expected rabbitmq or local"),
    ] {
        let told = bare(variables);
        let found = told.reading.problems();
        assert_eq!(found.len(), 1, "{variables:?}");
        assert_eq!(found[0].variable, "ASYA_TRANSPORT");
        assert!(found[0].text().contains(hint), "{}", found[0]);
    }
}

#[test]
fn the_database_is_known_by_its_address() {
    let database = |variables: &[(&str, &str)]| good(variables).database;
    for (url, path) in [
        ("sqlite:///var/lib/g.db", "/var/lib/g.db"),
        ("sqlite://g.db", "g.db"),
    ] {
        let found = database(&[("ASYA_DATABASE_URL", url)]);
        assert!(
            matches!(&found, Database::Sqlite(file) if file == Path::new(path)),
            "{found:?}"
        );
    }
    for url in [
        "postgres://me:hush@host:5432/db",
        "postgresql://me@host/db",
        "host=host user=me password=hush dbname=db",
    ] {
        let Database::Postgres(options) = database(&[("ASYA_DATABASE_URL", url), ("ASYA_DB_MAX_CONNS", "3")])
        else {
            panic!("{url} is PostgreSQL");
        };
        assert_eq!(options.pool.max_connections, 3);
        assert_eq!(options.pool.max_lifetime, Some(Duration::from_hours(1)));
        assert_eq!(options.at_start, AtStart::Migrate);
        assert!(options.mirror);
        assert!(!format!("{options:?}{}", options.address).contains("hush"));
    }
    for url in [
        "sqlite:g.db",
        "sqlite://",
        "mysql://me:hush@host/db",
        "postgres://me:hush@host:99999/db",
    ] {
        let found = problems(&[("ASYA_DATABASE_URL", url)]);
        assert_eq!(found.len(), 1, "{url}");
        assert!(
            found[0].starts_with("ASYA_DATABASE_URL: ") && !found[0].contains("hush"),
            "{found:?}"
        );
    }
    let elsewhere = good(&[("ASYA_STATE_DIR", "/s")]).database;
    assert!(matches!(&elsewhere, Database::Sqlite(file) if file == Path::new("/s/gateway.db")));
}

#[test]
fn all_problems_are_found_at_once_and_none_shows_a_secret() {
    let told = bare(&[
        ("ASYA_RABBITMQ_URL", "amqp://me:hush@host:99999"),
        ("ASYA_DATABASE_URL", "mysql://me:hush@host/db"),
        ("ASYA_DATABASE_MIRROR", "perhaps"),
        ("ASYA_GATEWAY_BIND", "localhost"),
        ("ASYA_GATEWAY_MAX_BODY", "1Ti"),
        ("ASYA_GATEWAY_MAX_STREAMS", "0"),
        ("ASYA_RETENTION_UPDATES", "never"),
        ("ASYA_AUTH", "basic"),
        ("ASYA_AUTH_SIDECAR_TOKEN", "hush"),
        ("ASYA_AUTH_OPERATOR_TOKEN_FILE", "/short"),
        ("ASYA_ALLOWED_ORIGINS", "app.example.com"),
        ("ASYA_ALLOWED_HOSTS", "https://a"),
        ("ASYA_TLS_CERT_FILE", "/nowhere"),
        ("ASYA_METRICS_ADDR", "9090"),
        ("ASYA_LOG_FORMAT", "xml"),
        ("ASYA_PUBLIC_URL", "gateway"),
    ]);
    let found: Vec<_> = told.reading.problems().iter().map(ToString::to_string).collect();
    for variable in [
        "ASYA_RABBITMQ_URL",
        "ASYA_DATABASE_URL",
        "ASYA_DATABASE_MIRROR",
        "ASYA_GATEWAY_BIND",
        "ASYA_GATEWAY_MAX_BODY",
        "ASYA_GATEWAY_MAX_STREAMS",
        "ASYA_RETENTION_UPDATES",
        "ASYA_AUTH",
        "ASYA_AUTH_SIDECAR_TOKEN",
        "ASYA_AUTH_OPERATOR_TOKEN_FILE",
        "ASYA_ALLOWED_ORIGINS",
        "ASYA_ALLOWED_HOSTS",
        "ASYA_TLS_KEY_FILE",
        "ASYA_METRICS_ADDR",
        "ASYA_LOG_FORMAT",
        "ASYA_PUBLIC_URL",
    ] {
        let own: Vec<_> = found
            .iter()
            .filter(|line| line.starts_with(&format!("{variable}: ")))
            .collect();
        assert_eq!(own.len(), 1, "{variable} in {found:#?}");
        assert!(own[0].contains("expected"), "{own:?}");
    }
    assert_eq!(found.len(), 16, "{found:#?}");
    let said = format!("{found:?} {:?}", told.reading.set);
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn bad_values_of_the_originals_variables_warn_and_the_default_holds() {
    let told = told(&[
        ("ASYA_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("ASYA_DB_MAX_CONNS", "many"),
        ("ASYA_DB_MIN_CONNS", "-1"),
        ("ASYA_DB_MAX_CONN_LIFETIME", "soon"),
        ("ASYA_DB_MAX_CONN_IDLE_TIME", "-"),
        ("ASYA_LOG_LEVEL", "LOUD"),
        ("ASYA_DATABASE_URL", "postgres://host/db"),
    ]);
    assert_eq!(told.reading.warnings.len(), 6, "{:#?}", told.reading.warnings);
    for warning in &told.reading.warnings {
        assert!(warning.to_string().contains("using the default"), "{warning}");
    }
    let settings = told.reading.settings.expect("settings").settings;
    assert_eq!(settings.listen, Listen::loopback(8080));
    let Database::Postgres(options) = settings.database else {
        panic!("PostgreSQL");
    };
    assert_eq!(options.pool, asya_gateway_store::postgres::Pool::default());
}

#[test]
fn keys_must_be_there_when_they_are_asked_for() {
    assert_eq!(problems(&[("ASYA_AUTH", "keys")]).len(), 1);
    assert_eq!(problems(&[("ASYA_AUTH", "oidc")]).len(), 2);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "alice sha256:00\nbob\n").expect("written");
    let path = file.path().to_str().expect("a path");
    let keys = [("ASYA_AUTH", "keys"), ("ASYA_AUTH_KEYS_FILE", path)];
    let found = problems(&keys);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains(":1: ") && found[1].contains(":2: "),
        "{found:?}"
    );

    let hash = crate::auth::TokenDigest::of("a").to_string();
    std::fs::write(file.path(), format!("alice {hash}\n")).expect("written");
    let warned = told(&keys);
    assert_eq!(
        warned.reading.warnings.len(),
        1,
        "nobody may report: {:?}",
        warned.reading.warnings
    );
    let token = ("ASYA_AUTH_SIDECAR_TOKEN_FILE", "/secret");
    let auth = good(&[&keys[..], &[token]].concat()).auth;
    assert!(matches!(auth.clients, Clients::Keys(_)));
    assert!(auth.sidecars.is_some() && auth.operators.is_none());
}

#[test]
fn what_is_for_another_kind_of_auth_is_told() {
    let told = told(&[("ASYA_AUTH", "none"), ("ASYA_AUTH_OIDC_ISSUER", "https://issuer")]);
    assert_eq!(told.reading.warnings.len(), 1);
    assert!(told.reading.warnings[0].text().contains("ASYA_AUTH=oidc"));
}

#[test]
fn mistakes_of_tools_and_of_variables_are_found_together() {
    let file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), "tools:\n- name: a\n- description: b\n").expect("written");
    let path = file.path().to_str().expect("a path");
    let told = told(&[("ASYA_CONFIG_PATH", path), ("ASYA_GATEWAY_MAX_STREAMS", "none")]);
    assert_eq!(told.reading.problems().len(), 1);
    assert!(told.tools.len() >= 2, "{}", told.tools);
    assert!(told.tools.to_string().contains(":2"), "{}", told.tools);
    // With bad tools alone there are no settings either.
    let told = super::tests::told(&[("ASYA_CONFIG_PATH", path)]);
    assert!(told.reading.settings.is_err() && told.reading.problems().is_empty());
}

#[test]
fn slips_are_found_and_the_variables_of_others_left_alone() {
    let told = told(&[
        ("ASYA_DATABSE_URL", "x"),
        ("ASYA_GATEWAY_URL", "http://gateway"),
        ("ASYA_GATEWAY_DB_HOST", "db"),
        ("ASYA_ACTOR_NAME", "a"),
    ]);
    let found: Vec<_> = told.reading.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("ASYA_DATABASE_URL"), "{found:?}");
}

#[test]
fn migrations_need_the_database_alone() {
    let variables = BTreeMap::from([
        ("ASYA_DATABASE_URL".to_owned(), "postgres://host/db".to_owned()),
        ("ASYA_GATEWAY_MAX_BODY".to_owned(), "huge".to_owned()),
    ]);
    let reading = read_database(&Environment {
        variables,
        read_file: &|_| unreachable!("no file is named"),
    });
    assert!(matches!(reading.settings, Ok(Database::Postgres(_))));
}
