//! What has arrived on a stream, taken in at once as far as that is bounded.

use futures::FutureExt as _;
use prost::Message;
use tonic::{Status, Streaming};

/// Most messages of one batch: the core's transactions are of this order, and acknowledgements should not wait long.
const MOST_MESSAGES: usize = 256;
/// No further message is taken into a batch of so many bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Messages that arrived together, in their order.
#[derive(Debug)]
pub(super) struct Batch<T> {
    /// At least one, unless the stream has ended.
    pub(super) messages: Vec<T>,
    /// Set if nothing comes after them: the peer has said all, or the stream is broken.
    pub(super) end: Option<Result<(), Status>>,
}

/// Waits for a message, and takes those along that are there already. Dropping the future loses nothing.
pub(super) async fn batch<T: Message>(stream: &mut Streaming<T>) -> Batch<T> {
    let mut batch = Batch {
        messages: Vec::new(),
        end: None,
    };
    let mut bytes = 0;
    // The only point at which this waits: from the first message on it runs to its end.
    let mut next = Some(stream.message().await);
    while let Some(message) = next {
        match message {
            Ok(Some(message)) => {
                bytes += message.encoded_len();
                batch.messages.push(message);
            }
            Ok(None) => {
                batch.end = Some(Ok(()));
                break;
            }
            Err(status) => {
                batch.end = Some(Err(status));
                break;
            }
        }
        if batch.messages.len() >= MOST_MESSAGES || bytes >= MOST_BYTES {
            break;
        }
        next = stream.message().now_or_never();
    }
    batch
}
