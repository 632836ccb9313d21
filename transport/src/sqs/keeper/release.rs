//! Giving a queue up.

use super::{
    BTreeMap, EMPTY_SINCE, KeepError, OWNER, QueueOwner, ReleaseMode, Released, SqsKeeper, attributes, explain, now,
    owner_tag,
};

impl SqsKeeper {
    /// Gives the queue up for `owner`, and deletes it if `mode` allows and nobody else owns it; then `dead_letter` as
    /// well, which must be this queue's own. To be called again while the answer is `Kept`: see the module.
    pub async fn release(
        &self,
        queue: &str,
        dead_letter: Option<&str>,
        owner: &QueueOwner,
        mode: ReleaseMode,
    ) -> Result<Released, KeepError> {
        if let Some(reason) = self.give_up(queue, Some(owner), mode).await? {
            return Ok(Released::Kept(reason));
        }
        if let Some(dead_letter) = dead_letter
            && let Some(reason) = self.give_up(dead_letter, None, mode).await?
        {
            return Ok(Released::Kept(reason));
        }
        Ok(Released::Gone)
    }

    /// Why it stays, or `None` when it is gone.
    async fn give_up(
        &self,
        queue: &str,
        owner: Option<&QueueOwner>,
        mode: ReleaseMode,
    ) -> Result<Option<String>, KeepError> {
        let Some(url) = self.url(queue).await? else {
            return Ok(None);
        };
        let Some(mut tags) = self.tags(queue, &url).await? else {
            return Ok(None);
        };
        if let Some(own) = owner.map(owner_tag)
            && tags.contains_key(&own)
        {
            self.untag(queue, &url, &own).await?;
            // Whoever came meanwhile counts.
            match self.tags(queue, &url).await? {
                Some(now) => tags = now,
                None => return Ok(None),
            }
            tags.remove(&own);
        }
        if tags.keys().any(|key| key.starts_with(OWNER)) {
            return Ok(Some(format!("another cluster or namespace uses {queue}")));
        }
        match mode {
            ReleaseMode::Never => return Ok(Some("queues are retained".into())),
            ReleaseMode::Always => {}
            ReleaseMode::IfEmpty => {
                if let Some(reason) = self.still_needed(queue, &url, tags.get(EMPTY_SINCE)).await? {
                    return Ok(Some(reason));
                }
            }
        }
        match self.client().await.delete_queue().queue_url(&url).send().await {
            Ok(_) => Ok(None),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_queue_does_not_exist()) => Ok(None),
            Err(error) => Err(explain(&self.options, "delete", queue, &error)),
        }
    }

    /// Why a queue must not be deleted yet.
    async fn still_needed(&self, queue: &str, url: &str, since: Option<&String>) -> Result<Option<String>, KeepError> {
        let Some(attributes) = self.attributes(queue, url, &attributes::COUNTS).await? else {
            return Ok(None);
        };
        let messages = attributes::depth(&attributes).total();
        if messages > 0 {
            if since.is_some() {
                self.untag(queue, url, EMPTY_SINCE).await?;
            }
            let s = if messages == 1 { "" } else { "s" };
            return Ok(Some(format!("{queue} holds {messages} message{s}")));
        }
        let settling = self.options.settling;
        let since = since.and_then(|text| text.parse::<u64>().ok());
        if since.is_some_and(|since| now().saturating_sub(since) >= settling.as_secs()) || settling.is_zero() {
            return Ok(None);
        }
        if since.is_none() {
            let tag = BTreeMap::from([(EMPTY_SINCE.to_owned(), now().to_string())]);
            self.tag(queue, url, tag).await?;
        }
        Ok(Some(format!("{queue} is empty, and is deleted when it has been so for {settling:?}")))
    }
}
