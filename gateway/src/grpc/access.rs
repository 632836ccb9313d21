//! Who calls, and whether that one may: from the extensions of the request, where the auth layer left it.

use tonic::{Request, Status};

use crate::auth::{Caller, Role};

/// The caller, if it has the role.
pub(super) fn caller<T>(request: &Request<T>, role: Role) -> Result<Caller, Status> {
    // Without the layer nobody was asked: that is a gateway put together wrongly, and no reason to let anybody in.
    let Some(caller) = request.extensions().get::<Caller>() else {
        return Err(Status::unauthenticated("nobody has said who calls"));
    };
    if caller.is(role) {
        return Ok(caller.clone());
    }
    let who = match role {
        Role::Client => "clients",
        Role::Sidecar => "sidecars",
        Role::Operator => "operators",
    };
    Err(Status::permission_denied(format!("this method is for {who}")))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_who_has_the_role_may_and_nobody_is_nobody() {
        let mut request = Request::new(());
        assert_eq!(
            caller(&request, Role::Client).unwrap_err().code(),
            Code::Unauthenticated
        );
        request.extensions_mut().insert(Caller {
            roles: [Role::Client].into(),
            ..Caller::anonymous()
        });
        assert!(caller(&request, Role::Client).is_ok());
        for role in [Role::Sidecar, Role::Operator] {
            assert_eq!(caller(&request, role).unwrap_err().code(), Code::PermissionDenied);
        }
    }
}
