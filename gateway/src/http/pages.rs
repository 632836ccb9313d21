//! Pages of envelopes, bounded in number and in bytes, whatever the envelopes have in them.
//!
//! Payloads and results may have megabytes each, and a page a thousand envelopes: read at once they would be many times
//! the memory of a gateway. So few are read at a time, and a page ends where it becomes large; the next one begins there.

use asya_gateway_store::{Key, Page, View};

use super::api::Api;
use super::query::{ListQuery, encode_page};
use super::refusal::Refusal;
use super::render::{Detail, Object, envelope};
use crate::auth::Caller;

/// A page ends before it has more bytes than this, unless one envelope alone has more; the same as over gRPC.
const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Most envelopes that are read from the store at once: without payloads and results, and with them.
const AT_ONCE: (u32, usize) = (200, 4);

/// Writes a page into `object`: its `envelopes`, and where the `next` one begins, if there are more.
pub(super) async fn write(
    api: &Api,
    caller: &Caller,
    query: ListQuery,
    object: &mut Object,
) -> Result<(), Refusal> {
    let ListQuery { filter, page } = query;
    let detail = Detail {
        content: page.view == View::Full,
        outcome: true,
    };
    let _turn = api.turn(page.view).await;
    let mut written = Written::new();
    let mut after = page.after;
    while written.count < page.size {
        let part = Page {
            size: written.at_once(page.view).min(page.size - written.count),
            after,
            view: page.view,
        };
        let part = api.gateway.list(caller, filter.clone(), part).await?;
        for record in part.records {
            let key = Key {
                created_us: record.created_at.timestamp_micros(),
                id: record.id.clone(),
            };
            if !written.push(key, &envelope(&record, detail)) {
                written.finish(object, true);
                return Ok(());
            }
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    written.finish(object, after.is_some());
    Ok(())
}

/// The part of a page that is written.
struct Written {
    out: Vec<u8>,
    count: u32,
    /// Bytes of the largest envelope; as large as can be before there is one.
    largest: usize,
    last: Option<Key>,
}

impl Written {
    fn new() -> Self {
        Self {
            out: vec![b'['],
            count: 0,
            largest: PAGE_BYTES,
            last: None,
        }
    }

    /// How many more to read at once, going by those that were read.
    fn at_once(&self, view: View) -> u32 {
        match view {
            View::Basic => AT_ONCE.0,
            View::Full => {
                let fitting = (PAGE_BYTES / self.largest).clamp(1, AT_ONCE.1);
                u32::try_from(fitting).unwrap_or(1)
            }
        }
    }

    /// Adds an envelope unless it belongs on the next page; says whether it did.
    fn push(&mut self, key: Key, envelope: &[u8]) -> bool {
        if self.count == 0 {
            self.largest = envelope.len().max(1);
        } else if self.out.len() + envelope.len() > PAGE_BYTES {
            return false;
        } else {
            self.largest = self.largest.max(envelope.len());
            self.out.push(b',');
        }
        self.out.extend_from_slice(envelope);
        self.count += 1;
        self.last = Some(key);
        true
    }

    fn finish(mut self, object: &mut Object, has_more: bool) {
        self.out.push(b']');
        object.raw("envelopes", &self.out);
        if let Some(last) = self.last.filter(|_| has_more) {
            object.text("next", &encode_page(&last));
        }
    }
}
