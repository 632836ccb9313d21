//! `ASYA_CUSTOM_METRICS`: metrics that a user declares (contract data-plane §11).

use std::collections::HashSet;

use asya_program::{Expected, Problem, Reader};
use asya_sidecar::METRICS;
use serde_json::Value;

use crate::variables as v;

/// Buckets of a histogram that names none.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One declared metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CustomMetric {
    /// Without the namespace; characters that Prometheus does not know are replaced.
    pub(crate) name: String,
    pub(crate) kind: CustomKind,
    pub(crate) help: String,
}

/// What it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CustomKind {
    Counter,
    Gauge,
    Histogram { buckets: Vec<f64> },
}

/// Reads them; `None` when they are no JSON of that form.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Vec<CustomMetric>> {
    let problems = reader.problems.len();
    let declared = reader.get(&v::CUSTOM_METRICS, array);
    if reader.problems.len() > problems {
        return None;
    }
    let mut names: HashSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    let mut metrics = Vec::new();
    for (index, entry) in declared.iter().enumerate() {
        match metric(entry) {
            Ok(metric) if names.insert(metric.name.clone()) => metrics.push(metric),
            Ok(metric) => warn(
                reader,
                index,
                &format!("{} is there already; left out", metric.name),
            ),
            Err(Refused::Odd(text)) => warn(reader, index, &format!("{text}; left out")),
            Err(Refused::Malformed(text)) => {
                reader
                    .problems
                    .push(Problem::new(v::CUSTOM_METRICS.name, at(index, &text)));
            }
        }
    }
    Some(metrics)
}

fn warn(reader: &mut Reader<'_>, index: usize, text: &str) {
    reader.warn(&v::CUSTOM_METRICS, at(index, text));
}

fn at(index: usize, text: &str) -> String {
    format!("element {index}: {text}")
}

fn array(value: &str) -> Result<Vec<Value>, Expected> {
    serde_json::from_str(value).map_err(|error| {
        Expected::new(r#"a JSON array such as [{"name": "tokens_total", "type": "counter"}]"#)
            .because(format!("is none ({error})"))
    })
}

enum Refused {
    /// Worth a warning.
    Odd(String),
    /// The text is of another form altogether, which ended the original as well.
    Malformed(String),
}

fn metric(entry: &Value) -> Result<CustomMetric, Refused> {
    let entry = entry
        .as_object()
        .ok_or_else(|| Refused::Malformed("expected an object".into()))?;
    let text = |key: &str| match entry.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(Refused::Malformed(format!("{key}: expected text"))),
    };
    let (name, kind, help) = (text("name")?, text("type")?, text("help")?);
    labels(entry.get("labels"))?;
    let buckets = buckets(entry.get("buckets"))?;
    if name.is_empty() {
        return Err(Refused::Odd("has no name".into()));
    }
    let kind = match kind {
        "counter" => CustomKind::Counter,
        "gauge" => CustomKind::Gauge,
        "histogram" => CustomKind::Histogram { buckets },
        other => {
            return Err(Refused::Odd(format!(
                "{other:?} is no type; expected counter, gauge or histogram"
            )));
        }
    };
    Ok(CustomMetric {
        name: sanitised(name),
        kind,
        help: help.to_owned(),
    })
}

fn labels(labels: Option<&Value>) -> Result<(), Refused> {
    match labels {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(labels)) if labels.iter().all(Value::is_string) => Ok(()),
        Some(_) => Err(Refused::Malformed("labels: expected an array of text".into())),
    }
}

fn buckets(buckets: Option<&Value>) -> Result<Vec<f64>, Refused> {
    let malformed = || Refused::Malformed("buckets: expected an array of numbers".into());
    let numbers = match buckets {
        None | Some(Value::Null) => return Ok(BUCKETS.into()),
        Some(Value::Array(numbers)) => numbers,
        Some(_) => return Err(malformed()),
    };
    let mut buckets: Vec<f64> = numbers
        .iter()
        .map(|number| number.as_f64().ok_or_else(malformed))
        .collect::<Result<_, _>>()?;
    buckets.sort_by(f64::total_cmp);
    buckets.dedup();
    Ok(if buckets.is_empty() {
        BUCKETS.into()
    } else {
        buckets
    })
}

/// As the original writes names.
fn sanitised(name: &str) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let name: String = name.chars().map(|c| if known(c) { c } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}
