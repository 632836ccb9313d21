//! How long a call may take: the header `grpc-timeout`, which nobody honours for services behind a plain router.

use std::time::Duration;

use futures::future::Either;
use futures::stream::{BoxStream, Stream, StreamExt as _};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// When a call has to be over; perhaps never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// What the caller said. A header that is none counts as no deadline, as in the servers of tonic.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let timeout = timeout(request.metadata());
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Does the work, but only so long.
    pub(super) async fn within<T>(self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.0 {
            None => work.await,
            Some(at) => tokio::time::timeout_at(at, work)
                .await
                .unwrap_or_else(|_| Err(over())),
        }
    }

    /// Ends a stream when the time is over.
    pub(super) fn bound<T: Send + 'static>(
        self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let Some(at) = self.0 else {
            return stream.boxed();
        };
        let end = Box::pin(tokio::time::sleep_until(at));
        let state = Some((end, stream.boxed()));
        futures::stream::unfold(state, move |state| async move {
            let (end, mut stream) = state?;
            // A stream that always has something leaves a timer no time to come.
            if Instant::now() >= at {
                return Some((Err(over()), None));
            }
            match futures::future::select(end, stream.next()).await {
                Either::Left(((), _)) => Some((Err(over()), None)),
                Either::Right((item, end)) => Some((item?, Some((end, stream)))),
            }
        })
        .boxed()
    }
}

fn over() -> Status {
    Status::deadline_exceeded("the time that the caller gave is over")
}

fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use tonic::Code;

    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        timeout(&metadata)
    }

    #[test]
    fn the_header_is_read_as_the_protocol_says() {
        assert_eq!(asked("2H"), Some(Duration::from_hours(2)));
        assert_eq!(asked("3M"), Some(Duration::from_mins(3)));
        assert_eq!(asked("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(asked("7m"), Some(Duration::from_millis(7)));
        assert_eq!(asked("7u"), Some(Duration::from_micros(7)));
        assert_eq!(asked("7n"), Some(Duration::from_nanos(7)));
        for none in ["", "S", "100000000S", "-1S", "1", "1x", "1.5S", "+1S"] {
            assert_eq!(asked(none), None, "{none}");
        }
    }

    fn at_once() -> Deadline {
        Deadline(Some(Instant::now()))
    }

    #[tokio::test]
    async fn work_and_streams_end_when_the_time_is_over() {
        let never = std::future::pending::<Result<(), Status>>();
        assert_eq!(
            at_once().within(never).await.unwrap_err().code(),
            Code::DeadlineExceeded
        );
        let endless = futures::stream::repeat_with(|| Ok::<_, Status>(1));
        let seen: Result<Vec<_>, _> = at_once().bound(endless).try_collect().await;
        assert_eq!(seen.unwrap_err().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_stream_that_ends_in_time_ends_well() {
        let deadline = Deadline(Instant::now().checked_add(Duration::from_hours(1)));
        let short = futures::stream::iter([Ok::<_, Status>(1), Ok(2)]);
        let seen: Vec<_> = deadline.bound(short).try_collect().await.unwrap();
        assert_eq!(seen, [1, 2]);
    }
}
