//! The embedded queue on a full disk, and on directories and files that it cannot use.
#![cfg(feature = "local")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use asya_transport::local::{LocalOptions, LocalTransport, OpenError, StoreError};
use asya_transport::{Administration, Outgoing, PublishError, Settlement, Transport};
use bytes::Bytes;
use common::{PATIENCE, message, publish, queue, receive, text};
use rusqlite::Connection;

fn open_error(directory: &Path) -> OpenError {
    LocalTransport::open(directory, &LocalOptions::default()).unwrap_err()
}

fn large() -> Outgoing {
    Outgoing {
        body: Bytes::from(vec![0; 100 * 1024]),
        ..message("large")
    }
}

fn is_full(error: &PublishError) -> bool {
    let PublishError::Unavailable(cause) = error else {
        return false;
    };
    matches!(cause.downcast_ref(), Some(StoreError::Full { .. }))
}

#[tokio::test]
async fn a_full_file_refuses_messages_and_takes_them_again_when_some_are_consumed() {
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        max_file_size: Some(1024 * 1024),
        ..LocalOptions::default()
    };
    let transport = LocalTransport::open(directory.path(), &options).unwrap();
    transport.declare(&queue()).await.unwrap();
    let mut stored = 0;
    let refused = loop {
        match transport.publish(large()).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 20, "the limit has no effect");
    };
    assert!(is_full(&refused), "{refused:?}");
    let queue_file = directory.path().join("queue.db");
    assert!(
        refused.to_string().contains(queue_file.to_str().unwrap()),
        "{refused}"
    );
    assert!(stored > 5, "{stored}");

    // What fits is stored although it shares its transaction with something that does not.
    let (too_much, small) = futures::join!(transport.publish(large()), transport.publish(message("small")));
    assert!(is_full(&too_much.unwrap_err()));
    small.unwrap();

    for delivery in receive(&transport, 3).await {
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
    }
    transport.publish(large()).await.unwrap();
    assert_eq!(
        transport.depth(&queue()).await.unwrap().total(),
        stored + 1 - 3 + 1
    );
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let mounting = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(directory.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mounting.status.success() {
            Ok(Self { directory })
        } else {
            Err(String::from_utf8_lossy(&mounting.stderr).trim().to_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _reported_by_mount = Command::new("umount")
            .arg("-l")
            .arg(self.directory.path())
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_is_survived_and_loses_nothing() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped, no small file system can be mounted here: {reason}");
            return;
        }
    };
    let transport = common::open(disk.directory.path()).await;
    publish(&transport, "first").await;
    let held = receive(&transport, 1).await;
    let filler = disk.directory.path().join("filler");
    let mut filling = fs::File::create(&filler).unwrap();
    let written = std::io::copy(&mut std::io::repeat(0), &mut filling);
    assert!(written.is_err(), "the disk does not fill up");

    let refused = transport.publish(large()).await.unwrap_err();
    assert!(is_full(&refused), "{refused:?}");
    // A receipt that is dropped now cannot be given back yet; that is done once there is space.
    drop(held);
    let refused = transport.publish(large()).await.unwrap_err();
    assert!(is_full(&refused), "{refused:?}");

    drop(filling); // an open file keeps its space
    fs::remove_file(&filler).unwrap();
    transport.publish(large()).await.unwrap();
    let started = Instant::now();
    while transport.depth(&queue()).await.unwrap().ready != 2 {
        assert!(
            started.elapsed() < PATIENCE,
            "the dropped message does not come back"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let deliveries = receive(&transport, 10).await;
    assert_eq!(text(&deliveries[0]), "first");
    assert_eq!(deliveries.len(), 2);
}

#[test]
fn a_file_that_is_no_database_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.db");
    let content = "this is a shopping list, not a database. ".repeat(200);
    fs::write(&path, &content).unwrap();
    let error = open_error(directory.path());
    assert!(
        matches!(&error, OpenError::NotADatabase { path: named, .. } if *named == path),
        "{error:?}"
    );
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("move it"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn a_damaged_queue_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    drop(LocalTransport::open(directory.path(), &LocalOptions::default()).unwrap());
    let path = directory.path().join("queue.db");
    let mut bytes = fs::read(&path).unwrap();
    // The header stays; the table of tables behind it becomes noise.
    bytes[100..4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = open_error(directory.path());
    assert!(
        matches!(&error, OpenError::NotADatabase { path: named, .. } if *named == path),
        "{error:?}"
    );
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queue.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .unwrap();
    let before = fs::read(&path).unwrap();
    let error = open_error(directory.path());
    assert!(
        matches!(&error, OpenError::ForeignDatabase { path: named } if *named == path),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().unwrap();
    drop(LocalTransport::open(directory.path(), &LocalOptions::default()).unwrap());
    let path = directory.path().join("queue.db");
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = open_error(directory.path());
    assert!(
        matches!(
            error,
            OpenError::NewerSchema {
                found: 7,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[test]
fn a_file_in_the_place_of_the_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queues");
    fs::write(&path, "").unwrap();
    let error = open_error(&path);
    assert!(
        matches!(&error, OpenError::NotWritable { path: named, .. } if *named == path),
        "{error:?}"
    );
}

#[test]
fn an_impossible_message_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        max_message_size: usize::MAX,
        ..LocalOptions::default()
    };
    let error = LocalTransport::open(directory.path(), &options).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::MessageSize {
                asked: usize::MAX,
                ..
            }
        ),
        "{error:?}"
    );
}

const UNWRITABLE: &str = "QUEUE_TEST_UNWRITABLE";

#[test]
#[ignore = "the entry point of the child process of the next test"]
fn child_process() {
    let Some(directory) = std::env::var_os(UNWRITABLE).map(PathBuf::from) else {
        return;
    };
    let error = open_error(&directory);
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    assert!(error.to_string().contains(directory.to_str().unwrap()), "{error}");
    assert!(error.to_string().contains("write permission"), "{error}");
}

/// Root may write everywhere, so a child without rights tries; for any user it is a child without these rights.
#[test]
fn a_directory_without_write_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let fresh = parent.path().join("fresh");
    let used = parent.path().join("used");
    fs::create_dir(&fresh).unwrap();
    drop(LocalTransport::open(&used, &LocalOptions::default()).unwrap());
    for path in [
        used.join("queue.db"),
        fresh.clone(),
        used.join("owners"),
        used.clone(),
    ] {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for directory in [&fresh, &used] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--ignored", "--exact", "child_process"])
            .env(UNWRITABLE, directory);
        if fs::File::create(parent.path().join("fresh/probe")).is_ok() {
            fs::remove_file(parent.path().join("fresh/probe")).unwrap();
            child.uid(65_534).gid(65_534);
        }
        match child.output() {
            Ok(output) => {
                let output = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.contains("1 passed"), "{output}");
            }
            Err(error) => println!("skipped, another user cannot run this test program: {error}"),
        }
    }
}
