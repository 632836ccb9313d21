//! The client, made once for each set of options.

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_sqs::Client;

use super::options::SqsOptions;

/// Repetitions of a request that failed for a reason that may pass.
const ATTEMPTS: u32 = 3;

/// Makes a client. It sends nothing yet, except to find credentials where the options have none.
pub(super) async fn connect(options: &SqsOptions) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.attempt_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.request_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(options.region.clone()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    if let Some(keys) = &options.keys {
        let (id, secret) = (keys.access_key_id.clone(), keys.secret_access_key.clone());
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "asya"));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    Client::new(&loader.load().await)
}
