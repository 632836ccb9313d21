//! Where results are kept: from a location as people write it to a store.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use thiserror::Error;
use url::Url;

/// What a stored result survives; directories only, a bucket decides for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, `kill -9` included.
    #[default]
    Process,
    /// A power cut too: every write waits for the disk.
    Power,
}

/// Why a place for results could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory could not be made or read.
    #[error("cannot open the results directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory's real path is no Unicode, which the storage library cannot work with.
    #[error("the path of the results directory {} is not valid Unicode", path.display())]
    NotUnicode {
        /// The directory.
        path: PathBuf,
    },
    /// The storage library refused.
    #[error("cannot open {location}: {source}")]
    Store {
        /// The location as given.
        location: String,
        /// What it said.
        source: object_store::Error,
    },
    /// The location is empty or no URL.
    #[error(
        "`{location}` is no place for results: {problem}; expected a path, file:///PATH or s3://BUCKET/PREFIX"
    )]
    Location {
        /// The location as given.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The kind of storage is known but not built in.
    #[error("`{location}` needs the cargo feature `{feature}`, which this program was built without")]
    NotBuiltIn {
        /// The location as given.
        location: String,
        /// The feature of this crate.
        feature: &'static str,
    },
    /// A prefix that no key may start with.
    #[error("`{prefix}` cannot begin the keys of results: {problem}")]
    Prefix {
        /// The prefix as given.
        prefix: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A bucket of S3, or of anything that speaks its protocol, part by part (contract data-plane §5.3).
#[cfg(feature = "s3")]
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where it is, e.g. `http://minio:9000`; AWS without.
    pub endpoint: Option<String>,
    /// Its region, e.g. `us-east-1`.
    pub region: String,
    /// Who asks; without them whatever the `AWS_*` variables and the machine's role offer.
    pub keys: Option<Keys>,
}

/// Static credentials of a [`Bucket`]. The secret shows up nowhere.
#[cfg(feature = "s3")]
#[derive(Clone)]
pub struct Keys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

#[cfg(feature = "s3")]
impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keys(***)")
    }
}

/// An opened store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// URL of everything in it, with a slash at the end.
    url: Url,
    /// Its real path, if it is a directory.
    directory: Option<PathBuf>,
}

impl Place {
    /// Opens a path, a `file://` URL or an `s3://` URL.
    pub(crate) fn open(location: &str, durability: Durability) -> Result<Self, OpenError> {
        let wrong = |problem: String| OpenError::Location {
            location: location.to_owned(),
            problem,
        };
        if location.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        if !location.contains("://") {
            return Self::directory(FilePath::new(location), durability);
        }
        let url = Url::parse(location).map_err(|error| wrong(error.to_string()))?;
        match url.scheme() {
            "file" => {
                let path = url
                    .to_file_path()
                    .map_err(|()| wrong("no local path".to_owned()))?;
                Self::directory(&path, durability)
            }
            "s3" => Self::bucket(location, url),
            other => Err(wrong(format!("unknown kind `{other}`"))),
        }
    }

    /// Opens a directory, made if missing.
    #[cfg(feature = "fs")]
    pub(crate) fn directory(path: &FilePath, durability: Durability) -> Result<Self, OpenError> {
        use object_store::local::LocalFileSystem;

        let failed = |source| OpenError::Directory {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let root = std::fs::canonicalize(path).map_err(failed)?;
        let url = match Url::from_directory_path(&root) {
            Ok(url) if root.to_str().is_some() => url,
            _ => return Err(OpenError::NotUnicode { path: root }),
        };
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|source| OpenError::Store {
                location: path.display().to_string(),
                source,
            })?
            .with_fsync(durability == Durability::Power);
        Ok(Self {
            store: Arc::new(store),
            url,
            directory: Some(root),
        })
    }

    #[cfg(not(feature = "fs"))]
    pub(crate) fn directory(path: &FilePath, _durability: Durability) -> Result<Self, OpenError> {
        Err(OpenError::NotBuiltIn {
            location: path.display().to_string(),
            feature: "fs",
        })
    }

    /// Opens a bucket that is described part by part.
    #[cfg(feature = "s3")]
    pub(crate) fn described(bucket: &Bucket) -> Result<Self, OpenError> {
        use object_store::aws::AmazonS3Builder;

        let location = format!("s3://{}", bucket.name);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region);
        if let Some(endpoint) = &bucket.endpoint {
            // As given, and with the bucket in the path: names below a stand-in's host resolve nowhere.
            builder = builder
                .with_endpoint(endpoint.trim_end_matches('/'))
                .with_allow_http(endpoint.starts_with("http://"))
                .with_virtual_hosted_style_request(false);
        }
        if let Some(keys) = &bucket.keys {
            builder = builder
                .with_access_key_id(&keys.id)
                .with_secret_access_key(&keys.secret);
        }
        let failed = |source| OpenError::Store {
            location: location.clone(),
            source,
        };
        let store = builder.build().map_err(failed)?;
        let url = Url::parse(&format!("{location}/")).map_err(|error| OpenError::Location {
            location: location.clone(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            store: Arc::new(store),
            url,
            directory: None,
        })
    }

    /// Opens a bucket; region, endpoint and credentials come from the `AWS_*` variables.
    #[cfg(feature = "s3")]
    fn bucket(location: &str, mut url: Url) -> Result<Self, OpenError> {
        use object_store::aws::AmazonS3Builder;
        use object_store::path::Path;
        use object_store::prefix::PrefixStore;

        let failed = |source| OpenError::Store {
            location: location.to_owned(),
            source,
        };
        let bucket = AmazonS3Builder::from_env()
            .with_url(location)
            .build()
            .map_err(failed)?;
        let prefix = Path::from_url_path(url.path()).map_err(|error| failed(error.into()))?;
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok(Self {
            store: Arc::new(PrefixStore::new(bucket, prefix)),
            url,
            directory: None,
        })
    }

    #[cfg(not(feature = "s3"))]
    fn bucket(location: &str, _url: Url) -> Result<Self, OpenError> {
        Err(OpenError::NotBuiltIn {
            location: location.to_owned(),
            feature: "s3",
        })
    }

    /// A bucket that is no bucket but memory.
    #[cfg(test)]
    pub(crate) fn memory(url: Url) -> Self {
        Self {
            store: Arc::new(object_store::memory::InMemory::new()),
            url,
            directory: None,
        }
    }

    /// Whether content types are kept; files have none, and the library refuses to be told one.
    pub(crate) fn keeps_attributes(&self) -> bool {
        self.directory.is_none()
    }

    /// The file of an object, if objects are files here.
    pub(crate) fn path_of(&self, key: &str) -> Option<PathBuf> {
        self.directory.as_ref().map(|root| root.join(key))
    }

    /// The URL of an object: for a file with escapes of its own, for a bucket with the key as tools for S3 take it.
    pub(crate) fn url_of(&self, key: &str) -> String {
        match self.path_of(key).map(Url::from_file_path) {
            Some(Ok(url)) => url.into(),
            _ => format!("{}{key}", self.url),
        }
    }
}
