//! The sidecar's port and probes, which follow from where it serves its metrics and health.

use serde_json::{Map, Value, json};

use super::lists::text;

/// `ASYA_METRICS_ADDR` if nobody says otherwise.
const DEFAULT_PORT: u16 = 8080;

/// Adds port and probes of a sidecar with this environment; nothing where a kubelet could not reach them or where only
/// the cluster knows the address.
pub(super) fn add(environment: &[Value], container: &mut Map<String, Value>) {
    let Some(port) = port(environment) else { return };
    let probe = |path: &str, period: u32| {
        json!({
            "httpGet": {"path": path, "port": port},
            "periodSeconds": period,
            "timeoutSeconds": 3,
            "failureThreshold": 3,
        })
    };
    container.insert(
        "ports".into(),
        json!([{"containerPort": port, "name": "metrics", "protocol": "TCP"}]),
    );
    container.insert("livenessProbe".into(), probe("/livez", 10));
    container.insert("readinessProbe".into(), probe("/readyz", 5));
}

fn port(environment: &[Value]) -> Option<u16> {
    if let Some(entry) = last(environment, "ASYA_METRICS_ENABLED")
        && !is_on(text(entry, "value")?)
    {
        return None;
    }
    let Some(entry) = last(environment, "ASYA_METRICS_ADDR") else {
        return Some(DEFAULT_PORT);
    };
    let (host, port) = match text(entry, "value")? {
        "" => return Some(DEFAULT_PORT),
        address => address.rsplit_once(':')?,
    };
    let is_local = host.starts_with("127.") || matches!(host, "localhost" | "[::1]");
    port.parse().ok().filter(|port| *port > 0 && !is_local)
}

fn last<'a>(environment: &'a [Value], name: &str) -> Option<&'a Value> {
    environment
        .iter()
        .rev()
        .find(|entry| text(entry, "name") == Some(name))
}

/// As the sidecar reads it: an empty or bad value is the default, which is on.
fn is_on(value: &str) -> bool {
    !["false", "0", "no", "off"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_follows_the_sidecars_variables() {
        let literal = |name: &str, value: &str| json!({"name": name, "value": value});
        for (environment, expected) in [
            (vec![], Some(8080)),
            (vec![literal("ASYA_METRICS_ADDR", ":9100")], Some(9100)),
            (vec![literal("ASYA_METRICS_ADDR", "")], Some(8080)),
            (vec![literal("ASYA_METRICS_ADDR", "0.0.0.0:9100")], Some(9100)),
            (vec![literal("ASYA_METRICS_ADDR", "[::]:9100")], Some(9100)),
            (vec![literal("ASYA_METRICS_ADDR", "127.0.0.1:9100")], None),
            (vec![literal("ASYA_METRICS_ADDR", "[::1]:9100")], None),
            (vec![literal("ASYA_METRICS_ADDR", "nonsense")], None),
            (vec![literal("ASYA_METRICS_ENABLED", "False")], None),
            (vec![literal("ASYA_METRICS_ENABLED", "true")], Some(8080)),
            (
                vec![
                    literal("ASYA_METRICS_ADDR", ":1"),
                    literal("ASYA_METRICS_ADDR", ":2"),
                ],
                Some(2),
            ),
            (vec![json!({"name": "ASYA_METRICS_ADDR", "valueFrom": {}})], None),
        ] {
            assert_eq!(port(&environment), expected, "{environment:?}");
        }
    }
}
