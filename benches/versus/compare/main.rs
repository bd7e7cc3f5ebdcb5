//! corebeat against its twins and the kernel's floor: `cargo bench --bench versus`, or
//! `scripts/compare.sh`, which builds what this needs.
//!
//! Owns the command line, the rounds and the files that are written. Measures nothing itself:
//! `corebeat bench` does, as a child process for each contestant in turn, with the same plan. What
//! it compares and how noise is treated is described in `docs/benchmarks.md`.

mod arithmetic;
mod bars;
mod contestant;
mod facts;
mod floor;
mod measure;
mod page;
mod report;
mod rounds;
mod runner;
mod summary;
mod text;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use corebeat::load::config::Dialect;

use self::contestant::Programs;
use self::rounds::Rounds;
use self::runner::Runner;
use self::summary::Summary;
use self::trial::{Pace, Trial};

/// The request was wrong, or the machine does not allow it; or a server broke the contract.
const TROUBLE: u8 = 2;

/// Runs corebeat, its two tokio twins and a bare loop of system calls under the same loads, taking
/// turns, and writes one table and one page.
#[derive(Parser)]
#[command(name = "versus")]
struct Options {
    /// Three short rounds in under two minutes; the idle, storm and 90 % trials in the first only
    #[arg(long)]
    quick: bool,

    /// What all contestants speak: native, ws-json or ws-bin; the floor speaks native only
    #[arg(long, value_name = "DIALECT", default_value = "native", hide_possible_values = true)]
    #[arg(value_parser = dialect())]
    dialect: Dialect,

    /// These trials only, separated by commas [default: all]
    #[arg(long, value_name = "TRIALS", value_delimiter = ',', value_parser = trial())]
    trials: Vec<Trial>,

    /// Rounds [default: 5, and 3 with --quick]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,

    /// Write a page with charts to this file; it needs no other
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write every figure of every round to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the tables to this file, for a page of documentation
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Cargo says this to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// The dialects in which `corebeat bench` and all servers measure the same.
const DIALECTS: [Dialect; 3] = [Dialect::Native, Dialect::WebSocketJson, Dialect::WebSocketBin];

fn dialect() -> impl TypedValueParser<Value = Dialect> {
    PossibleValuesParser::new(DIALECTS.map(Dialect::name)).map(|name| {
        let named = DIALECTS.into_iter().find(|dialect| dialect.name() == name);
        named.expect("the parser lets no other name through")
    })
}

fn trial() -> impl TypedValueParser<Value = Trial> {
    PossibleValuesParser::new(Trial::OF_A_ROUND.map(Trial::key)).map(|name| {
        let named = Trial::OF_A_ROUND.into_iter().find(|trial| trial.key() == name);
        named.expect("the parser lets no other name through")
    })
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("floor") {
        let tables = words.next().unwrap_or_default();
        return match floor::run(&tables) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("the floor: {error}")),
        };
    }
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => complain(&reason),
    }
}

fn compare(options: &Options) -> Result<(), String> {
    let mut pace = if options.quick { Pace::quick() } else { Pace::full() };
    pace.set_rounds(options.rounds);
    pace.set_trials(&options.trials);
    pace.dialect = options.dialect;
    let programs = Programs::find()?;
    let folder = programs.folder();
    let runner = Runner::new(programs, pace.clone(), folder)?;
    let outputs = Outputs::open(options)?;
    let mut rounds = Rounds::new(runner, pace.clone());
    let figures = rounds.run()?;
    let summary = Summary::new(figures, rounds.facts(), &pace);
    println!("{}", text::terminal(&summary));
    outputs.write(&summary)
}

/// The files that were asked for. They are made before the first round, so that a wrong name costs
/// no time.
struct Outputs<'a> {
    options: &'a Options,
}

impl Outputs<'_> {
    fn open(options: &Options) -> Result<Outputs<'_>, String> {
        for (option, path) in [
            ("--html", &options.html),
            ("--json", &options.json),
            ("--markdown", &options.markdown),
        ] {
            if let Some(path) = path {
                write(option, path, "")?;
            }
        }
        Ok(Outputs { options })
    }

    fn write(&self, summary: &Summary) -> Result<(), String> {
        if let Some(path) = &self.options.html {
            write("--html", path, &page::render(summary)?)?;
        }
        if let Some(path) = &self.options.json {
            write("--json", path, &report::json(summary)?)?;
        }
        if let Some(path) = &self.options.markdown {
            write("--markdown", path, &text::markdown(summary))?;
        }
        Ok(())
    }
}

fn write(option: &str, path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .map_err(|error| format!("{option} {} cannot be written: {error}", path.display()))
}

fn complain(reason: &str) -> ExitCode {
    eprintln!("versus: {reason}");
    ExitCode::from(TROUBLE)
}
