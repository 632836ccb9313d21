//! How fast the autoscaler follows the queue (rulings 36).

use serde_json::{Map, Value, json};

use crate::desired::Inputs;
use crate::registry::Broker;

/// `HorizontalPodAutoscalerBehavior`: what the actor says, else its transport, else the default, each direction for
/// itself.
///
/// By default up by 100 % or 4 pods in 15 s, the larger, and down by 50 % in 15 s. Fast scale-down is safe because pods
/// drain in order and have grace to finish, so nothing is held back to wait for a steady queue.
pub(super) fn behavior(inputs: &Inputs<'_>) -> Value {
    let transport = match &inputs.transport.broker {
        Broker::RabbitMq(broker) => &broker.behavior,
        Broker::Sqs(broker) => &broker.behavior,
    };
    let default = default();
    let layers = [
        Some(&default),
        transport.as_ref(),
        inputs.actor.spec.scaling.behavior.as_ref(),
    ]
    .into_iter()
    .flatten()
    .filter_map(Value::as_object)
    .flat_map(Map::clone);
    Value::Object(layers.collect())
}

fn default() -> Value {
    json!({
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                { "type": "Percent", "value": 100, "periodSeconds": 15 },
                { "type": "Pods", "value": 4, "periodSeconds": 15 },
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{ "type": "Percent", "value": 50, "periodSeconds": 15 }],
        },
    })
}
