//! The files of the repository, and what is said about them when a rule is broken.
//!
//! Owns how files are found and read, and the form of a finding. Knows no rule.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what this project wrote. What the tools write there has names of its own.
const FOLDERS: [&str; 6] = [".ci", "benches", "docs", "scripts", "src", "tests"];
/// Folders inside of them that hold no text, or text that nobody wrote by hand.
const SKIPPED: [&str; 5] = ["target", "corpus", "artifacts", "__pycache__", "node_modules"];
/// Files at the top that people write.
const TOP_FILES: [&str; 4] = ["CHANGELOG.md", "Cargo.toml", "README.md", "rustfmt.toml"];

/// A file of the repository.
pub(crate) struct Source {
    /// Its path from the top, with `/` between the parts.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl Source {
    /// The file at `path`, which must be there.
    pub(crate) fn read(path: &str) -> Source {
        let text = fs::read_to_string(top().join(path))
            .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"));
        Source { path: path.to_owned(), text }
    }

    /// Whether the path ends in `.extension`.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// The top of the repository.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that people write, in the order of their paths.
pub(crate) fn all_files() -> Vec<Source> {
    let mut paths: Vec<PathBuf> = TOP_FILES.iter().map(|file| top().join(file)).collect();
    for folder in FOLDERS {
        collect(&top().join(folder), &mut paths);
    }
    paths.sort();
    let relative = |path: PathBuf| {
        let parts: Vec<_> = path.strip_prefix(top()).expect("it is below the top").iter().collect();
        parts.iter().map(|part| part.to_str().expect("UTF-8")).collect::<Vec<_>>().join("/")
    };
    paths.into_iter().map(|path| Source::read(&relative(path))).collect()
}

/// Every Rust file of the repository.
pub(crate) fn rust_files() -> Vec<Source> {
    all_files().into_iter().filter(|file| file.has_extension("rs")).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        if SKIPPED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// A place where a rule is broken.
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// What is wrong at a line of a file.
    pub(crate) fn new(file: &Source, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: file.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Fails with every place where a rule is broken, and with what to do about it.
pub(crate) fn expect_none(findings: &[Finding], remedy: &str) {
    let list: String = findings.iter().map(|finding| format!("  {finding}\n")).collect();
    assert!(findings.is_empty(), "{} places:\n{list}{remedy}", findings.len());
}
