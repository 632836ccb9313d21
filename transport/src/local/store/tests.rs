use std::time::Instant;

use super::*;
use crate::local::schema::tests::in_memory;

const OWNER: &str = "owner";

fn message(queue: &QueueName, id: &str) -> Outgoing {
    Outgoing {
        queue: queue.clone(),
        message_id: id.into(),
        body: Bytes::from_static(b"body"),
        delay: Duration::ZERO,
    }
}

fn claim_ids(connection: &Connection, queue: &QueueName, credit: usize) -> Vec<String> {
    match claim(connection, OWNER, &mut 0, queue, credit).unwrap() {
        Found::Messages(messages) => messages.into_iter().map(|claimed| claimed.message_id).collect(),
        Found::NoSuchQueue | Found::Nothing { .. } => Vec::new(),
    }
}

fn plan(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
    let lines = statement
        .query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3))
        .unwrap();
    lines.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
}

#[test]
fn every_frequent_statement_goes_by_an_index_without_sorting() {
    let connection = in_memory();
    let one_queue = format!("{COUNTS} WHERE queue = ?1");
    for (sql, index) in [
        (
            READY,
            "messages_ready (queue=? AND lease_owner=? AND visible_at=?)",
        ),
        (PROMOTE, "messages_delayed (queue=? AND visible_at<?)"),
        (NEXT_DUE, "messages_delayed (queue=? AND visible_at>?)"),
        (LEASE, "INTEGER PRIMARY KEY (rowid=?)"),
        (BODY, "INTEGER PRIMARY KEY (rowid=?)"),
        (ACK, "INTEGER PRIMARY KEY (rowid=?)"),
        (DROP_BODY, "INTEGER PRIMARY KEY (rowid=?)"),
        (GIVE_BACK, "INTEGER PRIMARY KEY (rowid=?)"),
        (QUEUE, "(name=?)"),
        (
            &one_queue,
            "COVERING INDEX messages_ready (queue=? AND lease_owner=? AND visible_at=?)",
        ),
        (
            &one_queue,
            "COVERING INDEX messages_leased (queue=? AND lease_owner>?)",
        ),
        (
            &one_queue,
            "COVERING INDEX messages_delayed (queue=? AND visible_at>?)",
        ),
    ] {
        let plan = plan(&connection, sql);
        assert!(plan.contains(index), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN messages\n"), "{sql}\n{plan}");
    }
}

#[test]
fn a_claim_costs_the_same_beside_a_million_ready_and_a_hundred_thousand_leased_messages() {
    let mut connection = in_memory();
    let transaction = connection.transaction().unwrap();
    let queues = ["a", "b", "c", "d"].map(QueueName::for_actor);
    for queue in &queues {
        declare(&transaction, queue).unwrap();
    }
    transaction
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100000)
             INSERT INTO messages (id, queue, message_id, size, lease_owner, lease)
             SELECT i, i % 4 + 1, i, 1, iif(i <= 100000, 'other', NULL), iif(i <= 100000, i, NULL) FROM n;
             INSERT INTO bodies SELECT id, x'00' FROM messages;",
        )
        .unwrap();
    transaction.commit().unwrap();

    // Rows visited are counted, not seconds: a scan step is one row that was not found by its index.
    let mut ready = connection.prepare(READY).unwrap();
    let found = ready
        .query_map(params![2, 100], |row| row.get::<_, i64>(0))
        .unwrap()
        .count();
    assert_eq!(found, 100);
    assert_eq!(ready.get_status(rusqlite::StatementStatus::FullscanStep), 0);
    let steps = ready.get_status(rusqlite::StatementStatus::VmStep);
    assert!(steps < 2_000, "{steps} steps for 100 messages");
    drop(ready);

    let started = Instant::now();
    assert_eq!(claim_ids(&connection, &queues[1], 100).len(), 100);
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn messages_come_in_order_and_a_returned_one_takes_its_old_place() {
    let connection = in_memory();
    let queue = QueueName::for_actor("a");
    declare(&connection, &queue).unwrap();
    for id in ["1", "2", "3"] {
        assert!(publish(&connection, &message(&queue, id)).unwrap());
    }
    let mut number = 0;
    let Found::Messages(first) = claim(&connection, OWNER, &mut number, &queue, 1).unwrap() else {
        panic!("nothing found");
    };
    assert_eq!(first[0].message_id, "1");
    assert!(give_back(&connection, OWNER, &first[0].lease, Duration::ZERO).unwrap());
    assert_eq!(claim_ids(&connection, &queue, 10), ["1", "2", "3"]);
}

#[test]
fn a_claim_stops_at_its_byte_limit_but_always_gives_one() {
    let connection = in_memory();
    let queue = QueueName::for_actor("a");
    declare(&connection, &queue).unwrap();
    let body = Bytes::from(vec![0; usize::try_from(CLAIM_BYTES).unwrap() * 2 / 3]);
    for id in ["1", "2"] {
        publish(
            &connection,
            &Outgoing {
                body: body.clone(),
                ..message(&queue, id)
            },
        )
        .unwrap();
    }
    assert_eq!(claim_ids(&connection, &queue, 10), ["1"]);
    assert_eq!(claim_ids(&connection, &queue, 10), ["2"]);
}

#[test]
fn a_lease_is_ended_only_by_its_own_number_and_owner() {
    let connection = in_memory();
    let queue = QueueName::for_actor("a");
    declare(&connection, &queue).unwrap();
    publish(&connection, &message(&queue, "1")).unwrap();
    let mut number = 0;
    let Found::Messages(first) = claim(&connection, OWNER, &mut number, &queue, 1).unwrap() else {
        panic!("nothing found");
    };
    let lease = first[0].lease.clone();
    assert_eq!(give_all_back(&connection, OWNER).unwrap(), 1);
    let Found::Messages(second) = claim(&connection, OWNER, &mut number, &queue, 1).unwrap() else {
        panic!("nothing found");
    };
    assert_eq!(second[0].deliveries, 2);
    assert!(
        !ack(&connection, OWNER, &lease).unwrap(),
        "the number of an older claim"
    );
    assert!(!give_back(&connection, OWNER, &lease, Duration::ZERO).unwrap());
    assert!(!ack(&connection, "someone else", &second[0].lease).unwrap());
    assert!(ack(&connection, OWNER, &second[0].lease).unwrap());
    let bodies: i64 = connection
        .query_row("SELECT count(*) FROM bodies", [], |row| row.get(0))
        .unwrap();
    assert_eq!(bodies, 0);
}

#[test]
fn a_deleted_queue_leaves_nothing_of_its_own_and_everything_of_others() {
    let connection = in_memory();
    let (queue, other) = (QueueName::for_actor("a"), QueueName::for_actor("b"));
    for queue in [&queue, &other] {
        declare(&connection, queue).unwrap();
        publish(&connection, &message(queue, "1")).unwrap();
    }
    assert_eq!(
        delete(&connection, &queue, DeleteMode::IfEmpty).unwrap(),
        Deletion::NotEmpty(1)
    );
    assert_eq!(
        delete(&connection, &queue, DeleteMode::Always).unwrap(),
        Deletion::Deleted
    );
    assert_eq!(
        delete(&connection, &queue, DeleteMode::Always).unwrap(),
        Deletion::NoSuchQueue
    );
    assert_eq!(list(&connection).unwrap(), std::slice::from_ref(&other));
    assert_eq!(claim_ids(&connection, &other, 9), ["1"]);
    let bodies: i64 = connection
        .query_row("SELECT count(*) FROM bodies", [], |row| row.get(0))
        .unwrap();
    assert_eq!(bodies, 1);
}
