//! Figures, spreads and ratios as people read them, and the tables in the terminal and in Markdown.
//!
//! Owns their words. Never computes: [`summary`](super::summary) did.

use std::fmt::Write;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell as Box, CellAlignment, ContentArrangement, Table};
use corebeat::load::figures::{bytes, thousands};

use super::arithmetic::Spread;
use super::contestant::Contestant;
use super::measure::{Against, Unit};
use super::summary::{Judgement, Ratio, Row, Summary};

/// Columns of the tables in the terminal; cells that are too long are wrapped.
const TERMINAL_COLUMNS: u16 = 140;

/// A figure with its unit, to three digits.
pub(crate) fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count if value < 100.0 && value.fract().abs() > 0.005 => format!("{value:.1}"),
        Unit::Count => thousands(value.round() as u64),
        Unit::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        Unit::PerSecond if value >= 1e5 => format!("{:.0} k/s", value / 1e3),
        Unit::PerSecond => format!("{:.1} k/s", value / 1e3),
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::Bytes => bytes(value),
        Unit::Nanoseconds => time(value),
    }
}

/// A time to three digits.
fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 999.5 => return format!("{ns:.0} ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// The lowest and the highest, where there are several and they differ. A unit that both have is
/// written once.
pub(crate) fn range(unit: Unit, spread: &Spread) -> Option<String> {
    let (lowest, highest) = (figure(unit, spread.lowest), figure(unit, spread.highest));
    if lowest == highest {
        return None;
    }
    let unit_of = |text: &str| text.split_once(' ').map(|(_, unit)| unit.to_owned());
    let number = match (unit_of(&lowest), unit_of(&highest)) {
        (Some(unit), Some(other)) if unit == other => lowest.split(' ').next(),
        _ => None,
    };
    Some(format!("{} – {highest}", number.unwrap_or(&lowest)))
}

/// A ratio with two or three digits behind the point.
pub(crate) fn ratio(value: f64) -> String {
    if value < 0.1 { format!("{value:.3}") } else { format!("{value:.2}") }
}

/// The spread of a ratio in brackets, and what it means.
pub(crate) fn ratio_words(ratios: &Ratio) -> String {
    let Spread { lowest, highest, rounds, .. } = ratios.spread;
    match rounds {
        1 => ratios.difference.word().into(),
        _ => format!("{} – {}, {}", ratio(lowest), ratio(highest), ratios.difference.word()),
    }
}

/// A target's figure as it was measured.
pub(crate) fn measured(judgement: &Judgement) -> String {
    let Some((spread, _)) = &judgement.result else { return "not measured".into() };
    let one = |value| match judgement.target.against {
        Against::Itself if judgement.target.key == "memory_bytes" => figure(Unit::Bytes, value),
        Against::Itself => figure(Unit::Nanoseconds, value),
        Against::Contestant(_) => format!("{} ×", ratio(value)),
    };
    let (lowest, highest) = (one(spread.lowest), one(spread.highest));
    match lowest == highest {
        true => one(spread.median),
        false => format!("{} ({lowest} – {highest})", one(spread.median)),
    }
}

/// A target's bound.
pub(crate) fn bound(judgement: &Judgement) -> String {
    let side = match judgement.target.side {
        super::arithmetic::Side::AtMost => "at most",
        super::arithmetic::Side::AtLeast => "at least",
    };
    let bound = judgement.target.bound;
    let value = match judgement.target.against {
        Against::Itself if judgement.target.key == "memory_bytes" => figure(Unit::Bytes, bound),
        Against::Itself => figure(Unit::Nanoseconds, bound),
        Against::Contestant(_) => format!("{} ×", ratio(bound)),
    };
    format!("{side} {value}")
}

/// Met, missed, or why neither.
pub(crate) fn outcome(judgement: &Judgement) -> &'static str {
    match &judgement.result {
        Some((_, outcome)) => outcome.words(),
        None => "not judged",
    }
}

/// The columns: the measure's name, contestants, then ratios of ours to each other one.
pub(crate) const HEADS: [&str; 10] = [
    "measure",
    "corebeat",
    "tokio-tuned",
    "tokio-plain",
    "floor, shared table",
    "floor, private table",
    "ours : tuned",
    "ours : plain",
    "ours : floor, shared",
    "ours : floor, private",
];

/// The cells of a row: what stands in the first line, and what in the second.
pub(crate) fn cells(row: &Row) -> Vec<(String, String)> {
    let unit = row.measure.unit;
    let value = |contestant: Contestant| {
        row.cell(contestant).map_or_else(Default::default, |cell| {
            let spread = range(unit, &cell.spread).unwrap_or_default();
            (figure(unit, cell.spread.median), spread)
        })
    };
    let against = |contestant: &Contestant| {
        row.ratio(*contestant).map_or_else(Default::default, |ratios| {
            (ratio(ratios.spread.median), ratio_words(ratios))
        })
    };
    let mut all = vec![(row.measure.title.to_owned(), String::new())];
    all.extend(Contestant::ALL.map(value));
    all.extend(Contestant::ALL[1..].iter().map(against));
    all
}

/// The columns that some row of a section has something in.
pub(crate) fn used_columns(all: &[Vec<(String, String)>]) -> Vec<usize> {
    let used = |nth: &usize| all.iter().any(|cells| !cells[*nth].0.is_empty());
    (0..HEADS.len()).filter(used).collect()
}

/// The whole comparison for a terminal.
pub(crate) fn terminal(summary: &Summary) -> String {
    let mut out = String::new();
    for (section, rows) in &summary.sections {
        let _ = writeln!(out, "\n{}\n{}", section.title, wrapped(section.sentence));
        let mut table = empty_table();
        let all: Vec<_> = rows.iter().map(cells).collect();
        let columns = used_columns(&all);
        table.set_header(columns.iter().map(|&nth| HEADS[nth]));
        for row in &all {
            table.add_row(columns.iter().map(|&nth| {
                let (value, spread) = row[nth].clone();
                let text = if spread.is_empty() { value } else { format!("{value}\n{spread}") };
                let alignment = if nth == 0 { CellAlignment::Left } else { CellAlignment::Right };
                Box::new(text).set_alignment(alignment)
            }));
        }
        let _ = writeln!(out, "{table}");
    }
    if !summary.judgements.is_empty() {
        let _ = writeln!(out, "\nTargets\n{}", targets(summary));
    }
    out.push('\n');
    for (name, value) in &summary.facts.lines {
        let _ = writeln!(out, "{name:<12}{value}");
    }
    for warning in &summary.facts.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn targets(summary: &Summary) -> Table {
    let mut table = empty_table();
    table.set_header(["target", "bound", "measured", ""]);
    for judgement in &summary.judgements {
        let words = judgement.target.words;
        table.add_row([words, &bound(judgement), &measured(judgement), outcome(judgement)]);
    }
    table
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(TERMINAL_COLUMNS);
    table
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + word.len() > 98) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// The whole comparison for a page of documentation.
pub(crate) fn markdown(summary: &Summary) -> String {
    let mut out = String::new();
    for (section, rows) in &summary.sections {
        let all: Vec<_> = rows.iter().map(cells).collect();
        let columns = used_columns(&all);
        let heads: Vec<&str> = columns.iter().map(|&nth| HEADS[nth]).collect();
        let rule = "---:|".repeat(columns.len() - 1);
        let _ = writeln!(out, "**{}.** {}\n", section.title, section.sentence);
        let _ = writeln!(out, "| {} |\n|---|{rule}", heads.join(" | "));
        for row in &all {
            let texts: Vec<String> = columns
                .iter()
                .map(|&nth| match &row[nth] {
                    (value, spread) if spread.is_empty() => value.clone(),
                    (value, spread) => format!("{value} ({spread})"),
                })
                .collect();
            let _ = writeln!(out, "| {} |", texts.join(" | "));
        }
        out.push('\n');
    }
    if !summary.judgements.is_empty() {
        out += "**Targets.**\n\n| target | bound | measured | |\n|---|---|---|---|\n";
    }
    for judgement in &summary.judgements {
        let (words, outcome) = (judgement.target.words, outcome(judgement));
        let (bound, measured) = (bound(judgement), measured(judgement));
        let _ = writeln!(out, "| {words} | {bound} | {measured} | {outcome} |");
    }
    out += "\n| how | |\n|---|---|\n";
    for (name, value) in &summary.facts.lines {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    for warning in &summary.facts.warnings {
        let _ = writeln!(out, "\nWarning: {warning}");
    }
    out
}
