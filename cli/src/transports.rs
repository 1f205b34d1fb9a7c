//! The table of transports, as `slipring doctor --transports` prints it and the README contains it.
//!
//! Its source is `slipring::transport::ALL`.

use serde_json::json;
use slipring::transport::{ALL, Capabilities, DeliveryOrder};

use crate::failure::Outcome;
use crate::output::Table;
use crate::{Context, output, units};

/// The headings, in the order of the cells.
const HEADINGS: [&str; 10] = [
    "endpoint",
    "order",
    "lossless",
    "is a",
    ">max frame",
    "sender may restart",
    "knows the peer",
    "reports death",
    "both ways",
    "beyond the machine",
];

/// Prints the table, or a line of JSON for each transport.
pub(crate) fn print(context: &Context) -> Outcome {
    if context.json {
        return ALL.iter().try_for_each(|transport| {
            output::print_json(&json!({
                "scheme": transport.scheme,
                "order": order(transport.order),
                "lossless": transport.lossless,
                "boundaries": transport.boundaries,
                "max_payload": transport.max_payload,
                "survives_restart": transport.survives_restart,
                "authenticates_peer": transport.authenticates_peer,
                "reports_death": transport.reports_death,
                "duplex": transport.duplex,
                "remote": transport.remote,
            }))
        });
    }
    let mut table = Table::new(&HEADINGS);
    for transport in ALL {
        table.row(cells(transport));
    }
    output::print(&table.render())
}

fn order(order: DeliveryOrder) -> &'static str {
    match order {
        DeliveryOrder::Fifo => "as sent",
        DeliveryOrder::PerSender => "per sender",
        DeliveryOrder::PerStream => "per stream",
        DeliveryOrder::Any => "any, reported",
    }
}

/// To the byte, if the unit would round it.
fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) { units::bytes(bytes as u64) } else { format!("{bytes} B") }
}

fn cells(transport: &Capabilities) -> [String; 10] {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let kind = if transport.boundaries { "message" } else { "byte stream" };
    [
        transport.scheme.to_owned(),
        order(transport.order).to_owned(),
        yes(transport.lossless),
        kind.to_owned(),
        size(transport.max_payload),
        yes(transport.survives_restart),
        yes(transport.authenticates_peer),
        yes(transport.reports_death),
        yes(transport.duplex),
        yes(transport.remote),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_capabilities() {
        let row = |cells: [String; 10]| format!("| {} |\n", cells.join(" | "));
        let mut table = row(HEADINGS.map(|heading| heading.trim_start_matches('>').to_owned()));
        table.push_str(&"|---".repeat(HEADINGS.len()));
        table.push_str("|\n");
        for transport in ALL {
            let mut cells = cells(transport);
            cells[0] = format!("`{}`", cells[0]);
            table.push_str(&row(cells));
        }
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table), "README.md, table of transports: paste this\n{table}");
    }
}
