//! The command `ask`: one topology with as many hosts, as large frames and as high a rate as you
//! say.
//!
//! Relies on `tables.rs` for the topologies. Parameters of the table can be given other values.

use crate::parameters::Parameters;
use crate::tables::{TOPOLOGIES, Topology, at_most, at_rate, count, duration, thousands};

/// Less than this part of what is sent arrives: the rate cannot be held.
const HELD: f64 = 0.97;

struct Question {
    topology: &'static Topology,
    hosts: usize,
    size: usize,
    /// Frames a second of each source; 0: only the highest rate is asked for.
    rate: f64,
    parameters: Parameters,
}

/// The answer to `TOPOLOGY hosts=N size=BYTES [rate=FRAMES] [PARAMETER=VALUE...]`.
pub(crate) fn ask(parameters: Parameters, arguments: impl Iterator<Item = String>) -> Result<String, String> {
    let question = parse(parameters, arguments)?;
    let Question { topology, hosts, size, rate, parameters } = &question;
    let plan = (topology.plan)(parameters, *hosts);
    let (plan, times) = plan.ok_or(format!("{}: hosts={hosts} is too few for it", topology.key))?;
    let most = at_most(parameters, *size, &plan);
    let mut text = format!("{}, {} hosts, frames of {} bytes\n", topology.name, thousands(*hosts), thousands(*size));
    text += &format!("at most: {} frames/s arrive in all; limit: {}\n", count(most.rate * times), most.busiest.0);
    if *rate == 0.0 {
        return Ok(text);
    }
    let found = at_rate(parameters, *size, &plan, *rate);
    let (sent, arrive) = (rate * (plan.sources() * plan.copies()) as f64 * times, found.rate * times);
    text += &format!("{} frames/s of each source: ", count(*rate));
    if arrive < HELD * sent {
        let (sent, arrive) = (count(sent), count(arrive));
        text += &format!(
            "no: {sent} frames/s would have to arrive in all, and {arrive} do; frames wait at their sources\n"
        );
    } else {
        let (p50, p99) = (duration(found.p50), duration(found.p99));
        let (busiest, part) = (found.busiest.0, (found.busiest.1 * 100.0).round());
        text += &format!("yes: {} frames/s arrive in all\n", count(arrive));
        text += &format!("delay: {p50} median, {p99} 99th percentile\nbusiest: {busiest}, {part} % of the time\n");
    }
    Ok(text)
}

fn parse(mut parameters: Parameters, mut arguments: impl Iterator<Item = String>) -> Result<Question, String> {
    let key = arguments.next().unwrap_or_default();
    let topology = TOPOLOGIES.iter().find(|topology| topology.key == key);
    let keys = TOPOLOGIES.map(|topology| topology.key).join(", ");
    let topology = topology.ok_or(format!("{key:?} is no topology; there are {keys}"))?;
    let (mut hosts, mut size, mut rate) = (None, None, 0.0);
    for argument in arguments {
        let split = argument.split_once('=').and_then(|(name, value)| Some((name, value.parse::<f64>().ok()?)));
        let (name, value) = split.ok_or(format!("{argument}: must be NAME=NUMBER"))?;
        let is_whole = value >= 1.0 && value.fract() == 0.0;
        match name {
            "hosts" if is_whole && value <= 10_000.0 => hosts = Some(value as usize),
            "size" if is_whole && value <= 1e6 => size = Some(value as usize),
            "rate" if (1.0..=1e12).contains(&value) => rate = value,
            "hosts" => return Err(format!("{argument}: must be from 1 to 10,000")),
            "size" => return Err(format!("{argument}: must be from 1 to 1,000,000 bytes")),
            "rate" => return Err(format!("{argument}: must be from 1 to 1e12 frames a second")),
            name if !parameters.has(name) => return Err(format!("{name}: no parameter of parameters.txt")),
            name if value > 0.0 => parameters.set(name, value),
            name => return Err(format!("{name}: {value} must be more than 0")),
        }
    }
    let hosts = hosts.ok_or("hosts= is missing: how many there are")?;
    let size = size.ok_or("size= is missing: the bytes of a frame")?;
    Ok(Question { topology, hosts, size, rate, parameters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::TABLE;

    fn answer(question: &str) -> Result<String, String> {
        ask(Parameters::parse(TABLE).unwrap(), question.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_rate_beyond_the_card_is_not_held_and_a_faster_card_or_a_lower_rate_is() {
        let question = "gather-star hosts=50 size=1024 rate=";
        let too_much = answer(&format!("{question}100000")).unwrap();
        assert!(too_much.contains("limit: network card") && too_much.contains("source: no"), "{too_much}");
        let faster = answer(&format!("{question}100000 card.gbit=100")).unwrap();
        assert!(faster.contains("source: yes"), "{faster}");
        let less = answer(&format!("{question}1000")).unwrap();
        assert!(less.contains("source: yes: 49 k") || less.contains("source: yes: 48 k"), "{less}");
    }

    #[test]
    fn the_document_has_the_answers_that_the_simulator_gives() {
        let document = include_str!("../../../docs/scale.md");
        let command = "$ cargo run --release --manifest-path benches/scale/Cargo.toml -- ask ";
        let mut questions = 0;
        for (at, _) in document.match_indices(command) {
            let rest = &document[at + command.len()..];
            let (question, rest) = rest.split_once('\n').unwrap();
            let answer = answer(question).unwrap();
            assert!(rest.starts_with(&answer), "docs/scale.md does not have this answer to {question}:\n{answer}");
            questions += 1;
        }
        assert!(questions > 0);
    }

    #[test]
    fn a_question_that_cannot_be_answered_says_why() {
        for (question, expected) in [
            ("", "\"\" is no topology; there are rings,"),
            ("mesh hosts=1 size=64", "mesh: hosts=1 is too few for it"),
            ("mesh hosts=8", "size= is missing"),
            ("mesh hosts=8 size=0", "size=0: must be"),
            ("mesh hosts=8 size=64 card=100", "card: no parameter"),
            ("mesh hosts=8 size=64 card.gbit=-1", "card.gbit: -1 must be more than 0"),
            ("mesh hosts", "hosts: must be NAME=NUMBER"),
        ] {
            let error = answer(question).unwrap_err();
            assert!(error.starts_with(expected), "{question}: {error}");
        }
    }
}
