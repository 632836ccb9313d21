//! Making sure of a queue. Everything is changed in place; nothing is ever deleted for it.

use std::collections::HashMap;

use super::attributes::{RETENTION, describe, differences, is_fifo};
use super::{
    BTreeMap, DeadLetter, EMPTY_SINCE, Ensured, KeepError, OWNER, QueueAttributeName, Redrive, SqsKeeper,
    Wanted, explain, owner_tag,
};

impl SqsKeeper {
    /// Makes sure of the queue, its attributes, tags and dead-letter queue, and of the owner's tag.
    ///
    /// FIFO queues (`.fifo`) get no dead-letter queue from here, and an existing redrive policy stays.
    pub async fn ensure(&self, queue: &str, wanted: &Wanted) -> Result<Ensured, KeepError> {
        let redrive = match &wanted.dead_letter {
            Some(dead_letter) if wanted.create && !is_fifo(queue) => {
                Some(self.ensure_dead_letter(dead_letter, wanted).await?)
            }
            _ => None,
        };
        if let Some(found) = self.adjust(queue, wanted, redrive.as_ref()).await? {
            return Ok(found);
        }
        if !wanted.create {
            return Err(KeepError::Missing(queue.to_owned()));
        }
        let mut attributes = HashMap::from([
            (
                QueueAttributeName::VisibilityTimeout,
                wanted.visibility_timeout.to_string(),
            ),
            (QueueAttributeName::MessageRetentionPeriod, RETENTION.to_string()),
        ]);
        if let Some(redrive) = &redrive {
            attributes.insert(QueueAttributeName::RedrivePolicy, redrive.to_attribute());
        }
        let mut tags = wanted.labels.clone();
        tags.extend(wanted.tags.clone());
        tags.insert(owner_tag(&wanted.owner), "true".into());
        match self.create(queue, attributes, tags).await? {
            Some(_) => Ok(Ensured::Created),
            // Somebody else was faster.
            None => match self.adjust(queue, wanted, redrive.as_ref()).await? {
                Some(found) => Ok(found),
                None => Err(KeepError::RecentlyDeleted(queue.to_owned())),
            },
        }
    }

    /// Brings an existing queue in line; `None` if there is none.
    async fn adjust(
        &self,
        queue: &str,
        wanted: &Wanted,
        redrive: Option<&Redrive>,
    ) -> Result<Option<Ensured>, KeepError> {
        let Some(url) = self.url(queue).await? else {
            return Ok(None);
        };
        let names = [
            QueueAttributeName::VisibilityTimeout,
            QueueAttributeName::RedrivePolicy,
        ];
        let (Some(attributes), Some(tags)) = (
            self.attributes(queue, &url, &names).await?,
            self.tags(queue, &url).await?,
        ) else {
            return Ok(None);
        };
        // First of all, so that nobody deletes it meanwhile.
        self.tag(queue, &url, missing_tags(wanted, &tags)).await?;
        if tags.contains_key(EMPTY_SINCE) {
            self.untag(queue, &url, EMPTY_SINCE).await?;
        }
        let own = owner_tag(&wanted.owner);
        let has_others = tags.keys().any(|tag| tag.starts_with(OWNER) && *tag != own);
        let differences = differences(wanted, redrive, has_others, &attributes);
        if differences.is_empty() {
            return Ok(Some(Ensured::Present));
        }
        let text = describe(&differences, &attributes);
        if !wanted.create {
            return Ok(Some(Ensured::Drifted(text)));
        }
        tracing::info!(queue, changes = text, "changing attributes of a queue");
        let setting = self.client().await.set_queue_attributes().queue_url(&url);
        let set = setting
            .set_attributes(Some(differences.into_iter().collect()))
            .send()
            .await;
        set.map_err(|error| explain(&self.options, "change attributes of", queue, &error))?;
        Ok(Some(Ensured::Present))
    }

    /// Looks the dead-letter queue up, or makes it.
    async fn ensure_dead_letter(
        &self,
        dead_letter: &DeadLetter,
        wanted: &Wanted,
    ) -> Result<Redrive, KeepError> {
        let queue = dead_letter.queue.as_str();
        let url = if let Some(url) = self.url(queue).await? {
            url
        } else {
            let retention = dead_letter.retention.to_string();
            let attributes = HashMap::from([(QueueAttributeName::MessageRetentionPeriod, retention)]);
            let mut tags = BTreeMap::from([("asya.sh/type".to_owned(), "dlq".to_owned())]);
            tags.extend(wanted.tags.clone());
            let created = self.create(queue, attributes, tags).await?;
            // Somebody else may have been faster.
            let found = if created.is_none() {
                self.url(queue).await?
            } else {
                created
            };
            found.ok_or_else(|| KeepError::RecentlyDeleted(queue.to_owned()))?
        };
        let names = [QueueAttributeName::QueueArn];
        let attributes = self.attributes(queue, &url, &names).await?.unwrap_or_default();
        let target = attributes.get(&QueueAttributeName::QueueArn).cloned();
        let target = target.ok_or_else(|| KeepError::Missing(queue.to_owned()))?;
        Ok(Redrive {
            target,
            receives: dead_letter.receives,
        })
    }

    /// Creates a queue; `None` if there is one with other attributes.
    async fn create(
        &self,
        queue: &str,
        mut attributes: HashMap<QueueAttributeName, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<Option<String>, KeepError> {
        if is_fifo(queue) {
            attributes.insert(QueueAttributeName::FifoQueue, "true".into());
        }
        let creating = self.client().await.create_queue().queue_name(queue);
        let creating = creating
            .set_attributes(Some(attributes))
            .set_tags(Some(tags.into_iter().collect()));
        match creating.send().await {
            Ok(answer) => Ok(answer.queue_url),
            Err(error) => match error.as_service_error() {
                Some(refused) if refused.is_queue_deleted_recently() => {
                    Err(KeepError::RecentlyDeleted(queue.to_owned()))
                }
                Some(refused) if refused.is_queue_name_exists() => Ok(None),
                _ => Err(explain(&self.options, "create", queue, &error)),
            },
        }
    }
}

/// The tags that an existing queue needs. A label that is there stays, so that two owners do not fight over it.
fn missing_tags(wanted: &Wanted, present: &HashMap<String, String>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (key, value) in &wanted.labels {
        if !present.contains_key(key) {
            tags.insert(key.clone(), value.clone());
        }
    }
    let owner = (owner_tag(&wanted.owner), "true".to_owned());
    let fixed = wanted
        .tags
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    for (key, value) in fixed.chain([owner]) {
        if present.get(&key) == Some(&value) {
            tags.remove(&key);
        } else {
            tags.insert(key, value);
        }
    }
    tags
}
