//! Giving a queue up.

use aws_sdk_sqs::operation::delete_queue::DeleteQueueError;

use super::{
    BTreeMap, EMPTY_SINCE, KeepError, OWNER, QueueOwner, ReleaseMode, Released, SqsKeeper, attributes,
    explain, now, owner_tag,
};

impl SqsKeeper {
    /// Gives the queue up for `owner`, and deletes it if `mode` allows and nobody else owns it; then `dead_letter` as
    /// well, which must be this queue's own. To be called again after [`Released::Later`].
    pub async fn release(
        &self,
        queue: &str,
        dead_letter: Option<&str>,
        owner: &QueueOwner,
        mode: ReleaseMode,
    ) -> Result<Released, KeepError> {
        match (self.give_up(queue, Some(owner), mode).await?, dead_letter) {
            (Released::Gone, Some(dead_letter)) => self.give_up(dead_letter, None, mode).await,
            (released, _) => Ok(released),
        }
    }

    async fn give_up(
        &self,
        queue: &str,
        owner: Option<&QueueOwner>,
        mode: ReleaseMode,
    ) -> Result<Released, KeepError> {
        let Some(url) = self.url(queue).await? else {
            return Ok(Released::Gone);
        };
        let Some(mut tags) = self.tags(queue, &url).await? else {
            return Ok(Released::Gone);
        };
        if let Some(own) = owner.map(owner_tag)
            && tags.contains_key(&own)
        {
            self.untag(queue, &url, &own).await?;
            // Whoever came meanwhile counts.
            match self.tags(queue, &url).await? {
                Some(now) => tags = now,
                None => return Ok(Released::Gone),
            }
            tags.remove(&own);
        }
        if tags.keys().any(|key| key.starts_with(OWNER)) {
            return Ok(Released::Kept(format!(
                "another cluster or namespace uses {queue}"
            )));
        }
        match mode {
            ReleaseMode::Never => return Ok(Released::Kept("queues are retained".into())),
            ReleaseMode::Always => {}
            ReleaseMode::IfEmpty => {
                if let Some(stays) = self.still_needed(queue, &url, tags.get(EMPTY_SINCE)).await? {
                    return Ok(stays);
                }
            }
        }
        match self.client().await.delete_queue().queue_url(&url).send().await {
            Ok(_) => Ok(Released::Gone),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DeleteQueueError::is_queue_does_not_exist) =>
            {
                Ok(Released::Gone)
            }
            Err(error) => Err(explain(&self.options, "delete", queue, &error)),
        }
    }

    /// Why a queue must not be deleted yet.
    async fn still_needed(
        &self,
        queue: &str,
        url: &str,
        since: Option<&String>,
    ) -> Result<Option<Released>, KeepError> {
        let Some(attributes) = self.attributes(queue, url, &attributes::COUNTS).await? else {
            return Ok(None);
        };
        let messages = attributes::depth(&attributes).total();
        if messages > 0 {
            if since.is_some() {
                self.untag(queue, url, EMPTY_SINCE).await?;
            }
            let s = if messages == 1 { "" } else { "s" };
            let reason = format!("{queue} holds {messages} message{s}");
            return Ok(Some(Released::Kept(reason)));
        }
        let settling = self.options.settling;
        let since = since.and_then(|text| text.parse::<u64>().ok());
        if since.is_some_and(|since| now().saturating_sub(since) >= settling.as_secs()) || settling.is_zero()
        {
            return Ok(None);
        }
        if since.is_none() {
            let tag = BTreeMap::from([(EMPTY_SINCE.to_owned(), now().to_string())]);
            self.tag(queue, url, tag).await?;
        }
        let reason = format!("{queue} is empty, and is deleted when it has been so for {settling:?}");
        Ok(Some(Released::Later(reason)))
    }
}
