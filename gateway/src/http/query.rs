//! Query strings, read into filters and pages: pure functions. A parameter that is not known is refused: a misspelt
//! filter that is ignored would show everything.

use std::time::Duration;

use asya_gateway_store::{Filter, Key, Outcome, Page, Status, View};
use asya_manifest::GoDuration;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};

use super::path::is_possible;
use super::refusal::Refusal;

/// Envelopes on a page unless the request says otherwise.
const PAGE: u32 = 50;
/// Most envelopes on a page.
const LARGEST_PAGE: u32 = 1000;
/// Most envelopes on a page with payloads and results.
const LARGEST_FULL_PAGE: u32 = 100;
/// Most values of one filter.
const MOST_VALUES: usize = 100;

/// What `GET /envelopes` asks for.
#[derive(Debug, PartialEq)]
pub(super) struct ListQuery {
    pub(super) filter: Filter,
    pub(super) page: Page,
}

/// What `GET /envelopes/{id}` and its stream ask for.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct GetQuery {
    /// Wait for the end, at most so long.
    pub(super) wait: Option<Duration>,
    /// Say what the original does not know.
    pub(super) outcome: bool,
}

impl ListQuery {
    /// Reads `status`, `outcome`, `actor`, `tool`, `parent`, `from`, `before`, `limit`, `page` and `view`.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut filter = Filter::default();
        let mut paging = Paging::default();
        for (name, value) in pairs(query) {
            if paging.take(&name, &value)? {
                continue;
            }
            match name.as_str() {
                "status" => filter
                    .statuses
                    .extend(words(&name, &value, Status::parse, STATUSES)?),
                "outcome" => filter
                    .outcomes
                    .extend(words(&name, &value, Outcome::parse, OUTCOMES)?),
                "actor" => filter.actor = Some(text(&name, value)?),
                "tool" => filter.tool = Some(text(&name, value)?),
                "parent" => filter.parent_id = Some(text(&name, value)?),
                "from" => filter.created_from = Some(time(&name, &value)?),
                "before" => filter.created_before = Some(time(&name, &value)?),
                _ => {
                    return Err(unknown(
                        &name,
                        "status, outcome, actor, tool, parent, from, before, limit, page, view",
                    ));
                }
            }
        }
        if filter.outcomes.len() > MOST_VALUES {
            return Err(invalid("outcome", "expected fewer values"));
        }
        Ok(Self {
            filter,
            page: paging.page(),
        })
    }

    /// Reads `limit`, `page` and `view`; the filter is for the children of `parent`.
    pub(super) fn parse_children(parent: &str, query: Option<&str>) -> Result<Self, Refusal> {
        let mut paging = Paging::default();
        for (name, value) in pairs(query) {
            if !paging.take(&name, &value)? {
                return Err(unknown(&name, "limit, page, view"));
            }
        }
        let filter = Filter {
            parent_id: Some(parent.to_owned()),
            ..Filter::default()
        };
        Ok(Self {
            filter,
            page: paging.page(),
        })
    }
}

impl GetQuery {
    /// Reads `wait` (seconds or a Go duration) and `outcome`. Other parameters are ignored, as by the original.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut read = Self::default();
        for (name, value) in pairs(query) {
            match name.as_str() {
                "wait" => read.wait = Some(duration(&name, &value)?),
                "outcome" => read.outcome = flag(&name, &value)?,
                _ => {}
            }
        }
        Ok(read)
    }
}

const STATUSES: &str = "pending, running, succeeded, failed";
const OUTCOMES: &str = "succeeded, failed, timed_out, cancelled";

struct Paging {
    limit: u32,
    after: Option<Key>,
    view: View,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            limit: PAGE,
            after: None,
            view: View::Basic,
        }
    }
}

impl Paging {
    /// Takes the parameter if it is about pages; says whether it did.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        match name {
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                self.limit = limit.ok_or_else(|| invalid(name, "expected a number from 1 to 1000"))?;
            }
            "page" => {
                let key = decode_page(value);
                self.after =
                    Some(key.ok_or_else(|| invalid(name, "expected `next` of the page before, unchanged"))?);
            }
            "view" => {
                self.view = match value {
                    "basic" => View::Basic,
                    "full" => View::Full,
                    _ => return Err(invalid(name, "expected basic or full")),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn page(self) -> Page {
        let most = match self.view {
            View::Basic => LARGEST_PAGE,
            View::Full => LARGEST_FULL_PAGE,
        };
        Page {
            size: self.limit.min(most),
            after: self.after,
            view: self.view,
        }
    }
}

/// The place where the next page begins, as an opaque word.
pub(super) fn encode_page(key: &Key) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", key.created_us, key.id))
}

fn decode_page(word: &str) -> Option<Key> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(word).ok()?).ok()?;
    let (created_us, id) = text.split_once('.')?;
    let created_us: i64 = created_us.parse().ok()?;
    // Beyond the years that a database knows it would be an error there.
    DateTime::from_timestamp_micros(created_us)?;
    is_possible(id).then(|| Key {
        created_us,
        id: id.to_owned(),
    })
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned()
}

fn words<T>(name: &str, value: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<Vec<T>, Refusal> {
    let words = value.split(',').map(|word| parse(word.trim()));
    let read: Option<Vec<T>> = words.take(MOST_VALUES).collect();
    read.ok_or_else(|| {
        invalid(
            name,
            &format!("expected one or more of {known}, separated by commas"),
        )
    })
}

fn text(name: &str, value: String) -> Result<String, Refusal> {
    if value.is_empty() || value.contains('\0') {
        return Err(invalid(name, "expected some text without NUL"));
    }
    Ok(value)
}

fn time(name: &str, value: &str) -> Result<DateTime<Utc>, Refusal> {
    // An unescaped `+` of a time zone arrives as a space.
    let value = value.replace(' ', "+");
    let time = DateTime::parse_from_rfc3339(&value).map(|time| time.to_utc());
    time.map_err(|_| invalid(name, "expected a time like 2026-11-20T23:35:22Z (RFC 3339)"))
}

fn duration(name: &str, value: &str) -> Result<Duration, Refusal> {
    let seconds = value.parse().ok().map(Duration::from_secs);
    let read = seconds.or_else(|| value.parse::<GoDuration>().ok().map(|duration| duration.0));
    read.ok_or_else(|| invalid(name, "expected seconds, or a duration like 30s or 1m30s"))
}

fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid(name, "expected 1 or 0")),
    }
}

fn invalid(name: &str, expected: &str) -> Refusal {
    Refusal::invalid("Invalid query", format!("{name}: {expected}"))
}

fn unknown(name: &str, known: &str) -> Refusal {
    let name: String = name.chars().take(40).collect();
    Refusal::invalid(
        "Invalid query",
        format!("{name:?} is not known here; known are {known}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_pages_are_read() {
        let key = Key {
            created_us: 1_795_218_922_123_456,
            id: "e.1".into(),
        };
        let page = encode_page(&key);
        let query = format!(
            "status=running,failed&status=pending&outcome=timed_out&actor=a%20b&tool=t&parent=p\
             &from=2026-11-20T23:00:00%2B01:00&before=2026-11-21T00:00:00+01:00&limit=7&page={page}&view=full"
        );
        let read = ListQuery::parse(Some(&query)).unwrap();
        let expected = Filter {
            tenant: None,
            statuses: [Status::Pending, Status::Running, Status::Failed].into(),
            outcomes: vec![Outcome::TimedOut],
            actor: Some("a b".into()),
            tool: Some("t".into()),
            parent_id: Some("p".into()),
            created_from: Some("2026-11-20T22:00:00Z".parse().unwrap()),
            created_before: Some("2026-11-20T23:00:00Z".parse().unwrap()),
        };
        assert_eq!(read.filter, expected);
        assert_eq!(
            (read.page.size, read.page.after, read.page.view),
            (7, Some(key), View::Full)
        );
        let plain = ListQuery::parse(None).unwrap();
        assert_eq!((plain.filter, plain.page.size), (Filter::default(), PAGE));
        assert_eq!(
            ListQuery::parse(Some("limit=1000&view=full")).unwrap().page.size,
            LARGEST_FULL_PAGE
        );
    }

    #[test]
    fn what_is_misspelt_is_told() {
        let far = URL_SAFE_NO_PAD.encode(format!("{}.x", i64::MAX));
        for (query, expected) in [
            ("stauts=failed", "\"stauts\" is not known here"),
            ("status=faild", "status: expected one or more of pending"),
            ("status=", "status: expected"),
            ("outcome=timeout", "outcome: expected"),
            ("actor=", "actor: expected"),
            ("tool=%00", "tool: expected"),
            ("from=yesterday", "from: expected a time"),
            ("limit=0", "limit: expected"),
            ("limit=1001", "limit: expected"),
            ("limit=99999999999999999999", "limit: expected"),
            ("page=x", "page: expected"),
            (&format!("page={far}"), "page: expected"),
            ("view=some", "view: expected"),
        ] {
            let text = ListQuery::parse(Some(query)).unwrap_err().text();
            assert!(
                text.starts_with("Invalid query\n") && text.contains(expected),
                "{query}: {text}"
            );
        }
    }

    #[test]
    fn waiting_takes_seconds_and_durations() {
        let read = |query| GetQuery::parse(Some(query)).map(|query| (query.wait, query.outcome));
        assert_eq!(read("wait=30").unwrap(), (Some(Duration::from_secs(30)), false));
        assert_eq!(
            read("wait=1m30s&outcome=1").unwrap(),
            (Some(Duration::from_secs(90)), true)
        );
        assert_eq!(read("other=x&outcome").unwrap(), (None, true));
        for query in ["wait=soon", "wait=-1s", "wait=", "outcome=maybe"] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
