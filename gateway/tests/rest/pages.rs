//! Pages of large envelopes.

use std::collections::BTreeSet;

use reqwest::StatusCode;

use crate::harness::Rig;

const MIB: usize = 1024 * 1024;

/// Follows `next` from page to page; the ids of each page, and how many bytes it had.
async fn walk(rig: &Rig, path: &str) -> Vec<(Vec<String>, usize)> {
    let mut pages = Vec::new();
    let mut from = String::new();
    loop {
        let answer = rig.get(&format!("{path}{from}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let page = answer.json();
        let envelopes = page["envelopes"].as_array().unwrap().iter();
        let ids = envelopes.map(|envelope| envelope["id"].as_str().unwrap().to_owned());
        pages.push((ids.collect(), answer.text.len()));
        match page["next"].as_str() {
            Some(next) => from = format!("&page={next}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_page_ends_before_it_is_large_and_the_next_one_goes_on_there() {
    let rig = Rig::start().await;
    let parent = rig.call().await;
    let mut expected = BTreeSet::new();
    // Small ones and large ones in turn, and two that are larger than a page.
    for (number, size) in [1, MIB, 1, 1, 4 * MIB, MIB, MIB, MIB, 1, 4 * MIB, 1, 1]
        .into_iter()
        .enumerate()
    {
        let id = format!("{parent}-{number}");
        let child = format!(r#"{{"id":"{id}","parent_id":"{parent}","actors":["first"]}}"#);
        assert_eq!(rig.post("/envelopes", child).await.status, StatusCode::CREATED);
        let result = format!("\"{}\"", "x".repeat(size));
        assert_eq!(rig.succeed(&id, &result).await.status, StatusCode::OK);
        expected.insert(id);
    }
    for path in [
        format!("/envelopes?view=full&limit=1000&parent={parent}"),
        format!("/envelopes/{parent}/children?view=full&limit=1000"),
    ] {
        let pages = walk(&rig, &path).await;
        for (ids, bytes) in &pages {
            assert!(
                *bytes < 3 * MIB + 1000 || ids.len() == 1,
                "{ids:?}: {bytes} bytes"
            );
        }
        let seen: Vec<&String> = pages.iter().flat_map(|(ids, _)| ids).collect();
        assert_eq!(seen.len(), expected.len(), "each once: {pages:?}");
        assert!(
            seen.into_iter().eq(expected_newest_first(&expected).iter()),
            "{pages:?}"
        );
    }
    let basic = walk(&rig, &format!("/envelopes?limit=5&parent={parent}")).await;
    let sizes: Vec<usize> = basic.iter().map(|(ids, _)| ids.len()).collect();
    assert_eq!(sizes, [5, 5, 2], "what is small is not cut");
    let full = walk(&rig, &format!("/envelopes?view=full&limit=2&parent={parent}")).await;
    assert!(full.iter().all(|(ids, _)| ids.len() <= 2), "{full:?}");
}

/// The ids end with the order in which they were made.
fn expected_newest_first(ids: &BTreeSet<String>) -> Vec<String> {
    let number = |id: &String| -> usize { id.rsplit('-').next().unwrap().parse().unwrap() };
    let mut ids: Vec<String> = ids.iter().cloned().collect();
    ids.sort_by_key(|id| std::cmp::Reverse(number(id)));
    ids
}
