//! The command line, as the original's: Go's `flag` package takes one dash or two, and `--leader-elect=false`.

use std::ffi::OsString;
use std::path::PathBuf;

use asya_program::environment::listen_address;
use asya_program::logging::{Format, Level};
use clap::{Args, Subcommand, ValueEnum};

/// What can be asked for; without anything the operator runs.
#[derive(Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do instead of running.
    #[command(flatten)]
    pub instead: Instead,
    /// How to run.
    #[command(flatten)]
    pub flags: Flags,
    /// Something else than to run
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running.
#[derive(Debug, Default, Args)]
pub struct Instead {
    /// Check variables and registry, say all that is wrong with them, and end with 0 or 1; nothing is connected
    #[arg(long)]
    pub check: bool,
    /// Print what would be applied for the manifests of a file or a directory, and say on standard error what is
    /// wrong; no cluster is needed
    #[arg(long, value_name = "PATH", conflicts_with = "check")]
    pub dry_run: Option<PathBuf>,
    /// Form of what --dry-run and --check print
    #[arg(long, short, value_name = "FORMAT", value_enum)]
    pub output: Option<Output>,
    /// Print the variables that are set as JSON, without secrets, and end
    #[arg(long)]
    pub print_config: bool,
    /// Print the tables of the documentation
    #[arg(long, hide = true)]
    pub markdown: bool,
}

/// How to run: the flags of the original.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// Where /metrics is served, as HOST:PORT or :PORT; 0 for nowhere
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", value_parser = bind)]
    pub metrics_bind_address: Bind,
    /// Where /healthz, /readyz and /livez are served, as HOST:PORT or :PORT; 0 for nowhere
    #[arg(long, value_name = "ADDRESS", default_value = ":8081", value_parser = bind)]
    pub health_probe_bind_address: Bind,
    /// Work only while holding the lease asya-operator.asya.sh, so that one of several replicas works at a time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", value_parser = go_bool, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace that gets the runtime script even without actors; in place of `ASYA_RUNTIME_NAMESPACE`
    #[arg(long, value_name = "NAME")]
    pub runtime_namespace: Option<String>,
    /// Most actors that are worked on at a time; below 1 means 1; in place of `ASYA_MAX_CONCURRENT_RECONCILES`
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_concurrent_reconciles: Option<i64>,
    /// Kubeconfig file, in place of `KUBECONFIG`, of the pod's own service account, and of ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// debug, info, error, or a number above 0 for debug; in place of `ASYA_LOG_LEVEL`
    #[arg(long, value_name = "LEVEL", value_parser = zap_level)]
    pub zap_log_level: Option<ZapLevel>,
    /// Lines for people, and debug lines unless --zap-log-level says otherwise
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = go_bool, action = clap::ArgAction::Set)]
    pub zap_devel: Option<bool>,
    /// json or console; in place of `ASYA_LOG_FORMAT`
    #[arg(long, value_name = "FORMAT", value_parser = zap_encoder)]
    pub zap_encoder: Option<ZapEncoder>,
    /// Accepted without effect
    #[arg(long, value_name = "LEVEL")]
    pub zap_stacktrace_level: Option<String>,
    /// Accepted without effect
    #[arg(long, value_name = "ENCODING")]
    pub zap_time_encoding: Option<String>,
}

/// Something else than to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the custom resource definition, for `kubectl apply --server-side -f -`
    Crd,
    /// Print a manifest of the older kind `Asya` as an `AsyncActor`
    Convert {
        /// The file; `-` for standard input
        file: PathBuf,
    },
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// YAML documents; lines for `--check`
    Yaml,
    /// One JSON document: a `List` for `--dry-run`
    Json,
}

/// Where something is served.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Nowhere.
    #[default]
    Off,
    /// At `HOST:PORT` or `:PORT`.
    At(String),
}

/// A level as zap writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZapLevel(pub Level);

/// A form of lines as zap names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZapEncoder(pub Format);

fn bind(text: &str) -> Result<Bind, String> {
    if text == "0" {
        return Ok(Bind::Off);
    }
    listen_address(text)
        .map(Bind::At)
        .map_err(|expected| format!("expected {}, or 0", expected.what))
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

fn zap_level(text: &str) -> Result<ZapLevel, String> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(ZapLevel(Level::Debug)),
        "info" => Ok(ZapLevel(Level::Info)),
        "warn" => Ok(ZapLevel(Level::Warn)),
        "error" | "dpanic" | "panic" | "fatal" => Ok(ZapLevel(Level::Error)),
        number => match number.parse::<u8>() {
            Ok(1..) => Ok(ZapLevel(Level::Debug)),
            _ => Err("expected debug, info, error, or a number above 0".into()),
        },
    }
}

fn zap_encoder(text: &str) -> Result<ZapEncoder, String> {
    match text {
        "json" => Ok(ZapEncoder(Format::Json)),
        "console" => Ok(ZapEncoder(Format::Pretty)),
        _ => Err("expected json or console".into()),
    }
}

/// Arguments as clap wants them, from those as Go's `flag` package takes them (`-leader-elect`).
pub fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut over = false;
    let doubled = |argument: OsString| {
        over = over || argument == "--";
        let text = argument.to_str().unwrap_or_default();
        let name = text.strip_prefix('-').unwrap_or_default();
        let is_word = name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic());
        if is_word && !over {
            OsString::from(format!("-{text}"))
        } else {
            argument
        }
    };
    given.into_iter().map(doubled).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(given: &[&str]) -> Result<Arguments, clap::Error> {
        let given = std::iter::once("asya-operator")
            .chain(given.iter().copied())
            .map(OsString::from);
        CommandLine::try_parse_from(arguments(given)).map(|line| line.arguments)
    }

    fn flags(given: &[&str]) -> Flags {
        parse(given)
            .unwrap_or_else(|error| panic!("{given:?}: {error}"))
            .flags
    }

    #[test]
    fn without_flags_the_contract_s_defaults_hold() {
        let flags = flags(&[]);
        assert_eq!(flags.metrics_bind_address, Bind::At(":8080".into()));
        assert_eq!(flags.health_probe_bind_address, Bind::At(":8081".into()));
        assert!(!flags.leader_elect);
        assert_eq!(
            (flags.runtime_namespace, flags.max_concurrent_reconciles),
            (None, None)
        );
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        for given in [
            "-leader-elect",
            "--leader-elect",
            "--leader-elect=true",
            "-leader-elect=1",
            "-leader-elect=T",
        ] {
            assert!(flags(&[given]).leader_elect, "{given}");
        }
        assert!(!flags(&["--leader-elect=false"]).leader_elect);
        // A value that follows is no value of a switch.
        assert!(parse(&["--leader-elect", "false"]).is_err());
        for given in [
            &["-metrics-bind-address", ":1"][..],
            &["--metrics-bind-address=:1"],
        ] {
            assert_eq!(flags(given).metrics_bind_address, Bind::At(":1".into()));
        }
        assert_eq!(
            flags(&["-health-probe-bind-address=0"]).health_probe_bind_address,
            Bind::Off
        );
        assert_eq!(
            flags(&["-max-concurrent-reconciles", "-3"]).max_concurrent_reconciles,
            Some(-3)
        );
        assert_eq!(
            flags(&["-runtime-namespace=x"]).runtime_namespace.as_deref(),
            Some("x")
        );
    }

    #[test]
    fn flags_of_the_original_s_logger_are_understood() {
        let all = flags(&[
            "-zap-log-level=error",
            "--zap-devel",
            "-zap-encoder=console",
            "-zap-stacktrace-level=panic",
            "--zap-time-encoding",
            "rfc3339",
        ]);
        assert_eq!(all.zap_log_level, Some(ZapLevel(Level::Error)));
        assert_eq!(all.zap_devel, Some(true));
        assert_eq!(all.zap_encoder, Some(ZapEncoder(Format::Pretty)));
        assert_eq!(
            flags(&["-zap-log-level=3"]).zap_log_level,
            Some(ZapLevel(Level::Debug))
        );
        for bad in ["-zap-log-level=0", "-zap-encoder=xml", "-zap-devel=perhaps"] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_values_and_unknown_flags_are_refused() {
        for bad in [
            "--metrics-bind-address=8080",
            "-max-concurrent-reconciles=many",
            "--leader-elected",
            "serve",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
        assert!(parse(&["-h"]).is_err_and(|error| error.kind() == clap::error::ErrorKind::DisplayHelp));
    }
}
