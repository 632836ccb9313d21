//! What the tests share: running the program to its end, and asking one that runs.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use asya_tests::plant::{Program, Spec};
use asya_tests::{sidecar, wait_for};
use serde_json::Value;

/// A program that has ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

impl Ended {
    /// The texts of log lines of a level.
    pub(crate) fn lines(&self, level: &str) -> Vec<String> {
        texts(&self.output, level)
    }
}

/// Runs the program with these variables alone, until it ends.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut child = Command::new("timeout")
        .args(["--signal=KILL", "60"])
        .arg(sidecar())
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout comes with coreutils");
    let (mut output, mut errors) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    Ended {
        code: child.wait().unwrap().code(),
        output: output + &errors,
    }
}

/// The texts of JSON log lines of a level.
pub(crate) fn texts(log: &str, level: &str) -> Vec<String> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["level"] == level)
        .map(|line| line["msg"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// With endpoints on a port that nobody else uses.
pub(crate) fn serving(spec: Spec) -> Spec {
    spec.sidecar_env("ASYA_METRICS_ENABLED", "true")
        .sidecar_env("ASYA_METRICS_ADDR", "127.0.0.1:0")
}

/// Where a running sidecar serves its endpoints, as its log says.
pub(crate) fn address(program: &mut Program) -> String {
    wait_for("the address of the endpoints", || {
        program.assert_running();
        let log = program.log();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| {
            line["msg"]
                .as_str()
                .is_some_and(|text| text.starts_with("serving /metrics"))
        })?;
        line["address"].as_str().map(str::to_owned)
    })
}

/// Status and body of a GET.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: sidecar\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Why it is not ready; nothing when it is.
pub(crate) fn unready(address: &str) -> Vec<String> {
    let (status, body) = get(address, "/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["ready"], status == 200, "{body}");
    let reasons = body["reasons"].as_array().unwrap();
    reasons
        .iter()
        .map(|reason| reason.as_str().unwrap().to_owned())
        .collect()
}

/// Waits until it is unready for one reason that holds `text`; for none with an empty one. It is alive all the time.
pub(crate) fn wait_unready(program: &mut Program, address: &str, text: &str) {
    let mut seen = Vec::new();
    let what = format!("/readyz to say {text:?}");
    wait_for(&what, || {
        program.assert_running();
        assert_eq!(get(address, "/livez").0, 200);
        seen = unready(address);
        let fits = match seen.as_slice() {
            [] => text.is_empty(),
            [only] => !text.is_empty() && only.contains(text),
            _ => false,
        };
        fits.then_some(())
    });
}

/// All samples of `/metrics`, by name and labels as they are written.
pub(crate) fn samples(address: &str) -> HashMap<String, f64> {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, value) = line.rsplit_once(' ').expect("a name and a value");
            (key.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}
