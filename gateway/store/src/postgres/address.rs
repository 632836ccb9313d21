//! Where a database is: `postgres://…` or `key=value …`, as the original's driver reads them.
//!
//! What it is: parsing with words that never show a password, and a [`Debug`](fmt::Debug) that does not either. What it
//! is not: no connection is opened here. What is left out comes from the usual variables (`PGHOST`, `PGUSER`,
//! `PGPASSWORD`, …) and from the password file.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::PgConnectOptions;

/// Understood by the original's driver or by libpq, and without a meaning here: sizes of its pool are settings of their
/// own ([`Pool`](super::Pool)), the rest tunes what this driver does by itself.
const IGNORED: &[&str] = &[
    "pool_max_conns",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
    "connect_timeout",
    "fallback_application_name",
    "channel_binding",
    "client_encoding",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "sslcompression",
    "sslnegotiation",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Of those that the driver itself understands.
const KNOWN: &[&str] = &["sslrootcert", "sslcert", "sslkey", "application_name", "options"];

/// Where those would lead is not known here.
const UNSUPPORTED: &[&str] = &["service", "servicefile", "passfile", "sslpassword"];

const SSL_MODES: &[&str] = &[
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// Where a database is, and as whom to log in.
#[derive(Clone)]
pub struct Address(PgConnectOptions);

/// Why an address cannot be used. Shows no part of it that could be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of the database {0}")]
pub struct AddressError(String);

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, the same with `postgresql://`, or
    /// `host=… port=… user=… password=… dbname=… sslmode=…`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let settings = match text.split_once("://") {
            Some(("postgres" | "postgresql", rest)) => from_url(rest)?,
            _ => from_dsn(text)?,
        };
        Parts::collect(settings)?.into_address()
    }

    /// For the driver. Its `Debug` shows the password: it stays in this module.
    pub(super) fn connect_options(&self) -> PgConnectOptions {
        self.0.clone()
    }

    /// Another database on the same server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self(self.0.clone().database(name))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.0.get_username();
        let database = self.0.get_database().unwrap_or(user);
        let port = self.0.get_port();
        write!(f, "database \"{database}\" as user \"{user}\" at ")?;
        match self.0.get_socket() {
            Some(socket) => write!(f, "{}/.s.PGSQL.{port}", socket.display()),
            None => write!(f, "{}:{port}", self.0.get_host()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

type Settings = Vec<(String, String)>;

fn error<T>(what: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(what.into()))
}

fn decoded(text: &str) -> Result<String, AddressError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => error("has a %XX that is not UTF-8"),
    }
}

/// What follows `postgres://`, as settings.
fn from_url(rest: &str) -> Result<Settings, AddressError> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if rest.contains('#') {
        return error("has a bare '#': in a password or a name it is written %23");
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut settings = Settings::new();
    let mut put = |key: &str, value: &str| -> Result<(), AddressError> {
        if !value.is_empty() {
            settings.push((key.into(), decoded(value)?));
        }
        Ok(())
    };
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put("user", user)?;
    put("password", password)?;
    let (host, port) = host_and_port(place)?;
    put("host", host)?;
    put("port", port)?;
    put("dbname", path.trim_start_matches('/'))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        put(&decoded(key)?, &value.replace('+', "%20"))?;
    }
    Ok(settings)
}

fn host_and_port(place: &str) -> Result<(&str, &str), AddressError> {
    if let Some(rest) = place.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return error("has a '[' without ']'");
        };
        return Ok((host, rest.strip_prefix(':').unwrap_or(rest)));
    }
    let (host, port) = place.split_once(':').unwrap_or((place, ""));
    // What stands there may be the beginning of a password, so it is not shown.
    if !port
        .chars()
        .all(|digit| digit.is_ascii_digit() || digit == ',' || digit == ':')
    {
        return error(
            "has a port that is not a number. If the password contains '/', '?', '#' or '@', write them as %2F, %3F, \
             %23 and %40",
        );
    }
    Ok((host, port))
}

/// `key=value` pairs as libpq reads them: quotes around values with blanks, backslashes before quotes.
fn from_dsn(text: &str) -> Result<Settings, AddressError> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else {
            return error(
                "is neither postgres://USER:PASSWORD@HOST:PORT/DATABASE nor a list like host=… user=… password=… dbname=…",
            );
        };
        let key = key.trim();
        if key.is_empty()
            || !key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        {
            return error(format!(
                "has something other than key=value at place {}",
                settings.len() + 1
            ));
        }
        let (value, after) = dsn_value(after.trim_start())?;
        settings.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    if settings.is_empty() {
        return error("is empty");
    }
    Ok(settings)
}

fn dsn_value(text: &str) -> Result<(String, &str), AddressError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            blank if !quoted && blank.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        return error("has a ' without its end");
    }
    Ok((value, ""))
}

/// The settings by their meaning.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    ssl_mode: Option<String>,
    known: Settings,
    /// Settings of the session, such as `search_path`.
    session: Settings,
}

impl Parts {
    fn collect(settings: Settings) -> Result<Self, AddressError> {
        let mut parts = Self::default();
        for (key, value) in settings {
            match key.as_str() {
                "host" | "hostaddr" if value.contains(',') => {
                    return error(
                        "names several hosts; this program takes one. Use a name that leads to the primary",
                    );
                }
                "host" | "hostaddr" => parts.host = Some(value),
                "port" => match value.parse() {
                    Ok(port) if port > 0 => parts.port = Some(port),
                    _ => return error("has a port that is not a number from 1 to 65535"),
                },
                "user" => parts.user = Some(value),
                "password" => parts.password = Some(value),
                "dbname" | "database" => parts.database = Some(value),
                "sslmode" if SSL_MODES.contains(&value.as_str()) => parts.ssl_mode = Some(value),
                "sslmode" => {
                    return error(format!(
                        "has an unknown sslmode; it is one of {}",
                        SSL_MODES.join(", ")
                    ));
                }
                key if KNOWN.contains(&key) => parts.known.push((key.to_owned(), value)),
                key if IGNORED.contains(&key) => {}
                key if UNSUPPORTED.contains(&key) => {
                    return error(format!("uses {key}, which is not supported"));
                }
                _ => parts.session.push((key, value)),
            }
        }
        Ok(parts)
    }

    /// Through the URL of the driver, which also looks into the password file.
    fn into_address(self) -> Result<Address, AddressError> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut query = Settings::new();
        let named = [
            ("user", self.user),
            ("password", self.password),
            ("host", self.host),
            ("port", self.port.map(|port| port.to_string())),
            ("dbname", self.database),
            ("sslmode", self.ssl_mode),
        ];
        query.extend(
            named
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?))),
        );
        query.extend(self.known);
        let pairs: Vec<_> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", escaped(value)))
            .collect();
        let mut options: PgConnectOptions = match format!("postgres://?{}", pairs.join("&")).parse() {
            Ok(options) => options,
            Err(_) => return error("has a value that the driver refuses"),
        };
        if !query.iter().any(|(key, _)| key == "application_name") {
            options = options.application_name("asya-gateway");
        }
        Ok(Address(options.options(self.session)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::parse(text).unwrap().to_string()
    }

    #[test]
    fn both_forms_lead_to_the_same_place() {
        let place = "database \"jobs\" as user \"asya\" at db.example:6000";
        assert_eq!(
            shown("postgres://asya:s3cret@db.example:6000/jobs?sslmode=disable"),
            place
        );
        assert_eq!(shown("postgresql://asya@db.example:6000/jobs"), place);
        assert_eq!(
            shown("host=db.example port=6000 user=asya password='s3 cr\\'et' dbname=jobs"),
            place
        );
        assert_eq!(
            shown("postgres://?host=db.example&port=6000&user=asya&dbname=jobs"),
            place
        );
        let socket = shown("host=/var/run/postgresql port=6000 user=asya dbname=jobs");
        assert_eq!(
            socket,
            "database \"jobs\" as user \"asya\" at /var/run/postgresql/.s.PGSQL.6000"
        );
        assert_eq!(
            shown("postgres://asya@[::1]:6000/jobs"),
            "database \"jobs\" as user \"asya\" at ::1:6000"
        );
    }

    #[test]
    fn passwords_are_decoded_and_never_shown() {
        for (text, password) in [
            ("postgres://asya:p%40ss%2Fw%23rd%25@db/jobs", "p@ss/w#rd%"),
            ("postgres://asya:p@ss@db/jobs", "p@ss"),
            ("host=db user=asya password=p@ss/w#rd dbname=jobs", "p@ss/w#rd"),
            ("host=db user=asya password='a b\\\\c' dbname=jobs", "a b\\c"),
        ] {
            let address = Address::parse(text).unwrap();
            let inner = format!("{:?}", address.connect_options());
            assert!(
                inner.contains(&format!("password: Some({password:?})")),
                "{inner}"
            );
            assert!(!format!("{address:?} {address}").contains(password));
        }
    }

    #[test]
    fn bad_addresses_say_what_to_do_and_no_secret() {
        for (text, expected) in [
            ("postgres://asya:s3cret/x@db/jobs", "%2F"),
            ("postgres://asya:s3cret@db/jobs#s3cret", "%23"),
            ("postgres://asya:s3cret@db:65536/jobs", "1 to 65535"),
            ("postgres://asya:s3cret@db/jobs?sslmode=s3cret", "verify-full"),
            ("postgres://asya:s3cret@one,two/jobs", "several hosts"),
            ("postgres://asya:%ff@db/jobs", "not UTF-8"),
            ("host=db password='s3cret", "without its end"),
            ("mysql s3cret", "neither postgres://"),
            ("service=s3cret", "not supported"),
            ("", "is empty"),
        ] {
            let told = Address::parse(text).unwrap_err().to_string();
            assert!(told.contains(expected), "{text}: {told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn settings_of_the_session_are_passed_on_and_those_of_other_pools_ignored() {
        let address = Address::parse("postgres://db/jobs?search_path=asya&pool_max_conns=7").unwrap();
        let options = address.connect_options();
        assert_eq!(options.get_options(), Some("-c search_path=asya"));
    }
}
