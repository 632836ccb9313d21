//! Which right a request needs, by method and path alone. Pure.

use axum::http::Method;

use super::caller::{Caller, Role};

/// Who may send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    /// Anybody.
    Open,
    /// Those who have this role.
    Of(Role),
    /// Clients and sidecars.
    ClientsAndSidecars,
}

impl Area {
    /// The area of a request. What is not known here is for clients only.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        match path {
            "/health" | "/livez" | "/readyz" | "/metrics" | "/openapi.json" => return Self::Open,
            "/asya.status.v1.EnvelopeStatus/Report" => return Self::Of(Role::Sidecar),
            "/asya.status.v1.ActorStatus/Report" => return Self::Of(Role::Operator),
            _ => {}
        }
        let is_open = ["/.well-known/", "/grpc.health.", "/grpc.reflection."];
        if is_open.iter().any(|prefix| path.starts_with(prefix)) {
            return Self::Open;
        }
        let Some(rest) = path.strip_prefix("/envelopes") else {
            return Self::Of(Role::Client);
        };
        let last = rest.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        match last {
            "progress" | "final" if rest.matches('/').count() > 1 => Self::Of(Role::Sidecar),
            "" if method == Method::POST => Self::Of(Role::Sidecar),
            "active" => Self::ClientsAndSidecars,
            _ => Self::Of(Role::Client),
        }
    }

    /// Whether the caller may.
    pub(super) fn admits(self, caller: &Caller) -> bool {
        match self {
            Self::Open => true,
            Self::Of(role) => caller.is(role),
            Self::ClientsAndSidecars => caller.is(Role::Client) || caller.is(Role::Sidecar),
        }
    }

    /// Who may, in words.
    pub(super) const fn who(self) -> &'static str {
        match self {
            Self::Open => "everybody",
            Self::Of(Role::Client) => "clients",
            Self::Of(Role::Sidecar) => "sidecars",
            Self::Of(Role::Operator) => "operators",
            Self::ClientsAndSidecars => "clients and sidecars",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_belongs_to_those_who_need_it() {
        let client = Area::Of(Role::Client);
        let sidecar = Area::Of(Role::Sidecar);
        for (method, path, expected) in [
            (Method::GET, "/health", Area::Open),
            (
                Method::GET,
                "/.well-known/oauth-protected-resource/mcp",
                Area::Open,
            ),
            (Method::POST, "/grpc.health.v1.Health/Check", Area::Open),
            (Method::POST, "/tools/call", client),
            (Method::POST, "/mcp", client),
            (Method::GET, "/envelopes", client),
            (Method::POST, "/envelopes", sidecar),
            (Method::POST, "/envelopes/", sidecar),
            (Method::GET, "/envelopes/x", client),
            (Method::GET, "/envelopes/final", client),
            (Method::DELETE, "/envelopes/x", client),
            (Method::POST, "/envelopes/x/progress", sidecar),
            (Method::POST, "/envelopes/x/final", sidecar),
            (Method::GET, "/envelopes/x/active", Area::ClientsAndSidecars),
            (Method::GET, "/envelopes/x/stream", client),
            (Method::POST, "/asya.status.v1.EnvelopeStatus/Report", sidecar),
            (Method::POST, "/asya.status.v1.EnvelopeStatus/Watch", client),
            (
                Method::POST,
                "/asya.status.v1.ActorStatus/Report",
                Area::Of(Role::Operator),
            ),
            (Method::POST, "/asya.status.v1.ActorStatus/List", client),
            (Method::GET, "/anything/else", client),
        ] {
            assert_eq!(Area::of(&method, path), expected, "{method} {path}");
        }
    }
}
