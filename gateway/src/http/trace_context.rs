//! W3C trace context of a request, on its way into the headers of an envelope. Pure.

use asya_runtime_protocol::{RawJson, RawObject};
use axum::http::HeaderMap;

/// Longest `tracestate` that is carried, in bytes (W3C asks for 512 at least).
const LONGEST_STATE: usize = 1024;

/// The headers that an envelope gets: `traceparent`, and `tracestate` with it. `None` when the request has none that is
/// valid; a bad one is as good as none (W3C Trace Context §3.3).
pub(super) fn trace_context(headers: &HeaderMap) -> Option<RawObject> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?.trim();
    if parents.next().is_some() || !is_valid(parent) {
        return None;
    }
    let mut context = RawObject::new();
    context.insert("traceparent", &RawJson::from_text(parent));
    if let Some(state) = state(headers) {
        context.insert("tracestate", &RawJson::from_text(&state));
    }
    Some(context)
}

fn is_valid(parent: &str) -> bool {
    let mut parts = parent.split('-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (version, trace, span, flags) = (hex(2), hex(32), hex(16), hex(2));
    let is_zero = |part: Option<&str>| part.is_none_or(|part| part.bytes().all(|byte| byte == b'0'));
    // A later version may have more parts; this one has not.
    let ends = version != Some("00") || parts.next().is_none();
    version.is_some_and(|version| version != "ff")
        && !is_zero(trace)
        && !is_zero(span)
        && flags.is_some()
        && ends
}

fn state(headers: &HeaderMap) -> Option<String> {
    let lines: Option<Vec<&str>> = headers
        .get_all("tracestate")
        .iter()
        .map(|line| line.to_str().ok().map(str::trim))
        .collect();
    Some(lines?.join(",")).filter(|state| !state.is_empty() && state.len() <= LONGEST_STATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(pairs: &[(&'static str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        trace_context(&headers).map(|context| context.as_str().to_owned())
    }

    #[test]
    fn a_valid_parent_and_its_state_are_carried() {
        assert_eq!(
            context(&[
                ("traceparent", PARENT),
                ("tracestate", "a=1"),
                ("tracestate", "b=2")
            ])
            .unwrap(),
            format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=1,b=2"}}"#)
        );
        assert_eq!(
            context(&[("traceparent", PARENT)]).unwrap(),
            format!(r#"{{"traceparent":"{PARENT}"}}"#)
        );
        let later = PARENT.replacen("00", "01", 1) + "-more";
        assert!(context(&[("traceparent", &later)]).is_some());
    }

    #[test]
    fn what_is_no_trace_parent_is_ignored() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for parent in [
            "",
            "00",
            "nonsense",
            &PARENT.to_uppercase(),
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &PARENT.replacen("00", "ff", 1),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(
                context(&[("traceparent", parent), ("tracestate", "a=1")]),
                None,
                "{parent}"
            );
        }
        assert_eq!(context(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(context(&[("tracestate", "a=1")]), None);
    }
}
