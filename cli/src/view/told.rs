//! What handlers tell while they run: intermediate results and progress notes, as one short line each.
//!
//! It is text of a handler, often made of its input: no control character of it reaches the terminal.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use asya_runtime_protocol::RawJson;
use asya_sidecar::Event;

/// Longest line of a partial or a note, in characters.
const LONGEST: usize = 160;

/// A larger partial is not looked into: only its size is told.
const LARGEST: usize = 64 * 1024;

/// Plain lines of one actor that come at once, and after which time there is room for one more.
const AT_ONCE: (u32, Duration) = (10, Duration::from_millis(250));

/// Something that a handler told about a call under way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// An intermediate result.
    Partial(RawJson),
    /// How far it is, 0 to 1, and at what.
    Note {
        fraction: Option<f64>,
        message: Option<String>,
    },
}

impl Told {
    /// What `event` tells, if it is of this kind and tells anything.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Partial { value, .. } => Some(Self::Partial(value.clone())),
            Event::Noted {
                fraction: None,
                message: None,
            } => None,
            Event::Noted { fraction, message } => Some(Self::Note {
                fraction: *fraction,
                message: message.clone(),
            }),
            _ => None,
        }
    }

    /// For a live line, which has little room.
    pub(super) fn live(&self) -> String {
        match self {
            Self::Partial(value) => partial(value),
            Self::Note { fraction, message } => note(*fraction, message.as_deref()),
        }
    }

    /// For a line of its own.
    pub(super) fn plain(&self, actor: &str, id: &str) -> String {
        let id = head(id);
        match self {
            Self::Partial(value) => format!("[{actor}] {id} partial: {}", partial(value)),
            Self::Note { fraction, message } => {
                format!("[{actor}] {id} {}", note(*fraction, message.as_deref()))
            }
        }
    }
}

/// Text that grows is most interesting at its end; other JSON tells most at its beginning.
fn partial(value: &RawJson) -> String {
    if value.len() > LARGEST {
        return format!("{} KiB of JSON", value.len() / 1024);
    }
    value
        .to_text()
        .map_or_else(|| head(value.as_str()), |text| tail(&text))
}

/// `42 % reading page 3`, or the half of it that was told.
fn note(fraction: Option<f64>, message: Option<&str>) -> String {
    let mut line = String::new();
    if let Some(fraction) = fraction.filter(|fraction| !fraction.is_nan()) {
        // Writing to a String cannot fail.
        let _written = write!(line, "{:.0} %", fraction.clamp(0.0, 1.0) * 100.0);
    }
    if let Some(message) = message {
        let gap = if line.is_empty() { "" } else { " " };
        line.push_str(gap);
        line.push_str(&head(message));
    }
    line
}

/// The beginning of `text` in one line.
fn head(text: &str) -> String {
    // What is cut off need not be cleaned first.
    let clean = clean(text.chars().take(4 * LONGEST));
    match clean.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

/// The end of `text` in one line.
fn tail(text: &str) -> String {
    let from = text.char_indices().rev().nth(4 * LONGEST).map_or(0, |(at, _)| at);
    let clean = clean(text[from..].chars());
    match clean.char_indices().rev().nth(LONGEST) {
        Some((at, dropped)) => format!("…{}", &clean[at + dropped.len_utf8()..]),
        None => clean,
    }
}

/// White space and control characters become single spaces; what only steers the direction or joining of text goes.
fn clean(text: impl Iterator<Item = char>) -> String {
    let mut line = String::new();
    for c in text.filter(|c| !is_invisible(*c)) {
        if !(c.is_whitespace() || c.is_control()) {
            line.push(c);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Characters that show nothing and change how others are shown, except line and paragraph separators.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Holds back plain lines of an actor that tells very much: some at once, then a few each second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the line that was let through last would have come, had all come evenly.
    due: HashMap<String, Instant>,
}

impl Pace {
    /// Whether a line of `actor` may be said at `now`.
    pub(super) fn allows(&mut self, actor: &str, now: Instant) -> bool {
        let (burst, interval) = AT_ONCE;
        let due = match self.due.get(actor) {
            Some(due) => (*due).max(now),
            None => now,
        };
        if due.duration_since(now) >= interval * burst {
            return false;
        }
        self.due.insert(actor.to_owned(), due + interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Told {
        Told::Partial(RawJson::from_text(text))
    }

    fn note(fraction: Option<f64>, message: Option<&str>) -> String {
        Told::Note {
            fraction,
            message: message.map(str::to_owned),
        }
        .live()
    }

    #[test]
    fn a_note_says_what_was_told() {
        assert_eq!(note(Some(0.424), Some("reading page 3")), "42 % reading page 3");
        assert_eq!(note(Some(1.0), None), "100 %");
        assert_eq!(note(None, Some("warming up")), "warming up");
        for (fraction, shown) in [(-3.0, "0 %"), (1e300, "100 %"), (f64::NAN, "")] {
            assert_eq!(note(Some(fraction), None), shown);
        }
    }

    #[test]
    fn nothing_told_can_steer_the_terminal() {
        let nasty = "a\u{1b}[2J\r\n\tb\u{7}\u{9b}31mc\u{202e}d\u{2028}e\u{0}";
        assert_eq!(json(nasty).live(), "a [2J b 31mcd e");
        assert_eq!(note(None, Some(nasty)), "a [2J b 31mcd e");
        assert_eq!(json("x").plain("a", "i\u{1b}d\n"), "[a] i d partial: x");
        for told in [
            json(nasty),
            Told::Partial(RawJson::parse("{\"a\":\n \"\u{202e}\"}").unwrap()),
        ] {
            assert!(!told.plain("a", "id").contains(char::is_control));
        }
    }

    #[test]
    fn text_is_shown_from_its_end_and_other_json_from_its_beginning() {
        let long = "word ".repeat(1000) + "end";
        let shown = json(&long).live();
        assert!(shown.starts_with('…') && shown.ends_with("word end"), "{shown}");
        assert_eq!(shown.chars().count(), LONGEST + 1);
        let list = Told::Partial(RawJson::from_value(&vec![12; 1000]).unwrap());
        let shown = list.live();
        assert!(shown.starts_with("[12,") && shown.ends_with('…'), "{shown}");
        assert_eq!(shown.chars().count(), LONGEST + 1);
        let whole = "é".repeat(LONGEST);
        assert_eq!(json(&whole).live(), whole);
        assert_eq!(json(&format!("{whole}é")).live(), format!("…{whole}"));
        assert_eq!(json(&"x".repeat(LARGEST)).live(), "64 KiB of JSON");
    }

    #[test]
    fn much_is_held_back_for_each_actor_by_itself() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let said = |pace: &mut Pace, actor: &str, after: Duration| {
            (0..1000).filter(|_| pace.allows(actor, start + after)).count()
        };
        assert_eq!(said(&mut pace, "a", Duration::ZERO), 10, "some at once");
        assert_eq!(
            said(&mut pace, "a", Duration::from_secs(1)),
            4,
            "then a few a second"
        );
        assert_eq!(said(&mut pace, "b", Duration::from_secs(1)), 10, "another actor");
        assert_eq!(said(&mut pace, "a", Duration::from_hours(1)), 10, "after a rest");
    }
}
