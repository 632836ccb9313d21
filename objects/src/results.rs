//! The store of results.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;
use chrono::Utc;
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, ObjectStoreExt, PutMode, PutOptions};
use thiserror::Error as ThisError;

use crate::indent::indent;
use crate::key::{self, End, Facts};
use crate::location::{Durability, OpenError, Place};

/// Keeps the results of pipelines; cheap to clone, all methods may run side by side.
///
/// In a directory an object appears whole or not at all (a file beside it is written and renamed). A writer that is
/// killed may leave such a file, `<name>#<number>`, which nothing here reads again.
#[derive(Clone, Debug)]
pub struct Results {
    place: Place,
    happy_prefix: String,
    error_prefix: String,
}

/// Where a result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The end actor that stored it.
    pub end: End,
    /// The attempt of the envelope that it belongs to.
    pub attempt: u32,
    /// Its key in the store; see [`key`].
    pub key: String,
    /// Its URL, `file://…` or `s3://…`.
    pub url: String,
    /// Its file, if the store is a directory.
    pub path: Option<PathBuf>,
}

/// The store did not do what it was asked for; trying again may help.
#[derive(Debug, ThisError)]
#[error("cannot {action} {key}: {source}")]
pub struct StoreError {
    /// What was tried, for example `write`.
    pub action: &'static str,
    /// On which key.
    pub key: String,
    /// What the storage library said.
    pub source: Error,
}

impl StoreError {
    fn new(action: &'static str, key: impl fmt::Display) -> impl FnOnce(Error) -> Self {
        let key = key.to_string();
        move |source| Self { action, key, source }
    }
}

impl Results {
    /// Opens a path (relative to the working directory or absolute; made if missing), a `file://` URL, or, with the
    /// cargo feature `s3`, an `s3://BUCKET/PREFIX` URL. Blocks for the time of a few file operations.
    pub fn open(location: &str, durability: Durability) -> Result<Self, OpenError> {
        Place::open(location, durability).map(Self::at)
    }

    /// Opens a directory, made if missing.
    pub fn open_directory(path: impl AsRef<FilePath>, durability: Durability) -> Result<Self, OpenError> {
        Place::directory(path.as_ref(), durability).map(Self::at)
    }

    /// Opens a bucket that is described part by part. Nothing is sent yet.
    #[cfg(feature = "s3")]
    pub fn open_bucket(bucket: &crate::Bucket) -> Result<Self, OpenError> {
        Place::described(bucket).map(Self::at)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            happy_prefix: End::Happy.default_prefix().to_owned(),
            error_prefix: End::Error.default_prefix().to_owned(),
        }
    }

    /// Begins the keys of one end with `prefix` instead of [`End::default_prefix`]; a folder needs its slash.
    pub fn with_prefix(mut self, end: End, prefix: impl Into<String>) -> Result<Self, OpenError> {
        let prefix = prefix.into();
        let wrong = |problem: String| OpenError::Prefix {
            prefix: prefix.clone(),
            problem,
        };
        if prefix.starts_with('/') {
            return Err(wrong("it starts with a slash".to_owned()));
        }
        // With a segment behind it, as in every key.
        Path::parse(format!("{prefix}x")).map_err(|error| wrong(error.to_string()))?;
        match end {
            End::Happy => self.happy_prefix = prefix,
            End::Error => self.error_prefix = prefix,
        }
        Ok(self)
    }

    /// Stores `body`, the envelope as JSON, laid out by [`indent`].
    ///
    /// There is one object per id, end and attempt: the same facts again overwrite the object that is there, under
    /// the key that it has. When this returns an error, object and pointer may exist or not; calling again is safe.
    pub async fn put_result(
        &self,
        end: End,
        facts: &Facts<'_>,
        body: Bytes,
    ) -> Result<StoredObject, StoreError> {
        let key = self.claim(end, facts).await?;
        let laid_out = tokio::task::spawn_blocking(move || indent(&body))
            .await
            .map_err(|error| StoreError::new("lay out", &key)(error.into()))?;
        self.put(&key, laid_out.into(), PutMode::Overwrite, "application/json")
            .await
            .map_err(StoreError::new("write", &key))?;
        Ok(self.stored(end, facts.attempt, &key))
    }

    /// All results of an id, by attempt.
    ///
    /// An object whose writing was interrupted is not among them.
    pub async fn find(&self, id: &str) -> Result<Vec<StoredObject>, StoreError> {
        let folder = parse(&key::pointers(id))?;
        let listed = self.place.store.list_with_delimiter(Some(&folder)).await;
        let pointers = listed.map_err(StoreError::new("list", &folder))?.objects;
        let mut found = Vec::new();
        for pointer in pointers.into_iter().map(|meta| meta.location) {
            let Some((end, attempt)) = pointer.filename().and_then(key::parse_pointer) else {
                continue;
            };
            let Some(key) = self.follow(&pointer, id).await? else {
                continue;
            };
            match self.place.store.head(&key).await {
                Ok(_) => found.push(self.stored(end, attempt, &key)),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(StoreError::new("look for", &key)(error)),
            }
        }
        found.sort_by_key(|object| (object.attempt, object.end));
        Ok(found)
    }

    /// The content of a result: the envelope, laid out.
    pub async fn read(&self, object: &StoredObject) -> Result<Bytes, StoreError> {
        self.get(&parse(&object.key)?).await
    }

    /// The key under which the result is to be stored: that of the pointer, which is made if there is none.
    async fn claim(&self, end: End, facts: &Facts<'_>) -> Result<Path, StoreError> {
        let pointer = parse(&key::pointer(facts.id, end, facts.attempt))?;
        let prefix = match end {
            End::Happy => &self.happy_prefix,
            End::Error => &self.error_prefix,
        };
        let fresh = parse(&key::object(prefix, Utc::now(), facts))?;
        match self.point(&pointer, &fresh, PutMode::Create).await {
            Ok(()) => return Ok(fresh),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(StoreError::new("create", &pointer)(error)),
        }
        if let Some(key) = self.follow(&pointer, facts.id).await? {
            return Ok(key);
        }
        // Only a power cut can leave a pointer to nowhere; nobody knows its object any more.
        self.point(&pointer, &fresh, PutMode::Overwrite)
            .await
            .map_err(StoreError::new("write", &pointer))?;
        Ok(fresh)
    }

    async fn point(&self, pointer: &Path, key: &Path, mode: PutMode) -> Result<(), Error> {
        let content = Bytes::copy_from_slice(key.as_ref().as_bytes());
        self.put(pointer, content, mode, "text/plain").await
    }

    /// The key that a pointer holds; `None` if it holds no key of this id.
    async fn follow(&self, pointer: &Path, id: &str) -> Result<Option<Path>, StoreError> {
        let content = self.get(pointer).await?;
        let key = std::str::from_utf8(&content)
            .ok()
            .and_then(|text| Path::parse(text).ok());
        Ok(key.filter(|key| key.filename() == Some(&key::file_name(id))))
    }

    async fn put(
        &self,
        key: &Path,
        content: Bytes,
        mode: PutMode,
        content_type: &'static str,
    ) -> Result<(), Error> {
        let mut options = PutOptions::from(mode);
        if self.place.keeps_attributes() {
            options.attributes = Attributes::from_iter([(Attribute::ContentType, content_type)]);
        }
        self.place.store.put_opts(key, content.into(), options).await?;
        Ok(())
    }

    async fn get(&self, key: &Path) -> Result<Bytes, StoreError> {
        let failed = |error| StoreError::new("read", key)(error);
        let object = self.place.store.get(key).await.map_err(failed)?;
        object.bytes().await.map_err(failed)
    }

    fn stored(&self, end: End, attempt: u32, key: &Path) -> StoredObject {
        StoredObject {
            end,
            attempt,
            url: self.place.url_of(key.as_ref()),
            path: self.place.path_of(key.as_ref()),
            key: key.as_ref().to_owned(),
        }
    }
}

/// A key as the storage library wants it, byte for byte.
fn parse(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::new("name", key)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_in_a_bucket_have_content_type_and_url_but_no_path() {
        let results = Results::at(Place::memory("s3://bucket/some/prefix/".parse().unwrap()));
        let actors = ["a".to_owned()];
        let facts = Facts {
            id: "x/y",
            actors: &actors,
            current: 0,
            attempt: 1,
        };
        let stored = results
            .put_result(End::Happy, &facts, "[1]".into())
            .await
            .unwrap();
        assert_eq!(
            results
                .put_result(End::Happy, &facts, "[1]".into())
                .await
                .unwrap(),
            stored
        );
        assert_eq!(stored.url, format!("s3://bucket/some/prefix/{}", stored.key));
        assert!(stored.key.ends_with("Z/a/x%2Fy.json"), "{}", stored.key);
        assert_eq!(stored.path, None);
        let object = results
            .place
            .store
            .get(&parse(&stored.key).unwrap())
            .await
            .unwrap();
        let content_type = object.attributes.get(&Attribute::ContentType).unwrap();
        assert_eq!(content_type.as_ref(), "application/json");
        assert_eq!(results.find("x/y").await.unwrap(), [stored]);
    }
}
