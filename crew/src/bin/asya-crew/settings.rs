//! The environment as one typed value, or everything that is wrong with it at once. Pure.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use asya_objects::{Bucket, Durability, End, Keys, OpenError, Results};
use asya_program::environment::{duration, size, text};
use asya_program::logging::LogSettings;
use asya_program::{Environment, Expected, Reader, misspelled};
use asya_runtime_protocol::ServerOptions;

use crate::variables as v;

/// What stand-ins for S3 are installed with (contract data-plane §5.3).
const STAND_IN_KEY: &str = "minioadmin";

/// Everything that configures the program.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) end: End,
    pub(crate) storage: Storage,
    pub(crate) server: ServerOptions,
}

/// Where results are kept.
#[derive(Debug)]
pub(crate) enum Storage {
    /// Nowhere.
    Nothing,
    /// A path or a URL.
    Location(String),
    /// A bucket, and what the keys of either end begin with.
    Bucket {
        bucket: Bucket,
        happy_prefix: String,
        error_prefix: String,
    },
}

impl Storage {
    /// Opens it. [`Storage::Nothing`] cannot be opened.
    pub(crate) fn open(&self) -> Result<Results, OpenError> {
        match self {
            Self::Nothing => Results::open("", Durability::Power),
            Self::Location(location) => Results::open(location, Durability::Power),
            Self::Bucket {
                bucket,
                happy_prefix,
                error_prefix,
            } => Results::open_bucket(bucket)?
                .with_prefix(End::Happy, happy_prefix.as_str())?
                .with_prefix(End::Error, error_prefix.as_str()),
        }
    }
}

/// What became of reading the environment.
pub(crate) type Reading = asya_program::Reading<Settings>;

/// Reads the environment.
pub(crate) fn read(environment: &Environment<'_>) -> Reading {
    let mut reader = Reader::new(environment);
    let log = LogSettings::read(&mut reader, &v::LOG_LEVEL, &v::LOG_FORMAT);
    let end = reader.required(&v::HANDLER, which_end);
    reader.optional(&v::HANDLER_MODE, envelope_mode);
    reader.optional(&v::VALIDATION, no_validation);
    let storage = storage(&mut reader);
    let server = server(&mut reader);
    let (problems, mut warnings, set) = (reader.problems, reader.warnings, reader.set);
    warnings.extend(misspelled(environment, &v::TABLE));
    let settings = match end {
        Some(end) if problems.is_empty() => Ok(Settings { end, storage, server }),
        _ => Err(problems),
    };
    Reading {
        settings,
        warnings,
        log,
        set,
    }
}

/// By the handler's last name, so that the module may be another one.
fn which_end(value: &str) -> Result<End, Expected> {
    match value.rsplit('.').next().unwrap_or(value) {
        "happy_end_handler" | "happy-end" => Ok(End::Happy),
        "error_end_handler" | "error-end" => Ok(End::Error),
        _ => Err(Expected::new(
            "handlers.end_handlers.happy_end_handler or handlers.end_handlers.error_end_handler; this image holds no other handlers",
        )),
    }
}

fn envelope_mode(value: &str) -> Result<(), Expected> {
    match value.to_lowercase().as_str() {
        "envelope" => Ok(()),
        _ => Err(Expected::new("envelope: an end actor must run in envelope mode")),
    }
}

fn no_validation(value: &str) -> Result<(), Expected> {
    if value.eq_ignore_ascii_case("true") {
        return Err(Expected::new(
            "false: an end actor must run with validation disabled",
        ));
    }
    Ok(())
}

fn storage(reader: &mut Reader<'_>) -> Storage {
    let endpoint = reader.optional(&v::ENDPOINT, text);
    let region = reader.get(&v::REGION, text);
    let id = reader.optional(&v::ACCESS_KEY, text);
    let secret = reader.optional(&v::SECRET_KEY, text);
    let happy_prefix = reader.get(&v::RESULTS_PREFIX, text);
    let error_prefix = reader.get(&v::ERRORS_PREFIX, text);
    let location = reader.optional(&v::RESULTS_URL, text);
    let Some(name) = reader.optional(&v::BUCKET, text) else {
        return location.map_or(Storage::Nothing, Storage::Location);
    };
    if location.is_some() {
        reader.warn(&v::RESULTS_URL, "ignored, since ASYA_S3_BUCKET is set");
    }
    let bucket = Bucket {
        name,
        keys: keys(endpoint.is_some(), id, secret),
        endpoint,
        region,
    };
    Storage::Bucket {
        bucket,
        happy_prefix,
        error_prefix,
    }
}

fn keys(is_stand_in: bool, id: Option<String>, secret: Option<String>) -> Option<Keys> {
    let default = || is_stand_in.then(|| STAND_IN_KEY.to_owned());
    Some(Keys {
        id: id.or_else(default)?,
        secret: secret.or_else(default)?,
    })
}

fn server(reader: &mut Reader<'_>) -> ServerOptions {
    let directory: PathBuf = reader.get(&v::SOCKET_DIR, text).into();
    let concurrency = reader.get(&v::CONCURRENCY, |value| {
        let expected = || Expected::new("a whole number above zero");
        value.parse::<NonZeroUsize>().map_err(|_| expected())
    });
    ServerOptions {
        socket_name: reader.get(&v::SOCKET_NAME, text),
        max_frame: reader.get(&v::MAX_MESSAGE_SIZE, size),
        shutdown_grace: reader.get(&v::SHUTDOWN_GRACE, duration),
        concurrency,
        ..ServerOptions::new(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Reading {
        read(&Environment {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn the_variables_of_the_original_crew_are_understood() {
        let settings = told(&[
            ("ASYA_HANDLER", "handlers.end_handlers.error_end_handler"),
            ("ASYA_HANDLER_MODE", "Envelope"),
            ("ASYA_ENABLE_VALIDATION", "false"),
            ("ASYA_S3_BUCKET", "results"),
            ("ASYA_S3_ENDPOINT", "http://minio:9000"),
            ("ASYA_S3_ERRORS_PREFIX", "failed/"),
            ("AWS_REGION", "eu-west-1"),
        ]);
        let settings = settings.settings.unwrap();
        assert_eq!(settings.end, End::Error);
        let Storage::Bucket {
            bucket,
            happy_prefix,
            error_prefix,
        } = settings.storage
        else {
            panic!("a bucket: {:?}", settings.storage);
        };
        assert_eq!(
            (bucket.name.as_str(), bucket.region.as_str()),
            ("results", "eu-west-1")
        );
        assert_eq!(
            (happy_prefix.as_str(), error_prefix.as_str()),
            ("happy-asya/", "failed/")
        );
        let keys = bucket.keys.unwrap();
        assert_eq!(
            (keys.id.as_str(), keys.secret.as_str()),
            (STAND_IN_KEY, STAND_IN_KEY)
        );
    }

    #[test]
    fn without_an_endpoint_half_a_pair_of_keys_is_none() {
        assert!(keys(false, Some("id".into()), None).is_none());
        assert!(keys(false, Some("id".into()), Some("secret".into())).is_some());
        assert_eq!(keys(true, Some("id".into()), None).unwrap().id, "id");
    }

    #[test]
    fn what_an_end_actor_cannot_do_is_refused_in_one_report_without_secrets() {
        let reading = told(&[
            ("ASYA_HANDLER", "my.handler"),
            ("ASYA_HANDLER_MODE", "payload"),
            ("ASYA_ENABLE_VALIDATION", "true"),
            ("ASYA_S3_SECRET_KEY", "hush"),
        ]);
        let said: Vec<String> = reading.problems().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        for part in [
            "happy_end_handler",
            "must run in envelope mode",
            "validation disabled",
        ] {
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
        }
        assert!(!reading.shown().contains("hush"));
    }

    #[test]
    fn a_handler_is_required_and_every_default_can_be_read() {
        assert!(
            told(&[]).problems()[0]
                .to_string()
                .contains("ASYA_HANDLER: not set")
        );
        let settings = told(&[("ASYA_HANDLER", "happy-end")]).settings.unwrap();
        assert!(matches!(settings.storage, Storage::Nothing));
    }
}
