//! Lists of failures by name, as `ASYA_RETRY_ON` and `ASYA_RETRY_NEVER_ON` hold them.

use std::convert::Infallible;
use std::str::FromStr;

use super::failure::RunFailure;

/// Exception names and error codes. A name without a dot stands for the class of that name in any module, a name
/// with dots for that class alone; a class stands for all that derive from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorNames(Vec<String>);

impl ErrorNames {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self, failure: &RunFailure) -> bool {
        self.0.iter().any(|entry| {
            *entry == failure.code
                || failure
                    .exceptions
                    .iter()
                    .any(|exception| is_class(entry, exception))
        })
    }
}

/// Whether `entry` names the class `exception`. Built-in classes may be written with or without their module.
fn is_class(entry: &str, exception: &str) -> bool {
    let plain = |name: &str| name.strip_prefix("builtins.").unwrap_or(name).to_owned();
    let (entry, exception) = (plain(entry), plain(exception));
    entry == exception || (!entry.contains('.') && exception.rsplit('.').next() == Some(&entry))
}

impl FromStr for ErrorNames {
    type Err = Infallible;

    /// Names separated by commas; white space around them does not count.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.split(',').collect())
    }
}

impl<S: Into<String>> FromIterator<S> for ErrorNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let names = names.into_iter().map(|name| name.into().trim().to_owned());
        Self(names.filter(|name| !name.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, exceptions: &[&str]) -> RunFailure {
        RunFailure {
            code: code.into(),
            exceptions: exceptions.iter().map(|&name| name.into()).collect(),
            message: String::new(),
            is_reported: false,
        }
    }

    #[test]
    fn a_list_names_codes_classes_and_their_bases() {
        let failed = failure(
            "processing_error",
            &["app.errors.Outage", "ConnectionError", "OSError", "Exception"],
        );
        for named in [
            "processing_error",
            "Outage",
            "app.errors.Outage",
            "OSError",
            "builtins.OSError",
            "Nothing, ConnectionError ,",
        ] {
            let names: ErrorNames = named.parse().unwrap();
            assert!(names.names(&failed), "{named}");
        }
        for other in [
            "",
            " , ",
            "errors.Outage",
            "other.Outage",
            "app",
            "outage",
            "KeyError",
            "app.OSError",
            "timeout",
        ] {
            let names: ErrorNames = other.parse().unwrap();
            assert!(!names.names(&failed), "{other}");
        }
    }

    #[test]
    fn nothing_but_separators_is_an_empty_list() {
        for text in ["", " , ,"] {
            assert!(text.parse::<ErrorNames>().unwrap().is_empty());
        }
    }
}
