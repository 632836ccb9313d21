//! A broker that refuses: one line that names the variable and the remedy, and the right exit code (rulings 22).

use asya_tests::rabbitmq::Broker;

use crate::setup::{Ended, run};

/// Runs against the shared node in a virtual host of its own, with `url` made of port and virtual host.
fn refused(
    url: impl Fn(u16, &str) -> String,
    more: &[(&str, &str)],
    prepare: impl Fn(&Broker, &str),
) -> Ended {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    prepare(broker, &vhost);
    let url = url(broker.port, &vhost);
    let mut variables = vec![
        ("ASYA_ACTOR_NAME", "worker"),
        ("ASYA_METRICS_ENABLED", "false"),
        ("ASYA_RABBITMQ_URL", url.as_str()),
    ];
    variables.extend(more);
    let ended = run(&[], &variables);
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(!ended.output.contains("hush"), "{}", ended.output);
    ended
}

fn only_error(ended: &Ended, variable: &str) -> String {
    let errors = ended.lines("ERROR");
    assert_eq!(errors.len(), 1, "{}", ended.output);
    assert!(errors[0].starts_with(&format!("{variable}: ")), "{errors:?}");
    errors[0].clone()
}

#[test]
fn a_wrong_password() {
    let url = |port, vhost: &str| format!("amqp://guest:hush@127.0.0.1:{port}/{vhost}");
    let ended = refused(url, &[], |_, _| {});
    assert!(only_error(&ended, "ASYA_RABBITMQ_URL").contains("refused the login of user"));
}

#[test]
fn a_wrong_password_in_parts() {
    let port = Broker::shared().port.to_string();
    let parts = [
        ("ASYA_RABBITMQ_HOST", "127.0.0.1"),
        ("ASYA_RABBITMQ_PORT", port.as_str()),
        ("ASYA_RABBITMQ_PASSWORD", "hush"),
    ];
    let ended = refused(|_, _| String::new(), &parts, |_, _| {});
    only_error(&ended, "ASYA_RABBITMQ_USERNAME, ASYA_RABBITMQ_PASSWORD");
}

#[test]
fn a_wrong_virtual_host() {
    let url = |port, _: &str| format!("amqp://guest:guest@127.0.0.1:{port}/nowhere");
    let ended = refused(url, &[], |_, _| {});
    assert!(only_error(&ended, "ASYA_RABBITMQ_URL").contains("nowhere"));
}

/// A queue that is there is used as it is, whatever its arguments; one that cannot be made is a mistake.
#[test]
fn queue_arguments_that_the_broker_does_not_know() {
    let url = |port, vhost: &str| format!("amqp://guest:guest@127.0.0.1:{port}/{vhost}");
    let arguments = ("ASYA_QUEUE_ARGUMENTS", r#"{"x-queue-type": "nonsense"}"#);
    let ended = refused(url, &[arguments, ("ASYA_QUEUE_AUTO_CREATE", "true")], |_, _| {});
    assert!(only_error(&ended, "ASYA_QUEUE_ARGUMENTS").contains("asya-worker"));
}

#[test]
fn an_exchange_of_another_type() {
    let url = |port, vhost: &str| format!("amqp://guest:guest@127.0.0.1:{port}/{vhost}");
    let ended = refused(url, &[("ASYA_RABBITMQ_EXCHANGE", "mine")], |broker, vhost| {
        let fanout = r#"{"type": "fanout", "durable": true}"#;
        broker.manage("PUT", &format!("/api/exchanges/{vhost}/mine"), fanout);
    });
    assert!(only_error(&ended, "ASYA_RABBITMQ_EXCHANGE").contains("durable topic exchange"));
}
