//! The store of results over real directories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use asya_objects::{Durability, End, Facts, OpenError, Results, StoredObject};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio::task::JoinSet;
use url::Url;

fn fresh() -> (TempDir, Results) {
    let dir = tempfile::tempdir().unwrap();
    let results = Results::open_directory(dir.path(), Durability::Process).unwrap();
    (dir, results)
}

fn actors() -> Vec<String> {
    ["split", "sum"].map(str::to_owned).to_vec()
}

async fn put(results: &Results, end: End, id: &str, attempt: u32, body: &'static str) -> StoredObject {
    let facts = Facts {
        id,
        actors: &actors(),
        current: 2,
        attempt,
    };
    results
        .put_result(end, &facts, Bytes::from_static(body.as_bytes()))
        .await
        .unwrap()
}

/// All files below `dir`, relative to it.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn an_object_lies_under_prefix_time_and_last_actor() {
    let (dir, results) = fresh();
    let before = Utc::now();
    let stored = put(
        &results,
        End::Happy,
        "order-17",
        1,
        r#"{"id":"order-17","payload":1.50}"#,
    )
    .await;
    let [prefix, time, actor, name] = stored.key.split('/').collect::<Vec<_>>()[..] else {
        panic!("{}", stored.key)
    };
    assert_eq!((prefix, actor, name), ("happy-asya", "sum", "order-17.json"));
    assert_eq!(time.len(), "2026-05-01T12:30:00.123456Z".len());
    let time = DateTime::parse_from_rfc3339(time).unwrap().to_utc();
    assert!(before.timestamp_micros() <= time.timestamp_micros() && time <= Utc::now());
    let file = dir.path().canonicalize().unwrap().join(&stored.key);
    assert_eq!(stored.path.as_deref(), Some(&*file));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "{\n  \"id\": \"order-17\",\n  \"payload\": 1.50\n}"
    );
    assert_eq!(results.read(&stored).await.unwrap(), fs::read(&file).unwrap());
    let pointer = PathBuf::from("index-asya/order-17/happy-1");
    assert_eq!(fs::read_to_string(dir.path().join(&pointer)).unwrap(), stored.key);
    assert_eq!(
        files(dir.path()),
        BTreeSet::from([pointer, PathBuf::from(&stored.key)])
    );
}

#[tokio::test]
async fn the_same_id_and_attempt_is_one_object_and_the_last_body_counts() {
    let (dir, results) = fresh();
    let first = put(&results, End::Happy, "x", 1, "1").await;
    // Another process, later, with other settings.
    let reopened = Results::open(dir.path().to_str().unwrap(), Durability::Power)
        .unwrap()
        .with_prefix(End::Happy, "elsewhere/")
        .unwrap();
    assert_eq!(put(&reopened, End::Happy, "x", 1, "2").await, first);
    assert_eq!(results.read(&first).await.unwrap(), "2");
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn writers_at_the_same_time_agree_on_one_object() {
    let (dir, results) = fresh();
    let mut writers = JoinSet::new();
    for _ in 0..32 {
        let results = results.clone();
        writers.spawn(async move { put(&results, End::Error, "x", 1, "[1]").await.key });
    }
    let keys: BTreeSet<String> = writers.join_all().await.into_iter().collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn attempts_and_ends_have_objects_of_their_own_and_are_found_by_id() {
    let (_dir, results) = fresh();
    assert_eq!(results.find("x").await.unwrap(), []);
    let second = put(&results, End::Error, "x", 2, "2").await;
    let tenth = put(&results, End::Happy, "x", 10, "10").await;
    let first = put(&results, End::Error, "x", 1, "1").await;
    let late = put(&results, End::Happy, "x", 1, "0").await;
    put(&results, End::Happy, "x/y", 1, "3").await;
    assert!(first.key.starts_with("error-asya/"));
    assert_eq!(results.find("x").await.unwrap(), [late, first, second, tenth]);
}

#[tokio::test]
async fn any_id_is_stored_under_a_name_of_its_own_inside_the_directory() {
    let outer = tempfile::tempdir().unwrap();
    // What a URL or a shell could misread.
    let root = outer.path().join("a b%20#ü?");
    let url = Url::from_directory_path(&root).unwrap();
    let results = Results::open(url.as_str(), Durability::Process).unwrap();
    let long = "x".repeat(300);
    let ids = [
        ".",
        "..",
        "../../etc/passwd",
        "/",
        "a/b",
        "a%2Fb",
        "a b",
        "ü",
        "名前",
        "\u{0}\n",
        "x#1",
        "#1",
        "-",
        "~",
        "C:\\x",
        "%",
        "*",
        "a=b",
        &long,
        &(long.clone() + "y"),
        &"é/".repeat(500),
        &"🦀".repeat(80),
    ];
    for id in ids {
        let stored = put(&results, End::Happy, id, 1, r#"{"a":[]}"#).await;
        assert_eq!(
            results.find(id).await.unwrap(),
            std::slice::from_ref(&stored),
            "{id}"
        );
        let path = stored.path.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\n  \"a\": []\n}");
        assert_eq!(Url::parse(&stored.url).unwrap().to_file_path().unwrap(), path);
    }
    assert_eq!(files(&root).len(), 2 * ids.len());
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_disk_that_refuses_is_an_error_and_the_next_try_goes_on_where_it_stopped() {
    let (dir, results) = fresh();
    // A file where a directory has to be; unlike missing permissions it also stops root.
    let obstacle = dir.path().join("happy-asya");
    fs::write(&obstacle, "").unwrap();
    let facts = Facts {
        id: "x",
        actors: &actors(),
        current: 0,
        attempt: 1,
    };
    let failed = results
        .put_result(End::Happy, &facts, "{}".into())
        .await
        .unwrap_err();
    assert_eq!(failed.action, "write");
    assert!(failed.to_string().contains("Not a directory"), "{failed}");
    assert!(failed.key.ends_with("/split/x.json"), "{failed}");

    fs::remove_file(&obstacle).unwrap();
    assert_eq!(results.find("x").await.unwrap(), []);
    let stored = results.put_result(End::Happy, &facts, "{}".into()).await.unwrap();
    assert_eq!(stored.key, failed.key);
    assert_eq!(files(dir.path()).len(), 2);
}

#[tokio::test]
async fn no_pointer_no_object() {
    let (dir, results) = fresh();
    fs::write(dir.path().join("index-asya"), "").unwrap();
    let facts = Facts {
        id: "x",
        actors: &[],
        current: 0,
        attempt: 1,
    };
    let failed = results
        .put_result(End::Error, &facts, "{}".into())
        .await
        .unwrap_err();
    assert_eq!((failed.action, &*failed.key), ("create", "index-asya/x/error-1"));
    assert_eq!(files(dir.path()).len(), 1);
}

#[tokio::test]
async fn a_pointer_that_a_power_cut_damaged_is_replaced() {
    let (dir, results) = fresh();
    let pointer = dir.path().join("index-asya/x/happy-1");
    for damage in [
        "",
        "happy-asya/../../x.json",
        "happy-asya/time/actor/other.json",
        "\u{0}\u{0}",
    ] {
        fs::create_dir_all(pointer.parent().unwrap()).unwrap();
        fs::write(&pointer, damage).unwrap();
        assert_eq!(results.find("x").await.unwrap(), []);
        let stored = put(&results, End::Happy, "x", 1, "1").await;
        assert_eq!(fs::read_to_string(&pointer).unwrap(), stored.key);
        assert_eq!(results.find("x").await.unwrap(), [stored]);
    }
}

#[tokio::test]
async fn files_of_killed_writers_are_in_nobodys_way() {
    let (dir, results) = fresh();
    let stored = put(&results, End::Happy, "x", 1, "1").await;
    let left = format!("{}#1", stored.path.as_ref().unwrap().display());
    fs::write(&left, "half").unwrap();
    fs::write(dir.path().join("index-asya/x/happy-2#1"), "half").unwrap();
    assert_eq!(put(&results, End::Happy, "x", 1, "2").await, stored);
    assert_eq!(results.read(&stored).await.unwrap(), "2");
    assert_eq!(results.find("x").await.unwrap(), [stored]);
}

#[tokio::test]
async fn prefixes_are_put_before_the_time_as_they_are() {
    let (_dir, results) = fresh();
    let results = results
        .with_prefix(End::Happy, "done/here/run-")
        .unwrap()
        .with_prefix(End::Error, "")
        .unwrap();
    let year = Utc::now().format("%Y-").to_string();
    let happy = put(&results, End::Happy, "x", 1, "1").await;
    assert!(
        happy.key.starts_with(&format!("done/here/run-{year}")),
        "{}",
        happy.key
    );
    assert!(
        put(&results, End::Error, "x", 1, "1")
            .await
            .key
            .starts_with(&year)
    );
    for wrong in ["/", "/a", "../", "a//", "a/./", "a\n"] {
        let refused = results.clone().with_prefix(End::Happy, wrong);
        assert!(matches!(refused, Err(OpenError::Prefix { .. })), "{wrong:?}");
    }
}

#[test]
fn places_that_cannot_be_opened_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let open = |location: &str| {
        Results::open(location, Durability::Process)
            .unwrap_err()
            .to_string()
    };
    for (location, reason) in [
        ("", "it is empty"),
        ("gs://bucket", "unknown kind `gs`"),
        ("file://host/x", "no local path"),
        ("://", "relative URL"),
        (file.to_str().unwrap(), "cannot open the results directory"),
        (file.join("below").to_str().unwrap(), "Not a directory"),
    ] {
        let text = open(location);
        assert!(text.contains(reason), "{location}: {text}");
    }
    #[cfg(not(feature = "s3"))]
    assert_eq!(
        open("s3://bucket/prefix"),
        "`s3://bucket/prefix` needs the cargo feature `s3`, which this program was built without"
    );
}

#[tokio::test]
async fn a_relative_path_is_one_below_the_working_directory() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let location = format!(
        "{}/new/results",
        dir.path().file_name().unwrap().to_str().unwrap()
    );
    let results = Results::open(&location, Durability::Process).unwrap();
    let stored = put(&results, End::Happy, "x", 1, "1").await;
    assert!(stored.path.unwrap().is_absolute());
    assert!(stored.url.starts_with("file:///"));
    assert_eq!(files(&dir.path().join("new/results")).len(), 2);
}
