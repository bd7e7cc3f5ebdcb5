//! The comparison for programs: every figure of every round.
//!
//! Owns the form of the JSON file. Numbers are plain, in the units that keys end with.

use serde_json::{Map, Value, json};

use super::arithmetic::Spread;
use super::summary::{Row, Summary};
use super::text;

/// The whole file.
///
/// # Errors
/// What the encoder says.
pub(crate) fn json(summary: &Summary) -> Result<String, String> {
    let mut trials = Map::new();
    for (section, rows) in &summary.sections {
        let measures: Map<String, Value> =
            rows.iter().map(|row| (row.measure.key.into(), measure(summary, row))).collect();
        trials.insert(section.trial.key().into(), Value::Object(measures));
    }
    let targets: Vec<Value> = summary
        .judgements
        .iter()
        .map(|judgement| {
            json!({
                "target": judgement.target.words,
                "bound": judgement.target.bound,
                "measured": judgement.result.as_ref().map(|(figures, _)| spread(figures)),
                "outcome": text::outcome(judgement),
            })
        })
        .collect();
    let all = json!({ "how": summary.facts, "trials": trials, "targets": targets });
    serde_json::to_string_pretty(&all).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn measure(summary: &Summary, row: &Row) -> Value {
    let mut contestants = Map::new();
    for cell in &row.cells {
        let mut told = spread(&cell.spread);
        told["by_round"] = json!(summary.figures.of(&row.measure, cell.contestant));
        contestants.insert(cell.contestant.key().into(), told);
    }
    let mut ratios = Map::new();
    for ratio in &row.ratios {
        let mut told = spread(&ratio.spread);
        told["difference"] = ratio.difference.word().into();
        ratios.insert(ratio.against.key().into(), told);
    }
    json!({ "contestants": contestants, "corebeat_to": ratios })
}

fn spread(figures: &Spread) -> Value {
    json!({ "median": figures.median, "lowest": figures.lowest, "highest": figures.highest })
}
