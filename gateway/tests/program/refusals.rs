//! What ends a start, and what does not.

use std::net::TcpListener;

use asya_tests::postgres::Cluster;
use asya_tests::rabbitmq::Broker;

use crate::setup::{Ended, Place, Queues, get, ready, run};

fn refused(place: &Place, more: &[(&str, &str)]) -> Ended {
    let variables = place.variables(more);
    let variables: Vec<_> = variables.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let ended = run(&[], &variables);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    ended
}

const LOCAL: (&str, &str) = ("ASYA_TRANSPORT", "local");

#[test]
fn a_port_that_is_taken_ends_it_with_one_line_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let place = Place::new();
    let ended = refused(&place, &[LOCAL, ("ASYA_GATEWAY_PORT", &port)]);
    let errors = ended.lines("ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains(&format!("127.0.0.1:{port}")) && errors[0].contains("another program"),
        "{errors:?}"
    );
    assert!(!place.path("state/gateway.db").exists());
}

#[test]
fn bad_tools_end_it_with_every_mistake() {
    let place = Place::new();
    place.write("tools.yaml", "tools:\n- name: one\n- {name: two, route: []}\n");
    let errors = refused(&place, &[LOCAL]).lines("ERROR");
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| error.contains("tools.yaml:")),
        "{errors:?}"
    );
}

#[test]
fn a_database_that_cannot_be_used_ends_it_and_its_password_stays_secret() {
    let place = Place::new();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let away = format!("postgres://me:hush@127.0.0.1:{nobody}/db");
    let cluster = Cluster::shared();
    cluster.user("refused", "right");
    let login = format!("postgres://refused:hush@127.0.0.1:{}/postgres", cluster.port);
    for (url, named) in [(&away, nobody), (&login, cluster.port)] {
        let ended = refused(&place, &[LOCAL, ("ASYA_DATABASE_URL", url)]);
        let errors = ended.lines("ERROR");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("cannot use the database"), "{errors:?}");
        assert!(
            errors[0].contains(&named.to_string()),
            "it names the place: {errors:?}"
        );
        assert!(!ended.output.contains("hush"), "{}", ended.output);
    }
    place.write(
        "no-database",
        "this is no database, and long enough to be read as one of them",
    );
    let file = format!("sqlite://{}", place.text("no-database"));
    let errors = refused(&place, &[LOCAL, ("ASYA_DATABASE_URL", &file)]).lines("ERROR");
    assert!(errors[0].contains("no-database"), "{errors:?}");
}

#[test]
fn a_broker_that_refuses_the_login_ends_it_and_names_the_variable() {
    let broker = Broker::shared();
    let place = Place::new();
    let vhost = broker.vhost();
    let url = format!("amqp://guest:hush@127.0.0.1:{}/{vhost}", broker.port);
    let ended = refused(&place, &[("ASYA_RABBITMQ_URL", &url)]);
    let errors = ended.lines("ERROR");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with("ASYA_RABBITMQ_URL: ") && errors[0].contains("login"),
        "{errors:?}"
    );
    assert!(!ended.output.contains("hush"), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_choice_about_auth_only_this_address_answers() {
    let place = Place::new();
    // Another address of this machine, which is there wherever there is a network at all.
    let reachable = async |more: &[(&str, &str)]| {
        let gateway = place.start(more);
        let url = gateway.url().await;
        let port = url.rsplit(':').next().unwrap().to_owned();
        assert_eq!(get(&format!("http://127.0.0.1:{port}"), "/health").await.0, 200);
        tokio::net::TcpStream::connect(format!("127.0.0.2:{port}"))
            .await
            .is_ok()
    };
    assert!(!reachable(&[LOCAL]).await);
    assert!(reachable(&[LOCAL, ("ASYA_AUTH", "none")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_holds_a_password() {
    let (cluster, broker) = (Cluster::shared(), Broker::shared());
    cluster.user("quiet", "hush-database");
    let database = cluster.database();
    let name = database.rsplit('/').next().unwrap();
    let database = format!("postgres://quiet:hush-database@127.0.0.1:{}/{name}", cluster.port);
    let queues = Queues::new().await;
    broker.control(&["add_user", "quiet", "hush-broker"]);
    broker.control(&["set_permissions", "-p", &queues.vhost, "quiet", ".*", ".*", ".*"]);
    let url = format!(
        "amqp://quiet:hush-broker@127.0.0.1:{}/{}",
        broker.port, queues.vhost
    );
    let place = Place::new();
    let mut gateway = place.start(&[
        ("ASYA_RABBITMQ_URL", &url),
        ("ASYA_DATABASE_URL", &database),
        ("ASYA_AUTH_SIDECAR_TOKEN", "hush-hush-hush-hush"),
        ("ASYA_LOG_LEVEL", "DEBUG"),
    ]);
    let base = gateway.url().await;
    ready(&base).await;
    crate::setup::call(&base, "slow").await;
    queues.take("first", 1).await;
    // Lost connections are what errors are written about.
    broker.close_connections(&queues.vhost);
    cluster.disconnect(name);
    let id = crate::setup::call(&base, "slow").await;
    assert_eq!(queues.take("first", 1).await[0].1["id"], id.as_str());
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.ended().await, Some(0));
    let log = gateway.log();
    assert!(
        log.contains("amqp://") && log.contains("ASYA_DATABASE_URL="),
        "{log}"
    );
    assert!(!log.contains("hush"), "{log}");
}
