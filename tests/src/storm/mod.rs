//! A storm: three actors on RabbitMQ at work while processes, connections and the broker are killed at random moments,
//! and every message counted at the end.
//!
//! What it is: [`run`], the harness behind `make soak` and the short storm of the tests. The seed decides what strikes
//! and after how many envelopes, so a run can be repeated as far as a system of many processes can. What it is not: a
//! measurement of speed.

mod blow;
mod outcome;

use std::time::{Duration, Instant};

pub use blow::Blow;
pub use outcome::Outcome;

use crate::chance::Chance;
use crate::plant::{Plant, Spec};
use crate::rabbitmq::Broker;

/// The three actors, in the order of the route; the second one is written in Python.
pub const ROUTE: [&str; 3] = ["one", "two", "three"];

const ECHO: &str = "def run(payload):\n    return payload\n";

/// Envelopes are sent while fewer than this wait in the first queue, so that all queues are in use all the time.
const BACKLOG: u64 = 1_000;

/// Envelopes sent at once.
const CHUNK: usize = 500;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// When nothing has ended for so long nothing will.
const STANDSTILL: Duration = Duration::from_mins(1);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Envelopes that go through the three actors.
    pub envelopes: usize,
    /// Faults, those of the broker included.
    pub kills: usize,
    /// Kills of the broker.
    pub broker_kills: usize,
    /// Messages that each sidecar may hold.
    pub prefetch: usize,
    /// Whether the sidecars try again what failed. Without, a message whose runtime is killed in the call fails.
    pub retries: bool,
    /// Longest time for everything.
    pub limit: Duration,
    /// Decides what strikes, and when.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Envelopes that have come to an end.
    pub ended: u64,
    /// Faults so far.
    pub struck: usize,
}

/// Runs a storm on `broker`, which nobody else uses; `watch` hears how it goes.
pub fn run(broker: &Broker, options: &Options, watch: &mut dyn FnMut(Progress)) -> Outcome {
    run_with(broker, options, &[], watch)
}

/// As [`run`], with more variables for all sidecars.
pub fn run_with(
    broker: &Broker,
    options: &Options,
    environment: &[(&str, &str)],
    watch: &mut dyn FnMut(Progress),
) -> Outcome {
    let started = Instant::now();
    let mut storm = Storm {
        plant: plant(broker, options, environment),
        broker,
        options,
        struck: Vec::new(),
        sent: 0,
    };
    let mut chance = Chance::new(options.seed);
    for planned in blow::plan(
        &mut chance,
        options.envelopes,
        options.kills,
        options.broker_kills,
    ) {
        if !storm.work_until(planned.ended, started, watch) {
            break;
        }
        std::thread::sleep(planned.after);
        storm.strike(planned.blow);
    }
    let all = u64::try_from(options.envelopes).unwrap_or(u64::MAX);
    storm.work_until(all, started, watch);
    let tally = storm.plant.finish();
    Outcome::new(options, &storm.struck, started.elapsed(), &tally)
}

fn plant<'a>(broker: &'a Broker, options: &Options, environment: &[(&str, &str)]) -> Plant<'a> {
    let mut plant = Plant::new(broker);
    for (name, value) in environment {
        plant.set_env(name, value);
    }
    plant.set_env("ASYA_RABBITMQ_PREFETCH", &options.prefetch.to_string());
    if options.retries {
        plant.set_env("ASYA_RETRY_MAX_ATTEMPTS", "10");
        plant.set_env("ASYA_RETRY_INITIAL_BACKOFF", "100ms");
    }
    plant.declare(ROUTE[0]);
    plant.add(&Spec::native(ROUTE[0]));
    plant.add(&Spec::python(ROUTE[1], ECHO));
    plant.add(&Spec::native(ROUTE[2]));
    plant
}

struct Storm<'a> {
    plant: Plant<'a>,
    broker: &'a Broker,
    options: &'a Options,
    struck: Vec<Blow>,
    sent: usize,
}

impl Storm<'_> {
    /// Lets the actors work until so many envelopes have ended. False when they stand still, or the time is over.
    fn work_until(&mut self, goal: u64, started: Instant, watch: &mut dyn FnMut(Progress)) -> bool {
        let all = u64::try_from(self.options.envelopes).unwrap_or(u64::MAX);
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < STANDSTILL && started.elapsed() < self.options.limit {
            self.plant.assert_running();
            self.feed();
            if let Some(ended) = self.plant.ended() {
                watch(Progress {
                    ended,
                    struck: self.struck.len(),
                });
                // Duplicates end too: the last goal may be reached before everything is sent.
                let last_goal = goal >= all;
                if ended >= goal && (!last_goal || self.sent == self.options.envelopes) {
                    return true;
                }
                if ended != last {
                    (last, since) = (ended, Instant::now());
                }
            }
            std::thread::sleep(INTERVAL);
        }
        false
    }

    /// Sends more when there is little left to do. Never while something strikes: a publish that is cut off would be
    /// repeated here, and counted against the sidecars.
    fn feed(&mut self) {
        let left = self.options.envelopes - self.sent;
        if left > 0 && self.plant.depth(ROUTE[0]).is_some_and(|depth| depth < BACKLOG) {
            let count = left.min(CHUNK);
            self.plant.send(count, &ROUTE);
            self.sent += count;
        }
    }

    fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::Sidecar(pod) => self.plant.pods[pod].sidecar.crash(),
            Blow::Runtime(pod) => self.plant.pods[pod].runtime.crash(),
            Blow::Pod(pod) => {
                let pod = &mut self.plant.pods[pod];
                pod.sidecar.kill();
                pod.runtime.kill();
                pod.runtime.start_again();
                pod.sidecar.start_again();
            }
            Blow::Connections => {
                let arguments = ["close_all_connections", "--vhost", &self.plant.vhost, "storm"];
                self.broker.control(&arguments);
            }
            Blow::Broker => {
                self.broker.kill();
                self.broker.run();
            }
        }
        self.struck.push(blow);
    }
}
