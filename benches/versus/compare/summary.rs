//! What all rounds together say.
//!
//! Owns the collected figures, and the rows, curves and verdicts that follow from them. Never
//! measures, and never formats.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::arithmetic::{Difference, Outcome, Spread, paired_ratios};
use super::contestant::Contestant;
use super::measure::{Against, Measure, SECTIONS, Section, Target, targets};
use super::runner::Attempt;
use super::trial::{Pace, Trial};

/// Latencies in microseconds by the share of deliveries that they are not exceeded by.
type Curve = Vec<(f64, f64)>;

/// Figures by trial, contestant and key of the measure, one a round.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    all: BTreeMap<(Trial, Contestant, &'static str), Vec<Option<f64>>>,
    curves: BTreeMap<(Trial, Contestant), Vec<Curve>>,
}

impl Figures {
    /// Adds a round of a trial.
    pub(crate) fn add(&mut self, trial: Trial, attempt: &Attempt) {
        let section = SECTIONS.iter().find(|section| section.trial == trial);
        let Some(section) = section else { return };
        for &contestant in trial.contestants() {
            let report = attempt.reports.get(&contestant);
            for measure in section.measures {
                let figure = report.and_then(measure.read);
                let key = (trial, contestant, measure.key);
                self.all.entry(key).or_default().push(figure);
            }
            if let Some(curve) = report.and_then(curve) {
                self.curves.entry((trial, contestant)).or_default().push(curve);
            }
        }
    }

    /// A measure's figures of all rounds.
    pub(crate) fn of(&self, measure: &Measure, contestant: Contestant) -> &[Option<f64>] {
        let key = (measure.trial, contestant, measure.key);
        self.all.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The median latency of all rounds at each percentile that all of them tell.
    pub(crate) fn curve(&self, trial: Trial, contestant: Contestant) -> Curve {
        let Some(rounds) = self.curves.get(&(trial, contestant)) else { return Vec::new() };
        let shortest = rounds.iter().map(Vec::len).min().unwrap_or(0);
        // The last point of a curve is its longest latency, at a share of its own.
        let told = shortest.saturating_sub(1);
        let median = |nth: usize| {
            let values: Vec<f64> = rounds.iter().map(|curve| curve[nth].1).collect();
            Spread::of(&values).map(|spread| (rounds[0][nth].0, spread.median))
        };
        (0..told).filter_map(median).collect()
    }
}

/// The curve of a report.
fn curve(report: &Value) -> Option<Curve> {
    let points = report.pointer("/results/latencies/0/curve")?.as_array()?;
    points.iter().map(|point| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()?))).collect()
}

/// A contestant's part of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) contestant: Contestant,
    pub(crate) spread: Spread,
}

/// How ours stands to one contestant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    pub(crate) against: Contestant,
    pub(crate) spread: Spread,
    pub(crate) difference: Difference,
}

/// A measure of all contestants.
pub(crate) struct Row {
    pub(crate) measure: Measure,
    pub(crate) cells: Vec<Cell>,
    pub(crate) ratios: Vec<Ratio>,
}

impl Row {
    fn of(figures: &Figures, measure: &Measure) -> Row {
        let ours = figures.of(measure, Contestant::Corebeat);
        let (mut cells, mut ratios) = (Vec::new(), Vec::new());
        for &contestant in measure.trial.contestants() {
            let theirs = figures.of(measure, contestant);
            let known: Vec<f64> = theirs.iter().flatten().copied().collect();
            if let Some(spread) = Spread::of(&known) {
                // The floor keeps nothing for a connection, so its memory says nothing.
                if contestant.is_floor() && !measure.has_floor() {
                    continue;
                }
                cells.push(Cell { contestant, spread });
            }
            if contestant == Contestant::Corebeat || !measure.has_ratio() {
                continue;
            }
            if let Some(spread) = Spread::of(&paired_ratios(ours, theirs))
                && cells.last().is_some_and(|cell| cell.contestant == contestant)
            {
                let difference = Difference::of(&spread, measure.better);
                ratios.push(Ratio { against: contestant, spread, difference });
            }
        }
        Row { measure: *measure, cells, ratios }
    }

    /// A contestant's figure.
    pub(crate) fn cell(&self, contestant: Contestant) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.contestant == contestant)
    }

    /// How ours stands to a contestant.
    pub(crate) fn ratio(&self, against: Contestant) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.against == against)
    }
}

/// What came of a target.
pub(crate) struct Judgement {
    pub(crate) target: &'static Target,
    /// The figure or ratio; none where it was not measured as the target asks.
    pub(crate) result: Option<(Spread, Outcome)>,
}

impl Judgement {
    fn of(sections: &[(&Section, Vec<Row>)], target: &'static Target, pace: &Pace) -> Judgement {
        // The target holds for one interval, for which the quick comparison does not wait.
        let other_heartbeat = target.key == "processor_ns_per_s" && pace.heartbeat_s != 25;
        let row = sections.iter().flat_map(|(_, rows)| rows).find(|row| {
            row.measure.trial == target.trial && row.measure.key == target.key && !other_heartbeat
        });
        let spread = row.and_then(|row| match target.against {
            Against::Itself => row.cell(Contestant::Corebeat).map(|cell| cell.spread),
            Against::Contestant(other) => row.ratio(other).map(|ratio| ratio.spread),
        });
        let judged = |spread| (spread, Outcome::of(&spread, target.side, target.bound));
        Judgement { target, result: spread.map(judged) }
    }
}

/// What the whole comparison tells.
pub(crate) struct Summary {
    /// The sections of the trials that were run, in the order of [`SECTIONS`], and their rows.
    pub(crate) sections: Vec<(&'static Section, Vec<Row>)>,
    /// Of the targets that those trials can tell.
    pub(crate) judgements: Vec<Judgement>,
    pub(crate) figures: Figures,
    pub(crate) facts: Facts,
}

impl Summary {
    /// Computes it all.
    pub(crate) fn new(figures: Figures, facts: Facts, pace: &Pace) -> Summary {
        let rows = |measures: &[Measure]| -> Vec<Row> {
            measures.iter().map(|measure| Row::of(&figures, measure)).collect()
        };
        let was_run = |trial: Trial| pace.trials.contains(&trial);
        let sections: Vec<(&Section, Vec<Row>)> = SECTIONS
            .iter()
            .filter(|section| was_run(section.trial))
            .map(|section| (section, rows(section.measures)))
            .collect();
        let judgements = targets(pace.dialect)
            .iter()
            .filter(|target| was_run(target.trial))
            .map(|target| Judgement::of(&sections, target, pace))
            .collect();
        Summary { sections, judgements, figures, facts }
    }

    /// Whether the bare loop took part.
    pub(crate) fn has_floor(&self) -> bool {
        let cells = self.sections.iter().flat_map(|(_, rows)| rows).flat_map(|row| &row.cells);
        cells.into_iter().any(|cell| cell.contestant.is_floor())
    }
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// Version of `corebeat`.
    pub(crate) version: &'static str,
    /// Name and value, for a table: machine, versions, sizes.
    pub(crate) lines: Vec<(String, String)>,
    /// The commands, one a trial and contestant.
    pub(crate) commands: Vec<String>,
    /// What a reader must know before believing a figure; empty where all went well.
    pub(crate) warnings: Vec<String>,
    /// Capacity of the weakest server, in deliveries a second, by workers.
    pub(crate) capacity_per_s: BTreeMap<u32, f64>,
}
