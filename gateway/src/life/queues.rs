//! Opening the queues.

use std::sync::Arc;

use asya_transport::Transport;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::StartError;
use crate::core::BrokerProbe;
use crate::settings::Queues;

/// Queues that can be published to from now on, whether the broker is there or not.
pub(super) struct Opened {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) probe: Option<BrokerProbe>,
    /// Has to be polled for as long as the gateway lives.
    pub(super) connecting: Option<BoxFuture<'static, ()>>,
    /// Tells when trying again is of no use.
    pub(super) refused: Option<oneshot::Receiver<String>>,
}

pub(super) fn open(queues: Queues) -> Result<Opened, StartError> {
    match queues {
        Queues::Open { transport, probe } => Ok(Opened {
            transport,
            probe,
            connecting: None,
            refused: None,
        }),
        #[cfg(feature = "program")]
        Queues::Local(directory) => {
            use asya_transport::local::{LocalOptions, LocalTransport};
            // Blocks for some milliseconds, before anything is served.
            let transport = LocalTransport::open(&directory, &LocalOptions::default())
                .map_err(|error| StartError::Queues(error.into()))?;
            Ok(Opened {
                transport: Arc::new(transport),
                probe: None,
                connecting: None,
                refused: None,
            })
        }
        #[cfg(feature = "program")]
        Queues::RabbitMq { options, is_url } => {
            let (sender, refused) = oneshot::channel();
            let broker = super::broker::Broker::new(&options);
            let connecting = broker.clone().connect(*options, is_url, sender);
            Ok(Opened {
                transport: Arc::new(broker.clone()),
                probe: Some(Arc::new(move || broker.probe())),
                connecting: Some(Box::pin(connecting)),
                refused: Some(refused),
            })
        }
    }
}
