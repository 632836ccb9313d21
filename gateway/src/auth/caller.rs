//! Who asks, and what that one may do.

use std::collections::BTreeSet;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Calls tools; reads, watches and cancels envelopes; reads actors.
    Client,
    /// Reports about envelopes.
    Sidecar,
    /// Reports about actors.
    Operator,
}

/// The one who asks, as the [auth layer](crate::auth) found out. It lies in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose envelopes it may see; `None` for everybody's.
    pub tenant: Option<String>,
    /// How it is called in logs; never a secret.
    pub name: Option<String>,
    /// What it may do.
    pub roles: BTreeSet<Role>,
}

impl Caller {
    /// Somebody whom nobody asked for a name: may do everything, sees everything. Right where there is no auth.
    pub fn anonymous() -> Self {
        Self {
            tenant: None,
            name: None,
            roles: [Role::Client, Role::Sidecar, Role::Operator].into(),
        }
    }

    /// Whether it may see what belongs to `tenant`.
    pub fn sees(&self, tenant: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == tenant
    }

    /// Whether it has the role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
