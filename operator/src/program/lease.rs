//! Leader election over a Lease, as client-go does it and with its times, so that a replica of the original and one of
//! this operator can stand in each other's way.
//!
//! What makes it safe: every write names the version that was read, so of two replicas that see the same expired lease
//! one is refused; whether a lease has expired is measured on this machine's own steady clock since its last change
//! was seen; and who could not renew for [`GIVING_UP`] stops before anybody else may start.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use super::client::causes;
use super::metrics::MASTER_STATUS;

/// Name of the lease, the original's (contract operator §2).
pub(super) const NAME: &str = "asya-operator.asya.sh";
/// How long a lease that is not renewed is respected by others.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder goes on without a renewal.
const GIVING_UP: Duration = Duration::from_secs(10);
/// Pause between two looks or renewals.
const PAUSE: Duration = Duration::from_secs(2);
/// How long giving the lease back may take.
const RELEASING: Duration = Duration::from_secs(5);

/// The lease as this replica sees it.
pub(super) struct Lease {
    api: Api<Object>,
    identity: String,
    /// The newest state that was seen, and when it was first seen.
    seen: Option<(Object, Instant)>,
    /// When it was ours for certain the last time.
    renewed: Instant,
}

/// Why a look or a renewal came to nothing.
enum Miss {
    /// Somebody else holds it.
    Held(String),
    /// Somebody else was faster; look again.
    Overtaken,
    /// The API server did not do it.
    Failed(kube::Error),
    /// The API server did not answer.
    Silent,
}

impl Lease {
    /// The lease in this namespace, not yet looked at.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
        let host = host.unwrap_or_else(|| "asya-operator".into());
        let lease = Self {
            api: Api::namespaced(client, namespace),
            identity: format!("{host}_{}", uuid::Uuid::new_v4()),
            seen: None,
            renewed: Instant::now(),
        };
        Self::show(false);
        lease
    }

    /// Who this replica is.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until this replica holds it.
    pub(super) async fn acquire(&mut self) {
        let mut told = String::new();
        loop {
            let news = match self.turn(GIVING_UP).await {
                Ok(()) => {
                    Self::show(true);
                    return;
                }
                Err(Miss::Held(holder)) => format!("the lease is held by {holder}; waiting for it"),
                Err(Miss::Overtaken) => String::new(),
                Err(Miss::Failed(error)) => format!("the lease cannot be had: {}", causes(&error)),
                Err(Miss::Silent) => "the lease cannot be had: the API server does not answer".into(),
            };
            if !news.is_empty() && news != told {
                tracing::info!(lease = NAME, "{news}");
                told = news;
            }
            sleep(jittered(PAUSE)).await;
        }
    }

    /// Renews it until that fails for too long or somebody else has it. Says why it is lost. Dropped and called again
    /// it counts on from the last renewal.
    pub(super) async fn hold(&mut self) -> String {
        loop {
            sleep(PAUSE).await;
            let left = GIVING_UP.saturating_sub(self.renewed.elapsed());
            let reason = match self.turn(left).await {
                Ok(()) => continue,
                Err(Miss::Held(holder)) => {
                    Self::show(false);
                    return format!("it is held by {holder}");
                }
                Err(Miss::Overtaken) => "it was changed by somebody else".to_owned(),
                Err(Miss::Failed(error)) => causes(&error),
                Err(Miss::Silent) => "the API server does not answer".to_owned(),
            };
            tracing::warn!(lease = NAME, "the lease could not be renewed: {reason}");
            if self.renewed.elapsed() >= GIVING_UP {
                Self::show(false);
                return format!("it could not be renewed for {} s: {reason}", GIVING_UP.as_secs());
            }
        }
    }

    /// Gives it back, so that another replica need not wait until it expires. Only when all work has ended.
    pub(super) async fn release(self) {
        Self::show(false);
        match timeout(RELEASING, self.give_back()).await {
            Ok(Ok(true)) => tracing::info!(lease = NAME, "the lease is given back"),
            Ok(Ok(false)) => tracing::warn!(lease = NAME, "the lease is not ours any more"),
            Ok(Err(error)) => tracing::warn!(lease = NAME, "the lease is left to expire: {}", causes(&error)),
            Err(_) => tracing::warn!(
                lease = NAME,
                "the lease is left to expire: the API server does not answer"
            ),
        }
    }

    /// Whether it was ours. A renewal may have been cut short, so that what was seen last is not what is there.
    async fn give_back(&self) -> kube::Result<bool> {
        let Some(mut object) = self.api.get_opt(NAME).await? else {
            return Ok(false);
        };
        let spec = object.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(false);
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(NAME, &PostParams::default(), &object).await?;
        Ok(true)
    }

    fn show(holds: bool) {
        metrics::gauge!(MASTER_STATUS, "name" => NAME).set(f64::from(u8::from(holds)));
    }

    /// Looks at the lease and takes or renews it if that is right. The time of a renewal is that of its beginning: the
    /// API server may have written it at any moment since.
    async fn turn(&mut self, limit: Duration) -> Result<(), Miss> {
        let started = Instant::now();
        let done = timeout(limit, self.try_turn()).await.unwrap_or(Err(Miss::Silent));
        if done.is_ok() {
            self.renewed = started;
        }
        done
    }

    async fn try_turn(&mut self) -> Result<(), Miss> {
        let Some(object) = self.api.get_opt(NAME).await.map_err(Miss::Failed)? else {
            return self.create().await;
        };
        self.see(object);
        let Some((object, since)) = &self.seen else {
            return Err(Miss::Overtaken);
        };
        let now = MicroTime(Timestamp::now());
        let spec = next(object.spec.as_ref(), &self.identity, since.elapsed(), now).map_err(Miss::Held)?;
        let object = Object {
            metadata: object.metadata.clone(),
            spec: Some(spec),
        };
        let written = self.api.replace(NAME, &PostParams::default(), &object).await;
        self.see(written.map_err(refused)?);
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Miss> {
        let spec =
            next(None, &self.identity, Duration::ZERO, MicroTime(Timestamp::now())).map_err(Miss::Held)?;
        let metadata = ObjectMeta {
            name: Some(NAME.into()),
            ..ObjectMeta::default()
        };
        let object = Object {
            metadata,
            spec: Some(spec),
        };
        let created = self.api.create(&PostParams::default(), &object).await;
        self.see(created.map_err(refused)?);
        Ok(())
    }

    /// Keeps the newest state; the time is that of its first sight.
    fn see(&mut self, object: Object) {
        let is_news = self
            .seen
            .as_ref()
            .is_none_or(|(seen, _)| seen.spec != object.spec);
        match &mut self.seen {
            Some((seen, _)) if !is_news => *seen = object,
            _ => self.seen = Some((object, Instant::now())),
        }
    }
}

fn refused(error: kube::Error) -> Miss {
    match error {
        kube::Error::Api(status) if status.code == 409 => Miss::Overtaken,
        other => Miss::Failed(other),
    }
}

/// What the lease says once it is ours, or who has it. `unchanged` is how long nothing about it has changed.
fn next(
    present: Option<&LeaseSpec>,
    identity: &str,
    unchanged: Duration,
    now: MicroTime,
) -> Result<LeaseSpec, String> {
    let holder = present
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let is_ours = holder == identity;
    let seconds = present
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok());
    let respected = seconds.map_or(DURATION, Duration::from_secs);
    if !holder.is_empty() && !is_ours && unchanged < respected {
        return Err(holder.to_owned());
    }
    let acquired = present
        .and_then(|spec| spec.acquire_time.clone())
        .filter(|_| is_ours);
    let changes = present.map_or(0, |spec| spec.lease_transitions.unwrap_or_default());
    Ok(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(changes.saturating_add(i32::from(!is_ours && present.is_some()))),
        ..present.cloned().unwrap_or_default()
    })
}

/// A little longer than `pause`, by chance, so that replicas do not look at the same time for ever.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn at(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn taken() -> LeaseSpec {
        next(None, "me", Duration::ZERO, at(1)).unwrap()
    }

    #[test]
    fn a_new_lease_is_ours_at_once() {
        let spec = taken();
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(at(1)), Some(at(1))));
        assert_eq!(
            (spec.lease_duration_seconds, spec.lease_transitions),
            (Some(15), Some(0))
        );
    }

    #[test]
    fn our_own_is_renewed_and_keeps_the_time_of_its_taking() {
        let spec = next(Some(&taken()), "me", LONG, at(5)).unwrap();
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(at(1)), Some(at(5))));
        assert_eq!(spec.lease_transitions, Some(0));
    }

    #[test]
    fn that_of_another_is_respected_until_it_has_not_changed_for_as_long_as_it_says() {
        let mut spec = taken();
        assert_eq!(
            next(Some(&spec), "you", Duration::from_millis(14_999), at(9)),
            Err("me".into())
        );
        let after = next(Some(&spec), "you", Duration::from_secs(15), at(9)).unwrap();
        assert_eq!(after.holder_identity.as_deref(), Some("you"));
        assert_eq!(
            (after.acquire_time, after.lease_transitions),
            (Some(at(9)), Some(1))
        );
        // The holder's word counts, not ours.
        spec.lease_duration_seconds = Some(60);
        assert!(next(Some(&spec), "you", Duration::from_secs(59), at(9)).is_err());
        assert!(next(Some(&spec), "you", Duration::from_mins(1), at(9)).is_ok());
    }

    #[test]
    fn one_that_was_given_back_is_free() {
        for holder in [None, Some(String::new())] {
            let spec = LeaseSpec {
                holder_identity: holder,
                ..taken()
            };
            assert!(next(Some(&spec), "you", Duration::ZERO, at(9)).is_ok());
        }
    }

    #[test]
    fn the_holder_gives_up_before_anybody_may_take_over() {
        assert!(GIVING_UP + PAUSE < DURATION);
    }
}
