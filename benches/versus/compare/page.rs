//! The comparison as one HTML page.
//!
//! Owns its order and its words; style, light and dark, is that of the load generator's page. One
//! file that needs no other: no script, and every chart inside. Never computes.

use std::fmt::Write;

use corebeat::load::chart::{self, Line};
use corebeat::load::page::{STYLE, escaped, round_time};

use super::bars::{Bar, Level, bars};
use super::contestant::Contestant;
use super::measure::Section;
use super::summary::{Cell, Row, Summary};
use super::text;
use super::trial::Trial;

const TITLE: &str = "corebeat against the twins";
/// What this page needs beyond the style of all pages.
const MORE_STYLE: &str = "
main { max-width: 1060px; } h2 { margin-top: 48px; } h3 { font-size: 15px; margin: 22px 0 6px; }
figure { padding: 10px 14px; } figcaption { padding: 2px 4px 8px; flex-wrap: wrap; }
.spread { display: block; color: var(--soft); font-size: 12.5px; white-space: normal; }
table.measures { font-size: 14.5px; } figure + figure { margin-top: 12px; }
.measures th { vertical-align: bottom; white-space: normal; }
.measures td:first-child { min-width: 9em; }
.measures .number { padding-right: 14px; }
td.met { color: var(--good); font-weight: 600; white-space: nowrap; }
td.missed { color: var(--bad); font-weight: 600; white-space: nowrap; }
ul.warnings li { color: var(--bad); } .commands li { margin-bottom: 8px; }
code { font: 12.5px/1.5 ui-monospace, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere; }
";

/// The whole page.
///
/// # Errors
/// Where a chart could not be drawn.
pub(crate) fn render(summary: &Summary) -> Result<String, String> {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{TITLE}</title>\n<style>{STYLE}{MORE_STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    out += &head(summary);
    out += &targets(summary);
    for (section, rows) in &summary.sections {
        out += &part(summary, section, rows)?;
    }
    out += &how(summary);
    let version = summary.facts.version;
    let _ = write!(out, "<footer>corebeat {version}</footer>\n</main>\n</body>\n</html>\n");
    Ok(out)
}

fn head(summary: &Summary) -> String {
    let mut out = format!(
        "<h1>{TITLE}</h1>\n<p>The same gateway three times: corebeat on raw mio, tokio-tuned as an \
         expert in tokio would ship it, and tokio-plain as a good team would write it first. \
         They take turns under the same load on the same processors, and each figure is the \
         median of the rounds with the lowest and the highest below it.</p>\n<p>"
    );
    if summary.has_floor() {
        out += "The <em>kernel's floor</em> is a bare loop of system calls that moves the same \
                bytes over as many sockets in the same rounds. ";
    }
    out += "A ratio is taken within each round; where the ratios of all rounds lie on both sides \
            of 1, the difference is <em>within the noise</em>. A single round is no \
            evidence.</p>\n";
    let machine: Vec<&str> =
        summary.facts.lines.iter().take(2).map(|(_, value)| value.as_str()).collect();
    let _ = writeln!(out, "<p class=\"soft\">{}</p>", escaped(&machine.join(" · ")));
    if !summary.facts.warnings.is_empty() {
        let item = |warning: &String| format!("<li>{}</li>", escaped(warning));
        let items: String = summary.facts.warnings.iter().map(item).collect();
        let _ = writeln!(out, "<ul class=\"warnings\">{items}</ul>");
    }
    out
}

fn targets(summary: &Summary) -> String {
    if summary.judgements.is_empty() {
        return String::new();
    }
    let outcomes = || summary.judgements.iter().filter_map(|judgement| judgement.result.as_ref());
    let judged: Vec<bool> = outcomes().filter_map(|(_, outcome)| outcome.is_met()).collect();
    let (met, all) = (judged.iter().filter(|met| **met).count(), judged.len());
    let single = match outcomes().count() - all {
        0 => String::new(),
        count => format!(" Of {count} there is one round only, which is no evidence."),
    };
    let mut out = format!(
        "<h2>Targets</h2>\n<p>{met} of {all} met.{single}</p>\n<div class=\"scroll\"><table \
         class=\"measures\">\n<tr><th>what</th><th class=\"number\">bound</th>\
         <th class=\"number\">measured</th><th></th></tr>\n"
    );
    for judgement in &summary.judgements {
        let met = judgement.result.as_ref().and_then(|(_, outcome)| outcome.is_met());
        let class = match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "soft",
        };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"{class}\">{}</td></tr>",
            escaped(judgement.target.words),
            text::bound(judgement),
            text::measured(judgement),
            text::outcome(judgement)
        );
    }
    out + "</table></div>\n"
}

fn part(summary: &Summary, section: &Section, rows: &[Row]) -> Result<String, String> {
    let (title, sentence) = (escaped(section.title), escaped(section.sentence));
    let mut out = format!("<h2>{title}</h2>\n<p>{sentence}</p>\n");
    out += &percentiles(summary, section.trial)?;
    for row in rows.iter().filter(|row| row.measure.has_bars()) {
        let (bar_list, levels) = bars_of(row);
        if !bar_list.is_empty() {
            let svg = bars(&bar_list, &levels)?;
            let better = match row.measure.better {
                super::arithmetic::Better::Lower => "lower is better",
                super::arithmetic::Better::Higher => "higher is better",
            };
            let title = escaped(row.measure.title);
            let _ = writeln!(
                out,
                "<figure><figcaption><span>{title} · {better}</span></figcaption>{svg}</figure>"
            );
        }
    }
    Ok(out + &table(rows))
}

fn bars_of(row: &Row) -> (Vec<Bar>, Vec<Level>) {
    let unit = row.measure.unit;
    let (floors, servers): (Vec<&Cell>, Vec<&Cell>) =
        row.cells.iter().partition(|cell| cell.contestant.is_floor());
    let bars = servers.into_iter().map(|cell| Bar {
        name: cell.contestant.name(),
        median: cell.spread.median,
        lowest: cell.spread.lowest,
        highest: cell.spread.highest,
        value: text::figure(unit, cell.spread.median),
        spread: text::range(unit, &cell.spread).unwrap_or_default(),
    });
    let levels = floors.into_iter().map(|cell| Level {
        at: cell.spread.median,
        name: format!(
            "kernel's {} {}",
            cell.contestant.name(),
            text::figure(unit, cell.spread.median)
        ),
    });
    let mut levels: Vec<Level> = levels.collect();
    levels.sort_by(|one, other| one.at.total_cmp(&other.at));
    (bars.collect(), levels)
}

/// Latencies of all contestants on one logarithmic axis.
fn percentiles(summary: &Summary, trial: Trial) -> Result<String, String> {
    let line = |contestant: &Contestant| Line {
        name: contestant.name().into(),
        points: summary.figures.curve(trial, *contestant),
    };
    let lines: Vec<Line> = Contestant::SERVERS.iter().map(line).collect();
    if trial.load().is_none() || lines.iter().all(|line| line.points.is_empty()) {
        return Ok(String::new());
    }
    let svg = chart::percentiles(&lines, |us| round_time(us * 1e3))?;
    let name = |(nth, line): (usize, &Line)| {
        format!("<span><i style=\"background:var(--line{nth})\"></i>{}</span>", escaped(&line.name))
    };
    let legend: String = lines.iter().enumerate().map(name).collect();
    Ok(format!(
        "<figure><figcaption><span>delivery latency by percentile, median of the rounds</span>\
         {legend}</figcaption>{svg}</figure>\n"
    ))
}

fn table(rows: &[Row]) -> String {
    // Columns that no row of the section has are left out.
    let all: Vec<Vec<(String, String)>> = rows.iter().map(text::cells).collect();
    let columns = text::used_columns(&all);
    let class = |nth: usize| if nth == 0 { "" } else { " class=\"number\"" };
    let mut out = String::from("<div class=\"scroll\"><table class=\"measures\">\n<tr>");
    for &nth in &columns {
        let _ = write!(out, "<th{}>{}</th>", class(nth), escaped(text::HEADS[nth]));
    }
    out += "</tr>\n";
    for cells in &all {
        out += "<tr>";
        for &nth in &columns {
            let (value, spread) = &cells[nth];
            let _ = write!(
                out,
                "<td{}>{}<span class=\"spread\">{}</span></td>",
                class(nth),
                escaped(value),
                escaped(spread)
            );
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n"
}

fn how(summary: &Summary) -> String {
    let mut out = String::from("<h2>How it was measured</h2>\n<div class=\"scroll\"><table>\n");
    for (name, value) in &summary.facts.lines {
        let _ = writeln!(
            out,
            "<tr><th>{}</th><td style=\"white-space:normal\">{}</td></tr>",
            escaped(name),
            escaped(value)
        );
    }
    out += "</table></div>\n<h3>Commands</h3>\n<ul class=\"commands\">\n";
    for command in &summary.facts.commands {
        let _ = writeln!(out, "<li><code>{}</code></li>", escaped(command));
    }
    out + "</ul>\n"
}
