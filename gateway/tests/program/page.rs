//! `docs/gateway.md` says what the program does.

use crate::setup::{Place, call, get, run};

const PAGE: &str = include_str!("../../../docs/gateway.md");

/// The parts between markers, with the markers.
fn parts(text: &str) -> Vec<&str> {
    let begins: Vec<_> = text.match_indices("<!-- begin ").map(|(at, _)| at).collect();
    let part = |at: usize| {
        let end = text[at..].find("<!-- end ").expect("a marker at the end");
        text[at..at + end].trim_end()
    };
    begins.into_iter().map(part).collect()
}

#[test]
fn the_tables_of_the_page_are_those_of_the_program() {
    let generated = run(&["--markdown"], &[]).output;
    let (page, program) = (parts(PAGE), parts(&generated));
    assert_eq!(page.len(), program.len());
    for (page, program) in page.into_iter().zip(program) {
        assert_eq!(
            page, program,
            "run `asya-gateway --markdown` and put this part into docs/gateway.md"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_every_metric_that_is_there() {
    let place = Place::new();
    place.declare_local("first").await;
    let gateway = place.start(&[("ASYA_TRANSPORT", "local"), ("ASYA_METRICS_ADDR", "127.0.0.1:0")]);
    let url = gateway.url().await;
    let id = call(&url, "slow").await;
    get(&url, &format!("/envelopes/{id}")).await;
    let apart = format!("http://{}", gateway.field("serving", "metrics").await);
    for place in [&url, &apart] {
        let (status, text) = get(place, "/metrics").await;
        assert_eq!(status, 200);
        let metrics: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        assert!(metrics.len() >= 8, "{metrics:?}");
        for (name, kind) in metrics {
            assert!(PAGE.contains(&format!("| `{name}` | {kind} |")), "{name} {kind}");
        }
    }
    assert_eq!(
        get(&apart, "/envelopes").await.0,
        404,
        "nothing but metrics and health"
    );
    assert_eq!(get(&apart, "/readyz").await.0, 200);
}
