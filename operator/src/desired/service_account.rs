//! The service account of actors that speak to AWS (contract operator §10).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DesiredError, Inputs, Kind, Object, metadata};
use crate::registry::Broker;

/// Annotation with which EKS gives a role to a service account; on an AsyncActor it overrides the transport's role.
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// The account that the operator makes for an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `asya-<actor>`; the pod's `serviceAccountName`.
    pub name: String,
    /// Role for IRSA; `None` leaves the account to Pod Identity.
    pub role: Option<String>,
}

impl Account {
    /// The account of this actor, if its transport asks for one.
    ///
    /// # Errors
    /// If there is a role and the template chooses an account of its own. Without a role the template's choice wins.
    pub fn of(inputs: &Inputs<'_>) -> Result<Option<Self>, DesiredError> {
        let Broker::Sqs(sqs) = &inputs.transport.broker else {
            return Ok(None);
        };
        let actor = inputs.actor;
        let role = actor
            .annotations
            .get(ROLE_ANNOTATION)
            .or(sqs.actor_role_arn.as_ref());
        let role = role.filter(|role| !role.is_empty());
        let name = format!("asya-{}", actor.name);
        let chosen = chosen(&actor.spec.workload.template.spec).filter(|account| *account != name);
        match (role, chosen) {
            (Some(role), Some(account)) => Err(DesiredError::ServiceAccountConflict {
                account: account.to_owned(),
                own: name,
                role: role.clone(),
            }),
            (Some(role), None) => Ok(Some(Self {
                name,
                role: Some(role.clone()),
            })),
            (None, None) if sqs.service_account_per_actor => Ok(Some(Self { name, role: None })),
            (None, _) => Ok(None),
        }
    }

    pub(super) fn object(&self, inputs: &Inputs<'_>) -> Object {
        let annotations = self
            .role
            .iter()
            .map(|role| (ROLE_ANNOTATION, role.clone()))
            .collect::<BTreeMap<_, _>>();
        metadata::owned(
            inputs.actor,
            Kind::ServiceAccount,
            self.name.clone(),
            annotations,
            json!({}),
        )
    }
}

/// What the template says, in either spelling.
fn chosen(pod: &Value) -> Option<&str> {
    let field = |name: &str| {
        pod.get(name)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
    };
    field("serviceAccountName").or_else(|| field("serviceAccount"))
}
