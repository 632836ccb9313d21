//! A RabbitMQ hop by the real sidecar program, beside the bare loop of the client library on the same node.
//!
//! Each file is a section of its own on one common [`Field`]. The native hop is here: consume, one call of a native
//! echo over its socket, publish, acknowledge, 1 KiB, for several numbers of messages in hand.

use anyhow::Result;

use self::field::{Field, Runtime, Shape};
use super::{Options, Outcome, Section};
use crate::broker::{Kind, Node};
use crate::figures::Row;

pub mod field;
pub mod gateway;
pub mod latency;
pub mod peers;
pub mod python;
pub mod resources;

/// The name of this section.
pub const SECTION: &str = "rabbitmq";

/// What a sidecar may hold; `None` is left to it.
const CREDITS: [Option<u16>; 5] = [Some(1), Some(10), Some(100), Some(1000), None];
/// What the bare loop may hold when the sidecar decides for itself.
const ENOUGH: u16 = 1000;

/// From so many in hand on the price of a call shows; below it the broker's answers are waited for.
const CALLED: u16 = 100;

/// Makes a sidecar speak v1.
const V1: [(&str, &str); 1] = [("ASYA_RUNTIME_PROTOCOL", "v1")];
/// What that is called.
const OVER_V1: &str = "the same sidecar over v1";

/// The rows of this section.
async fn measure(field: &Field<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for credit in CREDITS {
        rows.extend(compare(field, Kind::Classic, credit).await?);
    }
    rows.extend(compare(field, Kind::Quorum, Some(100)).await?);
    Ok(rows)
}

async fn compare(field: &Field<'_>, kind: Kind, credit: Option<u16>) -> Result<Vec<Row>> {
    let prefetch = credit.unwrap_or(ENOUGH);
    let shape = Shape { kind, prefetch };
    let stretch = field.stretch(shape).await?;
    let name = match (kind, credit) {
        (Kind::Quorum, _) => format!("native echo, prefetch {prefetch}, quorum queues"),
        (Kind::Classic, Some(_)) => format!("native echo, prefetch {prefetch}"),
        (Kind::Classic, None) => "native echo, prefetch unset".into(),
    };
    // What one call of a runtime for each message costs anybody.
    let calls = kind == Kind::Classic && prefetch >= CALLED;
    let (mut ours, mut bare, mut called, mut first) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..field.rounds() {
        field.say(&format!(
            "rabbitmq: {name}, round {} of {}",
            round + 1,
            field.rounds()
        ));
        let mut ways = [Way::Bare, Way::Called, Way::OverV1, Way::Sidecar];
        if round % 2 == 1 {
            ways.reverse();
        }
        for way in ways {
            match way {
                Way::Bare => bare.push(field.bare(shape, stretch, None).await?),
                Way::Called | Way::OverV1 if !calls => {}
                Way::Called => called.push(field.bare(shape, stretch, Some(Runtime::Native)).await?),
                Way::OverV1 => first.push(field.sidecar(kind, credit, Runtime::Native, &V1, stretch).await?),
                Way::Sidecar => ours.push(field.sidecar(kind, credit, Runtime::Native, &[], stretch).await?),
            }
        }
    }
    let row = Row::rates(SECTION, name, &ours, ("bare lapin loop", &bare));
    // Quorum queues are there for information.
    let mut rows = vec![if kind == Kind::Classic { row.aim(0.9) } else { row }];
    if calls {
        let beside = ("bare lapin loop + socket call", called.as_slice());
        rows.push(Row::rates(SECTION, "  the same", &ours, beside));
        rows.push(Row::rates(SECTION, "  the same", &ours, (OVER_V1, &first)));
    }
    // The table comes minutes later, and not at all when a later comparison fails.
    for row in &rows {
        field.say(&row.summary());
    }
    Ok(rows)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Bare,
    Called,
    OverV1,
    Sidecar,
}

/// Measures one of the sections that need a node, which the first of them starts.
pub async fn section<'a>(
    section: Section,
    options: &'a Options,
    say: &'a dyn Fn(&str),
    field: &mut Option<Field<'a>>,
) -> Result<Outcome> {
    if let Some(reason) = Node::missing() {
        return Ok(Outcome::Skipped(reason));
    }
    let field = match field {
        Some(field) => field,
        None => field.insert(Field::open(options, say).await?),
    };
    let rows = match section {
        Section::RabbitmqPython => python::measure(field).await?,
        Section::Peers => return peers::measure(field).await,
        Section::Latency => latency::measure(field).await?,
        Section::Resources => resources::measure(field).await?,
        Section::Gateway => gateway::measure(field).await?,
        _ => measure(field).await?,
    };
    Ok(Outcome::Measured(rows))
}
