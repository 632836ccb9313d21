//! RabbitMQ passes the suite of all transports, with classic and with quorum queues.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

use asya_transport::Transport;
use asya_transport::conformance::Harness;
use asya_transport::rabbitmq::RabbitMqTransport;

use asya_tests::rabbitmq::Broker;

struct Rabbit {
    transport: RabbitMqTransport,
}

impl Rabbit {
    async fn connect(quorum: bool) -> Self {
        let mut options = tokio::task::spawn_blocking(|| Broker::shared().options())
            .await
            .unwrap();
        options.queues.quorum = quorum;
        let transport = RabbitMqTransport::connect(options).await.unwrap();
        Self { transport }
    }
}

impl Harness for Rabbit {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    /// AMQP counts only what is ready.
    fn tells_states_apart(&self) -> bool {
        false
    }
}

mod classic {
    use super::Rabbit;

    asya_transport::conformance_tests!(Rabbit::connect(false).await);
}

mod quorum {
    use super::Rabbit;

    asya_transport::conformance_tests!(Rabbit::connect(true).await);
}
