//! What went wrong at the database, sorted by what can be done about it.
//!
//! Errors are shown by their code and message alone: the details that the server adds quote rows, and rows hold what
//! customers sent.

use sqlx::error::DatabaseError;

use super::address::Address;
use crate::store::StoreError;

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection is of no use any more; what was under way may or may not have happened.
    Lost,
    /// The server undid the transaction for the sake of another one: run it again.
    Again,
    /// It cannot be done now, and a moment is not enough: no connection can be had, a disk is full, a login is being
    /// changed.
    Busy,
    /// Tables or columns are not there.
    Schema,
    /// The same again would be refused again.
    Refused,
}

/// Sorts an error.
pub(super) fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => kind_of_code(error.code().as_deref().unwrap_or_default()),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Kind::Lost
        }
        sqlx::Error::BeginFailed => Kind::Lost,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Kind::Busy,
        _ => Kind::Refused,
    }
}

/// Classes of errors that say nothing about what was asked.
const CIRCUMSTANCES: [&str; 5] = ["53", "55", "57", "58", "XX"];

/// Whether the server does not let us in.
fn is_of_login(code: &str) -> bool {
    code.starts_with("28") || code.starts_with("3D")
}

/// By the class of the code, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn kind_of_code(code: &str) -> Kind {
    match code {
        // Of all resources only memory and places for connections come back soon. A session that the server has ended
        // for being slow (25P03, 25P04). And a server that has just become a standby (25006): the next connection may
        // lead to the new primary.
        "53200" | "53300" | "25006" | "25P03" | "25P04" => Kind::Lost,
        // 57014: a limit of the role or an administrator has ended the statement.
        "40001" | "40P01" | "55P03" | "57014" => Kind::Again,
        "42P01" | "42703" | "3F000" => Kind::Schema,
        // Damage is where it is: one row must not keep others waiting.
        "XX001" | "XX002" => Kind::Refused,
        code if code.starts_with("08") || code.starts_with("57P") => Kind::Lost,
        // Resources, states of objects, the operator, the system, the server itself: none of it is about what was
        // asked. A login or a database (28, 3D) was good at the start, and is being changed.
        code if CIRCUMSTANCES.iter().any(|class| code.starts_with(class)) || is_of_login(code) => Kind::Busy,
        _ => Kind::Refused,
    }
}

/// The words of an error, without rows and without passwords.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => words_of_server(error.as_ref()),
        other => other.to_string(),
    }
}

fn words_of_server(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    format!("{} (SQLSTATE {code})", error.message())
}

/// An error of something that was done in the database.
pub(super) fn store_error(doing: &str, address: &Address, error: &sqlx::Error) -> StoreError {
    let said = match error {
        sqlx::Error::PoolTimedOut => {
            "no connection in time: all are busy, or the server does not answer".to_owned()
        }
        other => words(other),
    };
    let told = format!("{doing}, {address}: {said}");
    match kind(error) {
        Kind::Lost | Kind::Again | Kind::Busy => StoreError::Unavailable(Box::new(Words(told))),
        Kind::Schema => StoreError::Schema(format!(
            "{told}. The schema is not what it was at the start: run `asya-gateway migrate` and start again"
        )),
        Kind::Refused => StoreError::Broken(Box::new(Words(told))),
    }
}

/// An error of opening a connection: a wrong password or database is refused, all else may pass.
pub(super) fn connect_error(address: &Address, error: &sqlx::Error) -> StoreError {
    let said = match error {
        sqlx::Error::Database(error) => words_of_server(error.as_ref()),
        sqlx::Error::PoolTimedOut => "no answer in time".to_owned(),
        other => other.to_string(),
    };
    let told = Box::new(Words(format!("cannot connect to {address}: {said}")));
    let is_refused = |error: &dyn DatabaseError| {
        let code = error.code().unwrap_or_default();
        is_of_login(&code) || kind_of_code(&code) == Kind::Refused
    };
    match error {
        sqlx::Error::Database(error) if is_refused(error.as_ref()) => StoreError::Broken(told),
        sqlx::Error::Configuration(_) => StoreError::Broken(told),
        _ => StoreError::Unavailable(told),
    }
}

/// An error that is ours.
pub(super) fn broken(told: impl Into<String>) -> StoreError {
    StoreError::Broken(Box::new(Words(told.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_can_be_done() {
        assert_eq!(kind_of_code("57P01"), Kind::Lost);
        assert_eq!(kind_of_code("08006"), Kind::Lost);
        assert_eq!(kind_of_code("40P01"), Kind::Again);
        assert_eq!(kind_of_code("42P01"), Kind::Schema);
        assert_eq!(kind_of_code("57014"), Kind::Again);
        for circumstance in [
            "53100", "53400", "55000", "57000", "58030", "XX000", "28P01", "28000", "3D000",
        ] {
            assert_eq!(kind_of_code(circumstance), Kind::Busy, "{circumstance}");
        }
        assert_eq!(kind_of_code("23505"), Kind::Refused);
        assert_eq!(kind_of_code("XX001"), Kind::Refused);
        assert_eq!(kind_of_code("22P05"), Kind::Refused);
    }
}
