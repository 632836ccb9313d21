//! What SQS refuses, in words for the person who has to mend it.

use std::error::Error as _;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use super::options::SqsOptions;
use crate::keeping::KeepError;

/// Codes that mean that the keys are wrong. What the service says then may repeat parts of the request, so it is left
/// out.
const LOGIN: [&str; 6] = [
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "ExpiredToken",
];

/// One line that names the service and what was tried.
pub(super) fn explain<E>(options: &SqsOptions, action: &str, queue: &str, error: &SdkError<E>) -> KeepError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let place = match &options.endpoint {
        Some(endpoint) => format!("SQS at {endpoint}"),
        None => format!("SQS in {}", options.region),
    };
    if let SdkError::ServiceError(refused) = error {
        let (code, said) = (refused.err().code(), refused.err().message());
        let code = code.unwrap_or("an error without a code");
        if LOGIN.contains(&code) {
            return KeepError::Login(format!("{place} does not accept the credentials ({code})"));
        }
        let said = said
            .map(|said| format!(": {}", said.lines().next().unwrap_or_default()))
            .unwrap_or_default();
        return KeepError::Refused(format!("{place} refused to {action} {queue}: {code}{said}"));
    }
    let reason = match error {
        SdkError::TimeoutError(_) => format!("no answer within {:?}", options.request_timeout),
        other => innermost(other),
    };
    let hint = if reason.contains("credential") {
        "give the transport `credentials`, or the operator's service account a role"
    } else {
        "check region, endpoint and network"
    };
    KeepError::Refused(format!(
        "{place} is not reachable ({action} {queue}): {reason}; {hint}"
    ))
}

/// The last cause says most.
fn innermost<E: std::error::Error + 'static>(error: &SdkError<E>) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
