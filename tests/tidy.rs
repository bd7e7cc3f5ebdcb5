//! The house rules, held by a test: layers, bans, lengths, words, and that the pages say what the
//! program does. A rule that is broken names the place and the remedy.

#[path = "tidy/rust.rs"]
mod rust;
#[path = "tidy/source.rs"]
mod source;

#[path = "tidy/pages.rs"]
mod pages;

use rust::{code_of, functions, has_word, lines_without_tests, names_behind};
use source::{Finding, Source, all_files, expect_none, rust_files};

/// The layers, each with its place: a folder of `src` uses only those of an earlier place, and
/// itself. Two of the same place do not know each other.
const LAYERS: [(&str, u8); 12] = [
    ("base", 0),
    ("wire", 1),
    ("web", 2),
    ("chat", 2),
    ("store", 3),
    ("cluster", 3),
    ("net", 4),
    ("engine", 5),
    ("client", 6),
    ("load", 7),
    ("terminal", 7),
    ("cli", 8),
];

/// Folders that decide, and hence know no machine.
const PURE_FOLDERS: [&str; 3] = ["src/base/", "src/wire/", "src/chat/"];
/// Files elsewhere that hold to the same rule, because a plan must follow from its seed alone, a
/// verdict from what was heard, and a client's promises from bytes and time.
const PURE_FILES: [&str; 27] = [
    "src/client/asking.rs",
    "src/client/backoff.rs",
    "src/client/config.rs",
    "src/client/core.rs",
    "src/client/event.rs",
    "src/client/hearing.rs",
    "src/client/membership.rs",
    "src/client/pulse.rs",
    "src/client/requests.rs",
    "src/client/seen.rs",
    "src/load/agenda.rs",
    "src/load/body.rs",
    "src/load/config.rs",
    "src/load/ledger.rs",
    "src/load/peer.rs",
    "src/load/plan.rs",
    "src/load/speech.rs",
    "src/load/violation.rs",
    "src/terminal/command.rs",
    "src/terminal/completion.rs",
    "src/terminal/conversation.rs",
    "src/terminal/drawing.rs",
    "src/terminal/editor.rs",
    "src/terminal/keys.rs",
    "src/terminal/paint.rs",
    "src/terminal/talk.rs",
    "src/terminal/talk/hearing.rs",
];
/// The one file of a pure folder that reads the time.
const CLOCK: &str = "src/base/clock.rs";

/// What a pure folder never names.
const IMPURE: [&str; 27] = [
    "std::{",
    "std::net",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
    "mpsc",
    "Mutex",
    "RwLock",
    "thread_local!",
    "mio",
    "socket2",
    "rustix",
    "signal_hook",
    "core_affinity",
    "crossbeam_channel",
    "crossbeam_utils",
    "log::",
    "env_logger",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "Rng::new",
    "getrandom",
];

/// Where `unsafe` may stand in the server and its tests. The benches do what the server does not:
/// they count allocations, and measure bare calls. Clippy wants a proof beside each.
const UNSAFE_FILE: &str = "src/net/kernel.rs";

/// Lines of a file, its unit tests not counted.
const FILE_LINES: usize = 550;
/// Lines of a function.
const FUNCTION_LINES: usize = 60;
/// Characters of a line.
const COLUMNS: usize = 100;

#[test]
fn a_layer_uses_only_those_below_it() {
    let place = |name: &str| LAYERS.iter().find(|layer| layer.0 == name).map(|layer| layer.1);
    let mut findings = Vec::new();
    for file in rust_files() {
        let Some((folder, _)) =
            file.path.strip_prefix("src/").and_then(|path| path.split_once('/'))
        else {
            continue;
        };
        let Some(own) = place(folder) else {
            findings.push(Finding::new(&file, 1, format!("src/{folder} is no layer")));
            continue;
        };
        let code = code_of(&file.text);
        let before_tests: Vec<&str> = code.lines().take(lines_without_tests(&code)).collect();
        for (number, _) in
            (1..).zip(before_tests).filter(|(_, line)| line.contains("super::super::"))
        {
            findings.push(Finding::new(&file, number, "climbs by super::super"));
        }
        for (line, name) in names_behind(&code, "crate::") {
            match place(&name) {
                Some(other) if name == folder || other < own => {}
                Some(_) => findings.push(Finding::new(&file, line, format!("uses {name}"))),
                None => findings.push(Finding::new(&file, line, format!("{name} is no layer"))),
            }
        }
    }
    let order = LAYERS.map(|layer| layer.0).join(", ");
    let remedy = format!("By crate:: a folder uses only those before it: {order}.");
    expect_none(&findings, &remedy);
}

#[test]
fn a_pure_folder_knows_no_machine() {
    let pure = |file: &Source| {
        let in_folder = PURE_FOLDERS.iter().any(|folder| file.path.starts_with(folder));
        in_folder || PURE_FILES.contains(&file.path.as_str())
    };
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(|file| pure(file) && file.path != CLOCK) {
        let code = code_of(&file.text);
        for (number, line) in (1..).zip(code.lines()) {
            for word in IMPURE.iter().filter(|word| has_word(line, word)) {
                findings.push(Finding::new(file, number, format!("names {word}")));
            }
        }
        for (number, name) in names_behind(&code, "fastrand::") {
            if name.starts_with(char::is_lowercase) {
                findings.push(Finding::new(file, number, format!("draws fastrand::{name}")));
            }
        }
    }
    let remedy = "base, wire and chat are told the time, the bytes and the seed: take what you \
                  need as an argument, and let the shell in engine or net touch the machine. \
                  Import from one module of std a line.";
    expect_none(&findings, remedy);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    // The files of `tests` are tests from their first line to their last.
    for file in rust_files().iter().filter(|file| !file.path.starts_with("tests/")) {
        let lines = lines_without_tests(&code_of(&file.text));
        if lines > FILE_LINES {
            findings.push(Finding::new(file, lines, format!("{lines} lines without its tests")));
        }
    }
    let remedy =
        format!("A file is one noun, of at most {FILE_LINES} lines: find the second noun.");
    expect_none(&findings, &remedy);
}

#[test]
fn functions_fit_a_screen() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for function in functions(&code_of(&file.text)) {
            let lines = function.last + 1 - function.first;
            if lines > FUNCTION_LINES {
                let what = format!("fn {} has {lines} lines", function.name);
                findings.push(Finding::new(&file, function.first, what));
            }
        }
    }
    let remedy = format!("A function has at most {FUNCTION_LINES} lines: name a part of it.");
    expect_none(&findings, &remedy);
}

#[test]
fn lines_end_before_the_column_limit() {
    let mut findings = Vec::new();
    for file in all_files() {
        let judged = ["rs", "sh", "py", "toml", "js", "ts", "css", "html"];
        if !judged.iter().any(|extension| file.has_extension(extension)) {
            continue;
        }
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                findings.push(Finding::new(&file, number, format!("{columns} columns")));
            }
        }
    }
    expect_none(&findings, &format!("Break lines before column {COLUMNS}."));
}

#[test]
fn every_file_says_what_it_is() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let first = file.lines().find(|(_, line)| !line.is_empty() && !line.starts_with("#!["));
        if !first.is_some_and(|(_, line)| line.starts_with("//! ")) {
            findings.push(Finding::new(&file, 1, "no header"));
        }
    }
    let remedy = "Begin with //! and say what the file owns, what it never does and who calls it.";
    expect_none(&findings, remedy);
}

#[test]
fn unsafe_stands_in_one_file() {
    let judged = |file: &&Source| file.path != UNSAFE_FILE && !file.path.starts_with("benches/");
    let mut findings = Vec::new();
    for file in rust_files().iter().filter(judged) {
        for (number, line) in (1..).zip(code_of(&file.text).lines()) {
            if has_word(line, "unsafe") {
                findings.push(Finding::new(file, number, "unsafe"));
            }
        }
    }
    let remedy = format!("Only {UNSAFE_FILE} may: use a safe call of rustix or socket2.");
    expect_none(&findings, &remedy);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("unimplemented", "!"),
        concat!("to", "do!"),
        concat!("dbg", "!"),
        concat!("for", " now"),
    ];
    // In code, the last of them is the head of a loop over instants.
    let is_loop = |word: &str, line: &str| {
        word.contains(' ') && line.trim_start().starts_with(&format!("{word} in "))
    };
    let mut findings = Vec::new();
    for file in all_files() {
        for (number, line) in file.lines() {
            for word in words.iter().filter(|word| has_word(line, word) && !is_loop(word, line)) {
                findings.push(Finding::new(&file, number, *word));
            }
        }
    }
    expect_none(&findings, "Do it, or say in full sentences what is absent and why.");
}

#[test]
fn no_async_runtime_is_a_dependency() {
    let manifest = Source::read("Cargo.toml");
    let mut section = String::new();
    let mut findings = Vec::new();
    for (number, line) in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
        }
        let of_server = section.contains("dependencies") && !section.contains("dev-dependencies");
        if of_server && (line.starts_with("tokio") || section.contains("dependencies.tokio")) {
            findings.push(Finding::new(&manifest, number, "tokio"));
        }
    }
    expect_none(&findings, "The server stands on mio; tokio belongs to [dev-dependencies] alone.");
}
