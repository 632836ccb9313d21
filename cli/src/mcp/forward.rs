//! `asya mcp forward`: a gateway in a cluster, on a port of this machine (contract gateway §10.2).
//!
//! Only what this command started, or finds on record as started by it, is ever stopped: the record is a file for each
//! namespace and Deployment with the process, its start time and the port.

mod record;

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::client::Client;
use super::exit::{McpError, McpExit};
use super::options::ForwardOptions;
use super::words::{note, print};
use record::Record;

/// How often the gateway is asked whether it is there.
const HEALTH_TRIES: u32 = 5;

/// Pause between two of them.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

/// Longest time for one of them.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Ports that are tried.
const PORTS: std::ops::RangeInclusive<u16> = 8080..=8999;

/// Forwards, and prints the address.
pub(super) async fn run(options: ForwardOptions) -> Result<McpExit, McpError> {
    let check = !options.no_check_health;
    if let Some(record) = Record::find(&options.namespace, &options.deployment) {
        let fits = options.local_port.is_none_or(|port| port == record.port);
        if fits && !options.keep_alive && (!check || is_healthy(record.port, 1).await) {
            note(&format!("[.] Reusing the forwarding of process {}", record.pid));
            return printed(record.port);
        }
        record.stop();
    }
    let port = free_port(options.local_port)?;
    let mut child = start(&options, port)?;
    let record = Record::of(&child, port);
    if check && !(forwards(&mut child, port).await?) {
        stop(&mut child);
        return Err(McpError::Local(format!(
            "the gateway does not answer at http://localhost:{port}/health; is Deployment {} in namespace {} running?",
            options.deployment, options.namespace
        )));
    }
    printed(port)?;
    if options.keep_alive {
        stay(child).await?;
    } else {
        record.write(&options.namespace, &options.deployment)?;
    }
    Ok(McpExit::Success)
}

fn printed(port: u16) -> Result<McpExit, McpError> {
    print(&format!("http://localhost:{port}\n"))?;
    Ok(McpExit::Success)
}

fn free_port(wanted: Option<u16>) -> Result<u16, McpError> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    match wanted {
        Some(port) if is_free(&port) => Ok(port),
        Some(port) => Err(McpError::Local(format!("port {port} is in use on this machine"))),
        None => PORTS
            .into_iter()
            .find(is_free)
            .ok_or_else(|| McpError::Local("no port from 8080 to 8999 is free on this machine".to_owned())),
    }
}

fn start(options: &ForwardOptions, port: u16) -> Result<Child, McpError> {
    note(&format!(
        "[.] Forwarding localhost:{port} to port {} of Deployment {} in namespace {}",
        options.port, options.deployment, options.namespace
    ));
    Command::new("kubectl")
        .args([
            "port-forward",
            "-n",
            &options.namespace,
            "--pod-running-timeout=5m",
        ])
        .arg(format!("deployment/{}", options.deployment))
        .arg(format!("{port}:{}", options.port))
        .stdin(Stdio::null())
        // It says where it listens, which is ours to say; its errors are for people.
        .stdout(Stdio::null())
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        .process_group(0)
        .spawn()
        .map_err(|error| McpError::Local(format!("cannot start kubectl: {error}; is it installed?")))
}

/// Whether the gateway answers through it; an error if it has ended by itself.
async fn forwards(child: &mut Child, port: u16) -> Result<bool, McpError> {
    for _ in 0..HEALTH_TRIES {
        if is_healthy(port, 1).await {
            return Ok(true);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(McpError::Local(format!(
                "kubectl port-forward has ended: {status}"
            )));
        }
    }
    Ok(false)
}

async fn is_healthy(port: u16, tries: u32) -> bool {
    let Ok(client) = Client::new(&format!("http://localhost:{port}"), None) else {
        return false;
    };
    for _ in 0..tries {
        if client.is_healthy(HEALTH_LIMIT).await {
            return true;
        }
        tokio::time::sleep(HEALTH_PAUSE).await;
    }
    false
}

/// Waits for the end of the forwarding, or for a signal, which ends it.
async fn stay(mut child: Child) -> Result<(), McpError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| McpError::Local(error.to_string()));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = tokio::time::sleep(HEALTH_PAUSE) => {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(McpError::Local(format!("kubectl port-forward has ended: {status}")));
                }
            }
        }
    }
    stop(&mut child);
    Ok(())
}

fn stop(child: &mut Child) {
    // It may have ended by itself; both is well.
    let _ended = child.kill();
    let _waited = child.wait();
}
