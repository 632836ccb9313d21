//! References between variables, as a kubelet reads them: `$(NAME)`, and `$$` for a dollar sign.

use std::collections::BTreeMap;

/// Writes `values` in place of references to them; everything else stays as it is, `$$` included.
pub(super) fn substitute(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The same text, whatever is written after it: a dollar sign that begins nothing is doubled.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
        } else if after.starts_with('(') && after.contains(')') {
            out.push('$');
            rest = after;
        } else {
            out.push_str("$$");
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_dollars_are_doubled() {
        for (written, escaped) in [
            ("a$", "a$$"),
            ("$$", "$$"),
            ("$(A)$x", "$(A)$$x"),
            ("$(A", "$$(A"),
            ("é", "é"),
        ] {
            assert_eq!(escape(written), escaped, "{written}");
        }
    }

    #[test]
    fn only_known_names_are_written_in() {
        let values = BTreeMap::from([("A".to_owned(), "$(B)/a".to_owned())]);
        for (written, read) in [
            ("$(A):/b", "$(B)/a:/b"),
            ("$$(A)", "$$(A)"),
            ("$$$(A)", "$$$(B)/a"),
            ("$(C) $A $", "$(C) $A $"),
            ("$(A", "$(A"),
            ("é$(A)é", "é$(B)/aé"),
        ] {
            assert_eq!(substitute(written, &values), read, "{written}");
        }
    }
}
