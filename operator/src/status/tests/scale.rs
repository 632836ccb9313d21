//! When the number of ready pods changed last.

use super::fixtures::{at, before, scaled, seen};
use crate::status::scale::Scale;
use crate::status::{Status, assess};

fn scaling(status: &Status) -> (Option<&str>, Option<&str>, &str) {
    (
        status.last_scale_time.as_deref(),
        status.last_scale_direction.as_deref(),
        status.last_scale_formatted.as_deref().unwrap(),
    )
}

#[test]
fn a_change_of_ready_pods_is_a_scaling() {
    let of = |previous: &Status, ready| {
        let status = assess(&scaled(), previous, &seen(ready, ready, ready), at("12:00:00.7"));
        let (time, direction, text) = scaling(&status);
        (
            time.map(str::to_owned),
            direction.map(str::to_owned),
            text.to_owned(),
        )
    };
    let now = || Some("2026-03-01T12:00:00Z".to_owned());
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of(&Status::default(), 0), (None, None, "-".to_owned()));
    assert_eq!(
        of(&Status::default(), 3),
        (now(), some("up"), "0s ago (up)".to_owned())
    );
    assert_eq!(
        of(&before(5, None), 3),
        (now(), some("down"), "0s ago (down)".to_owned())
    );
    assert_eq!(
        of(&before(3, Some("11:55:00")), 3),
        (some("2026-03-01T11:55:00Z"), some("up"), "5m ago (up)".to_owned())
    );
}

#[test]
fn what_others_wrote_is_shown_or_left_out() {
    let mut previous = before(3, Some("11:55:00"));
    previous.last_scale_direction = None;
    let status = assess(&scaled(), &previous, &seen(3, 3, 3), at("12:00:00"));
    assert_eq!(scaling(&status), (Some("2026-03-01T11:55:00Z"), None, "5m ago"));
    previous.last_scale_time = Some("yesterday".to_owned());
    let status = assess(&scaled(), &previous, &seen(3, 3, 3), at("12:00:00"));
    assert_eq!(scaling(&status), (None, None, "-"));
}

#[test]
fn the_text_grows_in_coarse_steps_and_says_when() {
    let scale = Scale {
        last: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        direction: "up".to_owned(),
    };
    let mut texts = vec![];
    let mut now = scale.last.unwrap();
    let end = "2026-03-04T00:00:00Z".parse().unwrap();
    while now < end {
        let text = scale.text(now);
        let next = scale.next_text(now).unwrap();
        let just_before = next - jiff::SignedDuration::from_nanos(1);
        assert_eq!(
            scale.text(just_before),
            text,
            "nothing changes before it was said to"
        );
        assert_ne!(scale.text(next), text, "it changes when it was said to");
        assert!(
            next.duration_since(now) >= jiff::SignedDuration::from_mins(1),
            "not more than once a minute"
        );
        texts.push(text);
        now = next;
    }
    let ends = |number: usize| texts[number].as_str();
    assert_eq!(
        (ends(0), ends(1), ends(5), ends(6)),
        ("0s ago (up)", "1m ago (up)", "5m ago (up)", "10m ago (up)")
    );
    assert_eq!(
        (ends(15), ends(16), ends(38), ends(39)),
        ("55m ago (up)", "1h ago (up)", "23h ago (up)", "1d ago (up)")
    );
    assert_eq!(texts.len(), 16 + 23 + 2, "writes of three days");
}

#[test]
fn a_time_to_come_counts_as_now() {
    let scale = Scale {
        last: Some(at("12:00:00")),
        direction: String::new(),
    };
    assert_eq!(scale.text(at("11:00:00")), "0s ago");
}
