//! Several processes on one queue directory, some of which are killed.
//!
//! The children are this test program again, started with [`ROLE`] in the environment.
#![cfg(feature = "local")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration, Settlement, Transport};
use common::{PATIENCE, message, open, publish, queue, receive, text};

const ROLE: &str = "QUEUE_TEST_ROLE";
const DIRECTORY: &str = "QUEUE_TEST_DIRECTORY";
const PREFIX: &str = "QUEUE_TEST_PREFIX";

/// A child of this test; killed when dropped.
struct Helper {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Helper {
    fn start(role: &str, directory: &Path, prefix: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "child_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .envs([(ROLE, role), (PREFIX, prefix)])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            input,
            output,
        }
    }

    /// The next line that is ours and not the test program's.
    fn line(&mut self) -> Option<(String, String)> {
        loop {
            let line = self.output.next()?.unwrap();
            // The test program writes "test child_process ... " without a line end before the first of ours.
            if let Some((_, event)) = line.split_once('@') {
                let (verb, rest) = event.split_once(' ').unwrap_or((event, ""));
                return Some((verb.to_owned(), rest.to_owned()));
            }
        }
    }

    fn expect(&mut self, verb: &str) -> String {
        let (found, rest) = self
            .line()
            .unwrap_or_else(|| panic!("the child ended before it said {verb}"));
        assert_eq!(found, verb, "{rest}");
        rest
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap(); // SIGKILL
        self.process.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _already_waited = self.process.wait();
    }
}

/// Tells the parent something, in one write, so that a kill leaves whole lines.
fn tell(event: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("@{event}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the entry point of the child processes, started by the other tests"]
async fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let prefix = std::env::var(PREFIX).unwrap();
    let transport = open(&directory).await;
    let playing = async {
        match role.as_str() {
            "churn" => churn(transport, &prefix).await,
            "hold" => hold(transport).await,
            "publish" => publish_on_request(transport).await,
            other => panic!("no role {other}"),
        }
    };
    // A parent that waits for something that never comes sees the child end instead.
    let _over = tokio::time::timeout(2 * PATIENCE, playing).await;
    std::process::exit(0);
}

/// Publishes and consumes side by side until killed, and tells each step before and after.
async fn churn(transport: LocalTransport, prefix: &str) {
    tell("ready");
    let publishing = async {
        for number in 0_u64.. {
            let batch: Vec<String> = (0..8).map(|part| format!("{prefix}-{number}-{part}")).collect();
            let confirms = batch.iter().map(|id| {
                tell(&format!("publishing {id}"));
                let confirm = transport.publish(message(id));
                async move {
                    confirm.await.unwrap();
                    tell(&format!("published {id}"));
                }
            });
            futures::future::join_all(confirms).await;
        }
    };
    let consuming = async {
        let mut consumer = transport.consume(&queue()).await.unwrap();
        loop {
            for delivery in consumer.receive(6).await.unwrap() {
                let id = text(&delivery).to_owned();
                tell(&format!("claimed {id}"));
                if id.ends_with("-7") && delivery.deliveries == 1 {
                    continue; // dropped unsettled: comes back for somebody
                }
                tell(&format!("acking {id}"));
                delivery.receipt.settle(Settlement::Ack).await.unwrap();
                tell(&format!("acked {id}"));
            }
        }
    };
    futures::join!(publishing, consuming);
}

/// Holds what is there until told to end.
async fn hold(transport: LocalTransport) {
    let held = receive(&transport, 100).await;
    tell(&format!("held {}", held.len()));
    tokio::task::spawn_blocking(hear).await.unwrap();
}

/// Publishes one message for each line it hears.
async fn publish_on_request(transport: LocalTransport) {
    tell("ready");
    loop {
        let line = tokio::task::spawn_blocking(hear).await.unwrap();
        if line.is_empty() {
            return;
        }
        publish(&transport, &line).await;
        tell("published");
    }
}

/// What the children have said about each message over all rounds.
#[derive(Default)]
struct Journal {
    publishing: BTreeSet<String>,
    published: BTreeSet<String>,
    acking: BTreeSet<String>,
    acked: BTreeSet<String>,
}

impl Journal {
    fn note(&mut self, verb: &str, id: String) {
        match verb {
            "publishing" => assert!(self.publishing.insert(id)),
            "published" => assert!(self.published.insert(id)),
            "claimed" => assert!(
                !self.acked.contains(&id),
                "{id} was delivered after its confirmed ack"
            ),
            "acking" => {
                self.acking.insert(id);
            }
            "acked" => assert!(self.acked.insert(id.clone()), "{id} was acked twice"),
            other => panic!("{other} {id}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_nothing_confirmed_and_repeat_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::default();
    for round in 0..25_u64 {
        let mut helper = Helper::start("churn", directory.path(), &format!("r{round}"));
        helper.expect("ready");
        // A different moment each round: between a few and some hundred steps.
        let steps = (round * 7_919 + 13) % 400 + 5;
        for _ in 0..steps {
            let (verb, id) = helper.line().unwrap();
            journal.note(&verb, id);
        }
        helper.kill();
        while let Some((verb, id)) = helper.line() {
            journal.note(&verb, id);
        }
    }

    let transport = open(directory.path()).await;
    let mut left = BTreeMap::new();
    loop {
        let depth = transport.depth(&queue()).await.unwrap();
        if depth.total() == 0 {
            break;
        }
        for delivery in receive(&transport, 500).await {
            let id = text(&delivery).to_owned();
            assert!(
                left.insert(id.clone(), delivery.deliveries).is_none(),
                "{id} is there twice"
            );
            delivery.receipt.settle(Settlement::Ack).await.unwrap();
        }
    }
    assert!(
        journal.published.len() > 500 && journal.acked.len() > 100,
        "the rounds were too short"
    );
    for id in left.keys() {
        assert!(journal.publishing.contains(id), "{id} was never published");
        assert!(
            !journal.acked.contains(id),
            "{id} came back after its confirmed ack"
        );
    }
    for id in &journal.published {
        // An ack that was asked for but not confirmed may have happened.
        let gone = journal.acking.contains(id);
        assert!(left.contains_key(id) || gone, "{id} was confirmed and is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_held_goes_to_a_living_one_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    for id in ["a", "b", "c"] {
        publish(&transport, id).await;
    }
    let mut helper = Helper::start("hold", directory.path(), "");
    assert_eq!(helper.expect("held"), "3");
    assert_eq!(transport.depth(&queue()).await.unwrap().unsettled, 3);

    let mut consumer = transport.consume(&queue()).await.unwrap();
    let waiting = consumer.receive(10);
    tokio::pin!(waiting);
    // A living owner keeps its messages past several searches for dead ones.
    assert!(
        tokio::time::timeout(Duration::from_millis(1_200), &mut waiting)
            .await
            .is_err()
    );
    helper.kill();
    let killed = Instant::now();
    let deliveries = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    println!("given back after {:?}", killed.elapsed());
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(deliveries.iter().map(text).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(
        deliveries.iter().all(|delivery| delivery.deliveries == 2),
        "the count is kept"
    );
    let locks = std::fs::read_dir(directory.path().join("owners"))
        .unwrap()
        .count();
    assert_eq!(locks, 1, "the lock file of the dead is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_held_is_there_for_the_next_that_opens() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    publish(&transport, "a").await;
    drop(transport);
    let mut helper = Helper::start("hold", directory.path(), "");
    helper.expect("held");
    helper.kill();
    let transport = LocalTransport::open(directory.path(), &LocalOptions::default()).unwrap();
    let deliveries = receive(&transport, 10).await;
    assert_eq!((text(&deliveries[0]), deliveries[0].deliveries), ("a", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_consumer_notices_what_another_process_publishes() {
    let directory = tempfile::tempdir().unwrap();
    let transport = open(directory.path()).await;
    let mut helper = Helper::start("publish", directory.path(), "");
    helper.expect("ready");
    let mut consumer = transport.consume(&queue()).await.unwrap();
    let mut latencies = Vec::new();
    for round in 0..21 {
        let waiting = consumer.receive(1);
        tokio::pin!(waiting);
        // The first poll puts the consumer in the queue's waiting room.
        assert!(
            tokio::time::timeout(Duration::from_millis(5), &mut waiting)
                .await
                .is_err()
        );
        helper.say(&format!("message {round}"));
        helper.expect("published");
        let published = Instant::now();
        let deliveries = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        latencies.push(published.elapsed());
        assert_eq!(text(&deliveries[0]), format!("message {round}"));
        deliveries[0].receipt.settle(Settlement::Ack).await.unwrap();
    }
    latencies.sort_unstable();
    println!("median {:?}, slowest {:?}", latencies[10], latencies[20]);
    assert!(latencies[10] < Duration::from_millis(100), "{latencies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_busy_processes_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut left = Helper::start("churn", directory.path(), "left");
    let mut right = Helper::start("churn", directory.path(), "right");
    let mut acked = BTreeSet::new();
    for helper in [&mut left, &mut right] {
        helper.expect("ready");
        let mut own = 0;
        while own < 300 {
            let (verb, id) = helper.line().unwrap();
            if verb == "acked" {
                own += 1;
                assert!(acked.insert(id.clone()), "{id} was acknowledged by both");
            }
        }
    }
}
