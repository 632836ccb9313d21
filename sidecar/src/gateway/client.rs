//! One HTTP request to the gateway and what its answer means. The body of an answer is not looked at, except for one line
//! of an error, and for whether an envelope was cancelled.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::options::GatewayOptions;

/// Bytes of an answer that are read so that the connection can be used again. Longer ones cost their connection.
const ANSWER_LIMIT: usize = 16 * 1024;

/// How long the rest of an answer is waited for once its status is known.
const ANSWER_PATIENCE: Duration = Duration::from_millis(250);

/// Idle connections are given up before the usual servers and load balancers do it.
const IDLE: Duration = Duration::from_secs(20);

/// Says that `current_actor_idx` is the actor that did the work, also in `completed`: an original sidecar, which does
/// not send this, names the next one there.
const EXACT: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-asya-index"),
    HeaderValue::from_static("exact"),
);

/// Characters of an error's body that are shown.
const EXCERPT: usize = 200;

/// What the gateway made of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 2xx.
    Accepted,
    /// 404: it does not know the envelope.
    Unknown,
    /// 413.
    TooLarge,
    /// 500: an original gateway says so for unknown envelopes and for failures of its database alike.
    Unclear(String),
    /// It will never take this request.
    Refused(String),
    /// It may take the same request later.
    Unavailable(String),
}

/// What our gateways say about an envelope in the answer to its progress, as far as it matters here.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    cancelled: bool,
}

/// The connections to one gateway.
pub(super) struct GatewayClient {
    http: Client,
    options: GatewayOptions,
}

impl GatewayClient {
    pub(super) fn new(options: GatewayOptions) -> Result<Self, String> {
        let address = &options.address;
        let mut builder = Client::builder()
            .user_agent(concat!("asya-sidecar/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(options.request_timeout)
            .pool_idle_timeout(IDLE);
        if !address.is_encrypted() {
            // No certificates are read, so an image without any will do.
            builder = builder.tls_certs_only([]);
        }
        if address.is_local() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| innermost(&error))?;
        Ok(Self { http, options })
    }

    /// `POST /envelopes/{id}/progress`; also tells whether the gateway says that the envelope was cancelled.
    pub(super) async fn post_progress(&self, id: &str, body: Bytes) -> (Answer, bool) {
        let Some(url) = self.options.address.envelope(id, "progress") else {
            return (no_url(id), false);
        };
        let (answer, said) = self.post(url, body, Some(EXACT)).await;
        let is_cancelled = answer == Answer::Accepted
            && serde_json::from_slice::<Said>(&said).is_ok_and(|said| said.cancelled);
        (answer, is_cancelled)
    }

    /// `POST /envelopes/{id}/final`.
    pub(super) async fn post_final(&self, id: &str, body: Bytes) -> Answer {
        match self.options.address.envelope(id, "final") {
            Some(url) => self.post(url, body, None).await.0,
            None => no_url(id),
        }
    }

    /// `POST /envelopes`.
    pub(super) async fn post_child(&self, body: Bytes) -> Answer {
        let url = self.options.address.fixed("/envelopes");
        self.post(url, body, None).await.0
    }

    /// `GET /health`.
    pub(super) async fn health(&self) -> Answer {
        let request = self.http.get(self.options.address.fixed("/health"));
        let request = match self.authenticated(request) {
            Ok(request) => request,
            Err(unusable) => return unusable,
        };
        match request.send().await {
            Ok(response) => answer(response).await.0,
            Err(error) => Answer::Unavailable(innermost(&error)),
        }
    }

    async fn post(
        &self,
        url: Url,
        body: Bytes,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> (Answer, Vec<u8>) {
        let request = || {
            let mut request = self
                .http
                .post(url.clone())
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body.clone());
            if let Some((name, value)) = &header {
                request = request.header(name, value);
            }
            self.authenticated(request)
        };
        let (first, second) = match (request(), request()) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(unusable), _) | (_, Err(unusable)) => return (unusable, Vec::new()),
        };
        let mut sent = first.send().await;
        // The gateway may just have closed a connection that was idle. All requests may be repeated.
        if matches!(&sent, Err(error) if !error.is_timeout() && !error.is_connect()) {
            sent = second.send().await;
        }
        match sent {
            Ok(response) => answer(response).await,
            Err(error) => (Answer::Unavailable(innermost(&error)), Vec::new()),
        }
    }

    fn authenticated(&self, request: RequestBuilder) -> Result<RequestBuilder, Answer> {
        let Some(value) = self.options.authorization() else {
            return Ok(request);
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| Answer::Unavailable("the credentials fit into no header".into()))?;
        value.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, value))
    }
}

fn no_url(id: &str) -> Answer {
    Answer::Refused(format!("no URL can hold the id {id:?}"))
}

async fn answer(response: Response) -> (Answer, Vec<u8>) {
    let status = response.status();
    let body = drain(response).await;
    (meaning(status, &body), body)
}

/// Reads the answer to its end if that is near. What it says does not change what the status said.
async fn drain(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return;
            }
            body.extend_from_slice(&chunk);
        }
    };
    // Too slow, too long, broken: the connection is closed with the response.
    let _read = tokio::time::timeout(ANSWER_PATIENCE, read).await;
    body
}

fn meaning(status: StatusCode, body: &[u8]) -> Answer {
    let said = || {
        let text: String = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)])
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(EXCERPT)
            .collect();
        format!("{status}: {}", text.trim())
            .trim_end_matches([':', ' '])
            .to_owned()
    };
    match status.as_u16() {
        200..=299 => Answer::Accepted,
        300..=399 => Answer::Unavailable(format!("answered {status}, and redirects are not followed")),
        404 => Answer::Unknown,
        413 => Answer::TooLarge,
        500 => Answer::Unclear(said()),
        401 | 403 | 407 | 408 | 425 | 429 | 501..=599 => Answer::Unavailable(said()),
        _ => Answer::Refused(said()),
    }
}

/// The cause at the end of the chain: the outer texts only repeat the URL and "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        Some(_) if error.is_timeout() => "no answer in time".into(),
        Some(_) => "not an HTTP answer".into(),
        None if error.is_connect() => format!("cannot connect: {cause}"),
        None if error.is_timeout() => "no answer in time".into(),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_one_meaning() {
        for (status, expected) in [
            (200, "Accepted"),
            (201, "Accepted"),
            (204, "Accepted"),
            (302, "Unavailable"),
            (400, "Refused"),
            (401, "Unavailable"),
            (403, "Unavailable"),
            (404, "Unknown"),
            (405, "Refused"),
            (413, "TooLarge"),
            (429, "Unavailable"),
            (500, "Unclear"),
            (502, "Unavailable"),
            (503, "Unavailable"),
            (504, "Unavailable"),
        ] {
            let answer = meaning(StatusCode::from_u16(status).unwrap(), b"");
            assert!(
                format!("{answer:?}").starts_with(expected),
                "{status}: {answer:?}"
            );
        }
    }

    #[test]
    fn an_error_is_shown_in_one_short_line() {
        let internal = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(
            meaning(internal, b"Failed to update envelope\n"),
            Answer::Unclear("500 Internal Server Error: Failed to update envelope".into())
        );
        assert_eq!(
            meaning(internal, b""),
            Answer::Unclear("500 Internal Server Error".into())
        );
        let Answer::Unclear(text) = meaning(internal, &vec![b'\xff'; 100_000]) else {
            panic!("another meaning")
        };
        assert!(text.chars().count() < 300, "{text}");
    }
}
