//! The names in a formula of KEDA's (the language is `expr`), as far as needed to see that they exist.
//!
//! What it is not: a parser. KEDA compiles the formula; this sees the one mistake that is easy to make and hard to find
//! there, and lets pass whatever it is not sure of.

use std::collections::BTreeSet;

/// Words of the language that are no names.
const WORDS: [&str; 16] = [
    "and",
    "contains",
    "else",
    "endsWith",
    "false",
    "if",
    "in",
    "let",
    "matches",
    "nil",
    "not",
    "or",
    "startsWith",
    "true",
    "null",
    "none",
];

/// The first name that stands for a value and is neither `known` nor bound by the formula itself.
pub(super) fn unknown_name<'a>(formula: &'a str, known: &str) -> Option<&'a str> {
    let tokens = tokens(formula);
    let mut bound = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let Token::Name(name) = *token else { continue };
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let after = tokens.get(index + 1);
        let is_bound_here = before == Some(&Token::Name("let"));
        if is_bound_here {
            bound.insert(name);
        }
        let is_member = matches!(before, Some(Token::Sign('.' | '#' | '$')));
        let is_call = after == Some(&Token::Sign('('));
        let is_key = after == Some(&Token::Sign(':')) && matches!(before, Some(Token::Sign('{' | ',')));
        let is_known = name == known || WORDS.contains(&name) || bound.contains(name);
        if !(is_known || is_member || is_call || is_key) {
            return Some(name);
        }
    }
    None
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// A number or a text.
    Literal,
    Sign(char),
}

fn tokens(formula: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = formula;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if is_name(first) && !first.is_ascii_digit() => {
                let length = rest.find(|each| !is_name(each)).unwrap_or(rest.len());
                tokens.push(Token::Name(&rest[..length]));
                length
            }
            '0'..='9' => {
                tokens.push(Token::Literal);
                rest.find(|each| !is_name(each) && each != '.')
                    .unwrap_or(rest.len())
            }
            '"' | '\'' | '`' => {
                tokens.push(Token::Literal);
                text_length(rest, first)
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Sign(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_name(each: char) -> bool {
    each.is_alphanumeric() || each == '_'
}

/// Bytes of a quoted text with its quotes; the rest of the formula if it never ends.
fn text_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, each) in text.char_indices().skip(1) {
        if each == quote && !is_escaped {
            return index + each.len_utf8();
        }
        is_escaped = each == '\\' && quote != '`' && !is_escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::unknown_name;

    #[test]
    fn names_of_triggers_are_told_from_the_rest_of_a_formula() {
        let table = [
            ("ceil(queueLength / 10)", None),
            ("queueLength > 3 ? queueLength : 0", None),
            ("let half = queueLength / 2; max([half, 1.5e3])", None),
            ("queueLength ?? 0", None),
            ("\"a \\\" name\" == 'other' ? 1 : queueLength", None),
            ("float($env[\"queueLength\"])", None),
            ("sum([1, 2], {# + queueLength})", None),
            ("{a: 1, b: queueLength}.a", None),
            ("3", None),
            ("queue / 10", Some("queue")),
            ("ceil(queuelength / 10)", Some("queuelength")),
            ("queueLength > 3 ? fast : slow", Some("fast")),
            ("queueLength + trig_one", Some("trig_one")),
            ("later + queueLength; let later = 1", Some("later")),
        ];
        for (formula, unknown) in table {
            assert_eq!(unknown_name(formula, "queueLength"), unknown, "{formula}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_looked_at(formula in "\\PC*") {
            unknown_name(&formula, "queueLength");
        }
    }
}
