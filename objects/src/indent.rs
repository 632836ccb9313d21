//! JSON laid out for people, as text: no number, string or order is touched.

/// Levels that are spread over lines; what lies deeper is written on one line.
const LEVELS: usize = 32;

/// Lays out `json` with two spaces per level, as `json.dumps(value, indent=2)` does, but on the text itself: `1e400`,
/// big integers, escapes, key order and duplicate keys stay as they are.
///
/// Any depth of nesting is fine: only the outer 32 levels are spread over lines, fewer when the result would be more
/// than about eight times as long as the input. Text that is no JSON keeps all but its white space.
pub fn indent(json: &[u8]) -> Vec<u8> {
    let limit = json.len().saturating_mul(8).saturating_add(4096);
    let mut levels = LEVELS;
    loop {
        let mut layout = Layout {
            out: Vec::with_capacity(json.len() + json.len() / 2),
            depth: 0,
            levels,
        };
        let limit = if levels == 0 { usize::MAX } else { limit };
        if layout.write(json, limit) {
            return layout.out;
        }
        levels /= 2;
    }
}

struct Layout {
    out: Vec<u8>,
    depth: usize,
    levels: usize,
}

impl Layout {
    /// Writes everything; `false` as soon as that takes more than `limit` bytes.
    fn write(&mut self, mut rest: &[u8], limit: usize) -> bool {
        rest = rest.trim_ascii_start();
        while let Some(&byte) = rest.first() {
            let length = match byte {
                b'"' => string_length(rest),
                b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
                _ => rest
                    .iter()
                    .position(|byte| ends_token(*byte))
                    .unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(length);
            rest = after.trim_ascii_start();
            match byte {
                b'{' | b'[' => rest = self.open(byte, rest),
                b'}' | b']' => self.close(byte),
                b',' => {
                    self.out.push(byte);
                    self.new_line();
                }
                b':' => {
                    self.out.push(byte);
                    if self.spreads() {
                        self.out.push(b' ');
                    }
                }
                _ => self.out.extend_from_slice(token),
            }
            if self.out.len() > limit {
                return false;
            }
        }
        true
    }

    /// Opens an object or array; an empty one is closed at once.
    fn open<'a>(&mut self, byte: u8, rest: &'a [u8]) -> &'a [u8] {
        self.out.push(byte);
        if let Some((&close @ (b'}' | b']'), after)) = rest.split_first() {
            self.out.push(close);
            return after.trim_ascii_start();
        }
        self.depth += 1;
        self.new_line();
        rest
    }

    fn close(&mut self, byte: u8) {
        let spread = self.spreads();
        self.depth = self.depth.saturating_sub(1);
        if spread {
            self.push_line();
        }
        self.out.push(byte);
    }

    /// Whether the innermost open object or array is spread over lines.
    fn spreads(&self) -> bool {
        self.depth <= self.levels
    }

    fn new_line(&mut self) {
        if self.spreads() {
            self.push_line();
        }
    }

    fn push_line(&mut self) {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
    }
}

/// Length of the string at the start of `text`, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn ends_token(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn laid_out(text: &str) -> String {
        String::from_utf8(indent(text.as_bytes())).unwrap()
    }

    /// The text without the white space that is not inside strings; written apart from the code under test.
    fn tokens(text: &str) -> String {
        let (mut inside, mut backslashes) = (false, 0_usize);
        text.chars()
            .filter(|&c| {
                let quote = c == '"' && backslashes.is_multiple_of(2);
                backslashes = if inside && c == '\\' { backslashes + 1 } else { 0 };
                inside ^= quote;
                inside || !matches!(c, ' ' | '\n' | '\r' | '\t')
            })
            .collect()
    }

    #[test]
    fn the_layout_is_two_spaces_per_level() {
        assert_eq!(
            laid_out(r#" {"a" :[1,{ }, [ ] ,{"b":null}],"c":"x, {\"y\": [1]}" } "#),
            concat!(
                "{\n  \"a\": [\n    1,\n    {},\n    [],\n    {\n      \"b\": null\n    }\n  ],\n",
                "  \"c\": \"x, {\\\"y\\\": [1]}\"\n}"
            )
        );
        assert_eq!(laid_out(" 1 "), "1");
    }

    #[test]
    fn tokens_that_no_reader_could_keep_are_kept() {
        for token in [
            "1e400",
            "-0",
            "1.50",
            "123456789012345678901234567890",
            r#""\ud800""#,
            r#""\u00e9é\/""#,
            r#""\\""#,
            r#""\\\"""#,
            "\"\u{7f} \t\u{2028}\"",
        ] {
            assert_eq!(
                laid_out(&format!("[{token},{token}]")),
                format!("[\n  {token},\n  {token}\n]")
            );
        }
        assert_eq!(
            laid_out(r#"{"z":1,"a":2,"z":3}"#),
            "{\n  \"z\": 1,\n  \"a\": 2,\n  \"z\": 3\n}"
        );
    }

    #[test]
    fn depth_costs_neither_stack_nor_memory() {
        let levels = 200_000;
        let text = "[".repeat(levels) + "1" + &"]".repeat(levels);
        let deep = laid_out(&text);
        assert_eq!(tokens(&deep), text);
        assert!(deep.starts_with("[\n  [\n    ["));
        assert!(deep.len() < text.len() + 4096);
        let objects = r#"{"a":"#.repeat(levels) + "1" + &"}".repeat(levels);
        assert_eq!(tokens(&laid_out(&objects)), objects);
    }

    #[test]
    fn many_small_values_deep_inside_do_not_blow_up() {
        let text = "[".repeat(30) + &"1,".repeat(1_000_000) + "1" + &"]".repeat(30);
        let wide = laid_out(&text);
        assert_eq!(tokens(&wide), text);
        assert!(wide.len() <= text.len() * 8 + 4096, "{} bytes", wide.len());
    }

    #[test]
    fn text_that_is_no_json_is_passed_on() {
        for text in ["", "]", "}}", "[", "{\"a", "\"\\", "[}", "a:b,c"] {
            assert_eq!(tokens(&laid_out(text)), text);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\\\\" {}\\[\\],:\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_layout_is_that_of_a_known_writer(value in any_json()) {
            let text = value.to_string();
            let pretty = laid_out(&text);
            prop_assert_eq!(&pretty, &serde_json::to_string_pretty(&value).unwrap());
            prop_assert_eq!(tokens(&pretty), text);
            prop_assert_eq!(laid_out(&pretty), pretty);
        }

        #[test]
        fn any_text_at_all_keeps_its_tokens(text in "[\\\\\"{}\\[\\],: \n1e]{0,40}") {
            prop_assert_eq!(tokens(&laid_out(&text)), tokens(&text));
        }
    }
}
