//! Keeping queues for an operator.
//!
//! # Owners
//!
//! Each owner is a tag `asya.sh/owner/<cluster>/<namespace>`. To give a queue up is to remove one's own tag; whoever
//! finds no other one may delete the queue.
//!
//! # What SQS cannot do
//!
//! It knows neither conditions for a deletion nor locks. A queue is deleted after it was empty (ready, in flight and
//! delayed) twice, [`settling`](super::SqsOptions::settling) apart, and nobody had tagged it meanwhile; the time of the
//! first look is the tag `asya.sh/empty-since`. What another cluster does, or a sender that had been silent, in the
//! moment between the last look and the deletion cannot be seen: such a message is lost, and such an owner makes the
//! queue again at the next check, a minute later at the earliest.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError;
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::operation::list_queue_tags::ListQueueTagsError;
use aws_sdk_sqs::types::QueueAttributeName;
use tokio::sync::OnceCell;

use super::client::connect;
use super::error::explain;
use super::options::SqsOptions;
use super::redrive::Redrive;
use crate::Depth;
use crate::keeping::{Ensured, KeepError, QueueOwner, ReleaseMode, Released};

mod attributes;
mod ensure;
mod release;

/// Prefix of the tags that name owners.
const OWNER: &str = "asya.sh/owner/";

/// Since when a queue that is to be deleted is empty: seconds since 1970.
const EMPTY_SINCE: &str = "asya.sh/empty-since";

/// How a queue is made sure of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who uses it from now on.
    pub owner: QueueOwner,
    /// Whether a missing queue is made, and attributes of an existing one are brought in line.
    pub create: bool,
    /// Seconds for which a received message is hidden.
    pub visibility_timeout: u32,
    /// Where messages go after too many receives.
    pub dead_letter: Option<DeadLetter>,
    /// Tags of a created queue; an existing one gets those that it lacks.
    pub labels: BTreeMap<String, String>,
    /// Tags with the values that they always have.
    pub tags: BTreeMap<String, String>,
}

/// A dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its name.
    pub queue: String,
    /// Receives after which a message goes there; 1 to 1000.
    pub receives: u32,
    /// Seconds for which it keeps messages, if it has to be made.
    pub retention: u32,
}

/// Keeps the queues of one account and region.
#[derive(Debug)]
pub struct SqsKeeper {
    options: SqsOptions,
    client: OnceCell<Client>,
}

impl SqsKeeper {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(options: SqsOptions) -> Self {
        Self {
            options,
            client: OnceCell::new(),
        }
    }

    /// Counts the messages; `None` if there is no such queue. All numbers are approximate.
    pub async fn depth(&self, queue: &str) -> Result<Option<Depth>, KeepError> {
        match self.url(queue).await? {
            None => Ok(None),
            Some(url) => {
                let attributes = self.attributes(queue, &url, &attributes::COUNTS).await?;
                Ok(attributes.as_ref().map(attributes::depth))
            }
        }
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| connect(&self.options)).await
    }

    /// The URL of a queue, or `None` if there is none.
    async fn url(&self, queue: &str) -> Result<Option<String>, KeepError> {
        let asking = self.client().await.get_queue_url().queue_name(queue).send();
        match asking.await {
            Ok(answer) => Ok(answer.queue_url),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetQueueUrlError::is_queue_does_not_exist) =>
            {
                Ok(None)
            }
            Err(error) => Err(explain(&self.options, "find", queue, &error)),
        }
    }

    async fn attributes(
        &self,
        queue: &str,
        url: &str,
        names: &[QueueAttributeName],
    ) -> Result<Option<HashMap<QueueAttributeName, String>>, KeepError> {
        let asking = self.client().await.get_queue_attributes().queue_url(url);
        match asking.set_attribute_names(Some(names.to_vec())).send().await {
            Ok(answer) => Ok(Some(answer.attributes.unwrap_or_default())),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetQueueAttributesError::is_queue_does_not_exist) =>
            {
                Ok(None)
            }
            Err(error) => Err(explain(&self.options, "read the attributes of", queue, &error)),
        }
    }

    async fn tags(&self, queue: &str, url: &str) -> Result<Option<HashMap<String, String>>, KeepError> {
        match self.client().await.list_queue_tags().queue_url(url).send().await {
            Ok(answer) => Ok(Some(answer.tags.unwrap_or_default())),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(ListQueueTagsError::is_queue_does_not_exist) =>
            {
                Ok(None)
            }
            Err(error) => Err(explain(&self.options, "read the tags of", queue, &error)),
        }
    }

    async fn tag(&self, queue: &str, url: &str, tags: BTreeMap<String, String>) -> Result<(), KeepError> {
        if tags.is_empty() {
            return Ok(());
        }
        let tagging = self.client().await.tag_queue().queue_url(url);
        let tagged = tagging.set_tags(Some(tags.into_iter().collect())).send().await;
        tagged
            .map(|_| ())
            .map_err(|error| explain(&self.options, "tag", queue, &error))
    }

    async fn untag(&self, queue: &str, url: &str, key: &str) -> Result<(), KeepError> {
        let untagging = self
            .client()
            .await
            .untag_queue()
            .queue_url(url)
            .tag_keys(key)
            .send();
        untagging
            .await
            .map(|_| ())
            .map_err(|error| explain(&self.options, "untag", queue, &error))
    }
}

/// The tag of an owner.
fn owner_tag(owner: &QueueOwner) -> String {
    format!("{OWNER}{owner}")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
