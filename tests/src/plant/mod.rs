//! A whole installation on a real RabbitMQ node: sidecar and runtime processes that can be killed one by one, and the
//! end queues, in which every message is counted.
//!
//! What it is: a [`Plant`] is a virtual host with [`Pod`]s. Tests send numbered envelopes, strike, and ask for the
//! [`Tally`]. Nothing restarts by itself: who kills starts again. What it is not: it knows nothing about the inside
//! of the programs, and does not decide what is right.
//!
//! Start reading at [`Plant::new`].

mod arrived;
mod observer;
mod pod;
mod program;
mod tally;

use std::ffi::OsString;
use std::io::Write as _;
use std::time::{Duration, Instant};

use asya_transport::QueueName;
use bytes::Bytes;
use tempfile::TempDir;

pub use arrived::Arrived;
pub use pod::{Pod, Spec};
pub use program::Program;
pub use tally::Tally;

use self::observer::Observer;
use crate::Signal;
use crate::proxy::Proxy;
use crate::rabbitmq::Broker;
use crate::waiting::wait_for;

/// Where finished envelopes go.
pub const HAPPY_END: &str = "happy-end";
/// Where failed envelopes go.
pub const ERROR_END: &str = "error-end";

/// After so long without any change nothing will come any more. Longer than any pause of a program under test.
const STANDSTILL: Duration = Duration::from_secs(30);

/// How often an installation that has come to rest is started again because something was left.
const ROUNDS: usize = 4;

/// See the module documentation. Everything in it ends when it is dropped.
pub struct Plant<'a> {
    /// Pods in the order in which they were added.
    pub pods: Vec<Pod>,
    /// The virtual host.
    pub vhost: String,
    broker: &'a Broker,
    /// Environment of all sidecars.
    common: Vec<(String, OsString)>,
    observer: Observer,
    sent: usize,
    directory: TempDir,
}

impl<'a> Plant<'a> {
    /// An installation without pods, in a virtual host of its own, with both end queues.
    pub fn new(broker: &'a Broker) -> Self {
        let options = broker.options();
        let vhost = options.address.vhost.clone();
        let directory = tempfile::Builder::new().prefix("asya-plant-").tempdir().unwrap();
        let mut plant = Self {
            pods: Vec::new(),
            vhost,
            broker,
            common: Vec::new(),
            observer: Observer::connect(options),
            sent: 0,
            directory,
        };
        plant.reach_broker_at(broker.port);
        plant.set_env("ASYA_QUEUE_AUTO_CREATE", "true");
        plant.set_env("ASYA_METRICS_ENABLED", "false");
        for end in [HAPPY_END, ERROR_END] {
            plant.declare(end);
        }
        plant
    }

    /// As [`new`](Self::new), with a proxy between the sidecars and the broker.
    pub fn behind_proxy(broker: &'a Broker) -> (Self, Proxy) {
        let mut plant = Self::new(broker);
        let proxy = plant.observer.block_on(Proxy::before(broker.port));
        plant.reach_broker_at(proxy.port);
        (plant, proxy)
    }

    fn reach_broker_at(&mut self, port: u16) {
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/{}", self.vhost);
        self.set_env("ASYA_RABBITMQ_URL", &url);
    }

    /// Sets a variable of all sidecars that are added from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.common.retain(|(other, _)| other != name);
        self.common.push((name.into(), value.into()));
    }

    /// Starts one more pod.
    pub fn add(&mut self, spec: &Spec) -> &mut Pod {
        let directory = self.directory.path().join(format!("pod-{}", self.pods.len()));
        self.pods.push(Pod::start(spec, &directory, &self.common));
        self.pods.last_mut().expect("it was just added")
    }

    /// Declares the queue of an actor.
    pub fn declare(&self, actor: &str) {
        self.observer.declare(&QueueName::for_actor(actor));
    }

    /// Deletes the queue of an actor with everything in it.
    pub fn delete(&self, actor: &str) {
        self.observer.delete(&QueueName::for_actor(actor));
    }

    /// Messages that wait in the queue of an actor; `None` when it does not exist or the broker does not answer.
    pub fn depth(&self, actor: &str) -> Option<u64> {
        self.observer.depth(&QueueName::for_actor(actor))
    }

    /// Sends `count` envelopes along `route`, whose first queue is made if it is missing. They are numbered on from
    /// those that were sent before.
    pub fn send(&mut self, count: usize, route: &[&str]) {
        self.declare(route[0]);
        let first = QueueName::for_actor(route[0]);
        let numbers = self.sent..self.sent + count;
        self.sent = numbers.end;
        let envelopes =
            numbers.map(|number| (first.clone(), format!("sent/{number}"), envelope(number, route)));
        self.observer.publish(envelopes);
    }

    /// `count` more envelopes are sent by other means: see [`envelope`].
    pub fn expect(&mut self, count: usize) {
        self.sent += count;
    }

    /// Puts any bytes at all into the queue of an actor.
    pub fn put(&self, actor: &str, message_id: &str, body: impl Into<Bytes>) {
        let message = (QueueName::for_actor(actor), message_id.to_owned(), body.into());
        self.observer.publish([message]);
    }

    /// Takes everything out of the queue of an actor.
    pub fn take(&self, actor: &str) -> Vec<Arrived> {
        let mut all = Vec::new();
        self.observer
            .take_all(&QueueName::for_actor(actor), |arrived| all.push(arrived));
        all
    }

    /// Waits until the queue of an actor holds `count` messages, and takes them.
    pub fn await_messages(&mut self, actor: &str, count: u64) -> Vec<Arrived> {
        wait_for(&format!("{count} messages in {actor}"), || {
            self.assert_running();
            (self.depth(actor)? >= count).then_some(())
        });
        self.take(actor)
    }

    /// Messages in both end queues.
    pub fn ended(&self) -> Option<u64> {
        Some(self.depth(HAPPY_END)? + self.depth(ERROR_END)?)
    }

    /// Waits until `more` envelopes have come to an end. Fails when that is all: who strikes then strikes nothing.
    pub fn progress(&mut self, more: u64) {
        let before = wait_for("an answer of the broker", || self.ended());
        let goal = before + more;
        wait_for(&format!("{goal} ended envelopes"), || {
            self.assert_running();
            let ended = self.ended()?;
            assert!(
                usize::try_from(ended).is_ok_and(|ended| ended < self.sent),
                "the work ended too early to tell anything"
            );
            (ended >= goal).then_some(())
        });
    }

    /// Fails when a program has ended by itself.
    pub fn assert_running(&mut self) {
        for pod in &mut self.pods {
            pod.sidecar.assert_running();
            pod.runtime.assert_running();
        }
    }

    /// Waits until everything is done, stops all sidecars and counts.
    pub fn finish(&mut self) -> Tally {
        let mut tally = Tally::of(self.sent);
        for _ in 0..ROUNDS {
            self.await_rest(&tally);
            self.stop();
            self.collect(&mut tally);
            if self.waiting().is_empty() && tally.is_complete() {
                break;
            }
            for pod in &mut self.pods {
                pod.sidecar.start_again();
            }
        }
        tally
    }

    /// Ends all sidecars with SIGTERM; each must end well.
    pub fn stop(&mut self) {
        for pod in &mut self.pods {
            pod.sidecar.assert_running();
            pod.sidecar.signal(Signal::TERM);
        }
        for pod in &mut self.pods {
            let code = pod.sidecar.wait();
            assert_eq!(code, Some(0), "{}:\n{}", pod.actor, pod.sidecar.last_words());
        }
    }

    /// Waits until every envelope has come to an end and no queue holds work, or nothing changes any more.
    fn await_rest(&mut self, tally: &Tally) {
        let missing = u64::try_from(tally.lost().len()).unwrap_or(u64::MAX);
        let (mut last, mut since) = (None, Instant::now());
        while since.elapsed() < STANDSTILL {
            self.assert_running();
            let now = (self.ended(), self.waiting());
            if now.0.is_some_and(|ended| ended >= missing) && now.1.is_empty() {
                return;
            }
            if last.as_ref() != Some(&now) {
                (last, since) = (Some(now), Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Queues with work still to be done, and how much.
    fn waiting(&self) -> Vec<(String, u64)> {
        let depths = self.queues().into_iter().filter(|queue| !is_end(queue));
        let depths = depths.map(|queue| {
            let depth = self.observer.depth(&QueueName::from_full_name(&queue));
            (queue, depth.unwrap_or_default())
        });
        depths.filter(|(_, depth)| *depth > 0).collect()
    }

    /// Names of all queues.
    fn queues(&self) -> Vec<String> {
        let path = format!("/api/queues/{}?columns=name", self.vhost);
        let listed: serde_json::Value =
            serde_json::from_str(&self.broker.manage("GET", &path, "")).unwrap_or_default();
        let names = listed.as_array().into_iter().flatten();
        names
            .filter_map(|queue| queue["name"].as_str().map(str::to_owned))
            .collect()
    }

    fn collect(&self, tally: &mut Tally) {
        let queue = |name: &str| QueueName::from_full_name(name);
        for name in self.queues().iter().filter(|name| is_end(name)) {
            if *name == QueueName::for_actor(HAPPY_END).to_string() {
                self.observer
                    .take_all(&queue(name), |arrived| tally.happy(&arrived));
            } else {
                self.observer
                    .take_all(&queue(name), |arrived| tally.failed(&arrived));
            }
        }
    }
}

/// Who fails a test should see why.
impl Drop for Plant<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut lines = vec![format!("{}: {:?} ended", self.vhost, self.ended())];
        for pod in &self.pods {
            lines.push(format!("{:?} wait in {}", self.depth(&pod.actor), pod.actor));
            for program in [&pod.sidecar, &pod.runtime] {
                lines.push(format!("--- {}\n{}", program.name(), program.last_words()));
            }
        }
        // Whoever cannot be told has not asked.
        let _unheard = writeln!(std::io::stderr(), "{}", lines.join("\n"));
    }
}

fn is_end(queue: &str) -> bool {
    let ends = [HAPPY_END, ERROR_END].map(|end| QueueName::for_actor(end).to_string());
    ends.iter().any(|end| end == queue) || queue.ends_with("-dlq")
}

/// The envelope with this number.
pub fn envelope(number: usize, route: &[&str]) -> Bytes {
    let envelope = serde_json::json!({
        "id": format!("e-{number}"),
        "route": {"actors": route, "current": 0},
        "headers": {"trace": format!("t-{number}")},
        "payload": {"number": number, "text": "x".repeat(400)},
    });
    Bytes::from(envelope.to_string())
}
