//! What has to be there before the operator can work: an API server that answers, the custom resource definition, and
//! a name for the cluster. Waited for without haste; what no waiting mends is an error.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;

use super::client::causes;
use super::endpoints::Phase;
use super::lease::jittered;
use crate::resource::{AsyncActor, CRD_NAME};

/// Pauses between two attempts: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Waits until actors can be listed in each of `namespaces`, or everywhere if there are none.
///
/// # Errors
/// One line, if the API server does not know who asks.
pub(super) async fn for_definition(
    client: &Client,
    namespaces: &[String],
    phase: &watch::Sender<Phase>,
) -> Result<(), String> {
    let all = [Api::<AsyncActor>::all(client.clone())];
    let each: Vec<Api<AsyncActor>> = namespaces
        .iter()
        .map(|namespace| Api::namespaced(client.clone(), namespace))
        .collect();
    for api in if each.is_empty() { &all[..] } else { &each[..] } {
        let mut pause = PAUSES.0;
        while let Err(error) = api.list(&ListParams::default().limit(1)).await {
            let (now, text) = diagnosis(&error)?;
            phase.send_replace(now);
            tracing::error!("{text}");
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
    Ok(())
}

fn diagnosis(error: &kube::Error) -> Result<(Phase, String), String> {
    let code = if let kube::Error::Api(status) = error {
        status.code
    } else {
        0
    };
    match code {
        404 => Ok((
            Phase::WaitingForDefinition,
            format!(
                "the custom resource definition {CRD_NAME} is missing, waiting for it; install it with `asya-operator \
                 crd | kubectl apply --server-side -f -`, with `kubectl apply -f \
                 charts/asya-operator/crds/asya.sh_asyncactors.yaml`, or with the chart asya-operator"
            ),
        )),
        401 => Err(format!(
            "the API server does not know who asks: {}",
            causes(error)
        )),
        403 => Ok((
            Phase::Connecting,
            format!(
                "actors cannot be listed, waiting until they can: {}; the chart asya-operator makes the roles that \
                 are needed",
                causes(error)
            ),
        )),
        _ => Ok((
            Phase::Connecting,
            format!(
                "the API server cannot be asked, waiting for it: {}",
                causes(error)
            ),
        )),
    }
}

/// What this cluster is called where clusters share a broker: as told, or else the uid of its first namespace, which
/// never changes and which no other cluster has.
///
/// # Errors
/// One line, if it may not be known.
pub(super) async fn for_cluster_name(client: &Client, told: Option<String>) -> Result<String, String> {
    const FIRST: &str = "kube-system";
    if let Some(name) = told {
        return Ok(name);
    }
    let api = Api::<Namespace>::all(client.clone());
    let mut pause = PAUSES.0;
    loop {
        let problem = match api.get(FIRST).await {
            Ok(namespace) => match namespace.metadata.uid {
                Some(uid) => return Ok(uid),
                None => return Err(format!("the namespace {FIRST} has no uid; set ASYA_CLUSTER_NAME")),
            },
            Err(error) => error,
        };
        if matches!(&problem, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404)) {
            return Err(format!(
                "this cluster has no name: the namespace {FIRST} cannot be read ({}); permit that, or set \
                 ASYA_CLUSTER_NAME to a name that no other cluster on the same brokers has",
                causes(&problem)
            ));
        }
        tracing::error!(
            "the API server cannot be asked, waiting for it: {}",
            causes(&problem)
        );
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
