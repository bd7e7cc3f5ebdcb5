//! Rules about the pages: what they say is what the program does.
//!
//! Owns the comparison of `docs/` and README with the program's own help, limits and counters.

use std::collections::BTreeMap;
use std::process::Command;

use corebeat::base::counters::CloseReason;

use super::source::{Finding, Source, all_files, expect_none, rust_files, top};

const ARCHITECTURE: &str = "docs/architecture.md";
const OPERATIONS: &str = "docs/operations.md";
const EXAMPLE: &str = "docs/examples/native.py";

/// The options that `corebeat serve --help` lists, each with its default as it is printed there.
fn options_of_help() -> BTreeMap<String, Option<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_corebeat"))
        .args(["serve", "--help"])
        .output()
        .expect("the program runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("the help is UTF-8");
    let mut entries: Vec<Vec<&str>> = Vec::new();
    for line in help.lines() {
        match line.trim_start() {
            // An option stands on a line of its own, and its description is indented below it.
            start if start.starts_with("--") || start.starts_with("-h,") => {
                entries.push(start.split_whitespace().collect());
            }
            more => {
                if let Some(entry) = entries.last_mut() {
                    entry.extend(more.split_whitespace());
                }
            }
        }
    }
    let options: BTreeMap<_, _> = entries.iter().map(|entry| option_of(entry)).collect();
    assert!(options.len() > 10, "the help could not be read: {help}");
    options
}

fn option_of(words: &[&str]) -> (String, Option<String>) {
    let name = words.iter().find(|word| word.starts_with("--")).expect("an option has a name");
    let text = words.join(" ");
    let default = text.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
    let default = default.map(|(default, _)| default.to_owned());
    ((*name).to_owned(), default)
}

/// The rows of the operations page's tables of options: the name, the line, the cells.
fn rows_of_page(page: &Source) -> BTreeMap<String, (usize, Vec<String>)> {
    page.lines()
        .skip_while(|(_, line)| *line != "## Options")
        .take_while(|(_, line)| !line.starts_with("## ") || *line == "## Options")
        .filter(|(_, line)| line.starts_with("| `--"))
        .map(|(number, line)| {
            let cells: Vec<String> =
                line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            let name = cells[0].trim_matches('`').split_whitespace().next().unwrap_or_default();
            (name.to_owned(), (number, cells))
        })
        .collect()
}

#[test]
fn every_option_has_its_row_with_its_default() {
    let page = Source::read(OPERATIONS);
    let rows = rows_of_page(&page);
    let mut findings = Vec::new();
    for (option, default) in options_of_help() {
        if option == "--help" {
            continue;
        }
        let Some((line, cells)) = rows.get(&option) else {
            findings.push(Finding::new(&page, 1, format!("has no row for {option}")));
            continue;
        };
        let told = cells.get(1).map(|cell| cell.trim_matches('`'));
        if default.is_some() && told != default.as_deref() {
            let what = format!("{option} has the default {default:?} in the help, {told:?} here");
            findings.push(Finding::new(&page, *line, what));
        }
    }
    let remedy = "Each option has a row `| `--option VALUE` | `default` | range | meaning |`.";
    expect_none(&findings, remedy);
}

#[test]
fn every_row_describes_an_option_that_exists() {
    let page = Source::read(OPERATIONS);
    let options = options_of_help();
    let findings: Vec<Finding> = rows_of_page(&page)
        .iter()
        .filter(|(option, _)| !options.contains_key(*option))
        .map(|(option, (line, _))| Finding::new(&page, *line, format!("{option} is no option")))
        .collect();
    expect_none(&findings, "Take the row out, or name the option as the help does.");
}

#[test]
fn every_limit_is_an_option_with_a_row() {
    let limits = Source::read("src/base/limits.rs");
    let page = Source::read(OPERATIONS);
    let (options, rows) = (options_of_help(), rows_of_page(&page));
    let mut findings = Vec::new();
    let mut described = String::new();
    let fields = limits
        .lines()
        .skip_while(|(_, line)| !line.starts_with("pub struct Limits {"))
        .take_while(|(_, line)| *line != "}");
    for (number, line) in fields {
        let line = line.trim();
        if let Some(more) = line.strip_prefix("///") {
            described.push_str(more);
        } else if line.starts_with("pub ") && line.ends_with(',') {
            let option = described.split("`").find(|word| word.starts_with("--"));
            let what = match option {
                None => Some(format!("{line} names no option in its description")),
                Some(option) if !options.contains_key(option) => {
                    Some(format!("{option} is no option of `corebeat serve`"))
                }
                Some(option) if !rows.contains_key(option) => {
                    Some(format!("{option} has no row in {OPERATIONS}"))
                }
                Some(_) => None,
            };
            findings.extend(what.map(|what| Finding::new(&limits, number, what)));
            described.clear();
        }
    }
    expect_none(&findings, "Every bound is an option that an operator can look up.");
}

#[test]
fn every_counter_is_explained() {
    let counters = Source::read("src/base/counters.rs");
    let page = Source::read(OPERATIONS);
    let mut findings = Vec::new();
    let declared = counters
        .lines()
        .skip_while(|(_, line)| *line != "counters! {")
        .skip(1)
        .take_while(|(_, line)| *line != "}");
    for (number, line) in declared {
        let name = line.trim().trim_end_matches(',');
        if !name.starts_with("///") && !page.text.contains(&format!("| `{name}` |")) {
            findings.push(Finding::new(&counters, number, format!("{name} is not explained")));
        }
    }
    for reason in CloseReason::ALL {
        let name = format!("closed_{}", reason.name());
        if !page.text.contains(&format!("| `{name}` |")) {
            findings.push(Finding::new(&counters, 1, format!("{name} is not explained")));
        }
    }
    expect_none(&findings, &format!("Each counter has a row in {OPERATIONS}."));
}

#[test]
fn every_file_of_the_server_is_on_the_map() {
    let page = Source::read(ARCHITECTURE);
    let (_, rest) = page.text.split_once("## Code map").expect("there is a map");
    let (map, _) = rest.split_once("\n## ").expect("something follows the map");
    let mut findings = Vec::new();
    for file in rust_files() {
        let Some((_, name)) = file.path.strip_prefix("src/").and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        // A folder's files that belong to one of them are found there.
        let name = name.trim_end_matches(".rs");
        if name != "mod" && !name.contains('/') && !map.contains(&format!("`{name}`")) {
            findings.push(Finding::new(&file, 1, format!("{name} is not on the map")));
        }
    }
    expect_none(&findings, &format!("Each file stands in the code map of {ARCHITECTURE}."));
}

#[test]
fn the_example_of_the_readme_is_the_file_that_is_tested() {
    let readme = Source::read("README.md");
    let example = Source::read(EXAMPLE);
    let (_, rest) = readme.text.split_once("```python\n").expect("README.md has a Python block");
    let (shown, _) = rest.split_once("```").expect("the block ends");
    assert_eq!(shown, example.text, "README.md must show {EXAMPLE} as it is: copy the file there");
    let lines = example.text.lines().count();
    assert!(lines < 30, "{EXAMPLE} has {lines} lines: fewer than 30 are promised");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut findings = Vec::new();
    for page in all_files().iter().filter(|file| file.has_extension("md")) {
        let folder = top().join(&page.path).parent().expect("a file is in a folder").to_owned();
        for (number, line) in page.lines() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let found = match file {
                    "" => anchors(&page.text).any(|known| known == anchor),
                    _ if file.starts_with("https://") => true,
                    _ => folder.join(file).exists(),
                };
                if !found {
                    findings.push(Finding::new(page, number, format!("leads to {target}")));
                }
            }
        }
    }
    expect_none(&findings, "Links lead to files of the repository, or to headings of the page.");
}

/// The anchors of a page's headings: lower case, words joined by hyphens.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}
