//! What the caller may choose.

use std::fmt;
use std::time::Duration;

/// How SQS is reached. Start from [`SqsOptions::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsOptions {
    /// The AWS region, for example `eu-central-1`.
    pub region: String,
    /// Another endpoint than that of AWS, for example `http://localhost:4566`.
    pub endpoint: Option<String>,
    /// Keys, if they are not to come from the environment of this process (role of the pod, instance profile).
    pub keys: Option<StaticKeys>,
    /// Limit for one attempt of a request. Default: 5 s.
    pub attempt_timeout: Duration,
    /// Limit for a request with all its repetitions. Default: 15 s.
    pub request_timeout: Duration,
    /// How long a queue must have been seen empty before it may be deleted. Default: 60 s, since the counts of SQS are
    /// only reliable a minute after the last message was sent.
    pub settling: Duration,
}

impl SqsOptions {
    /// The defaults, for a region.
    #[must_use]
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            keys: None,
            attempt_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            settling: Duration::from_mins(1),
        }
    }
}

/// An access key of AWS. The secret part shows up nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
}

impl fmt::Debug for StaticKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StaticKeys").finish_non_exhaustive()
    }
}
