//! Just enough of Rust's grammar to judge a file by.
//!
//! Owns which characters of a file are code, where its tests begin and where functions end. Never
//! resolves a name: the rules look for words.

/// A file with comments and the insides of literals blanked out. Lines and columns stay where they
/// were, so that a place found here is the place in the file.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, is_code) = next_piece(rest, first, code.chars().next_back());
        let (piece, tail) = rest.split_at(length);
        if is_code {
            code.push_str(piece);
        } else {
            code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    code
}

/// The length of the next comment, literal or character, and whether it is code.
fn next_piece(rest: &str, first: char, before: Option<char>) -> (usize, bool) {
    let in_word = before.is_some_and(is_word);
    match first {
        '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
        '/' if rest.starts_with("/*") => (block_comment(rest), false),
        '"' => (quoted(rest), false),
        'r' if !in_word && raw_string(rest).is_some() => (raw_string(rest).unwrap(), false),
        'b' if !in_word && rest[1..].starts_with(['"', '\'', 'r']) => (1, true),
        '\'' => match character(rest) {
            Some(length) => (length, false),
            None => (1, true),
        },
        other => (other.len_utf8(), true),
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            match rest[at..].chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return at,
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a raw string that begins here, if one does.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].len() - rest[1..].trim_start_matches('#').len();
    let inside = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

/// The length of a character literal that begins here; none where it is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut inside = rest[1..].chars();
    let first = inside.next()?;
    if first == '\\' {
        // The escaped character may itself be a quote.
        return rest[3..].find('\'').map(|at| at + 4);
    }
    (inside.next()? == '\'').then(|| 1 + first.len_utf8() + 1)
}

/// Whether a character can be part of a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `pattern` stands in `line` with no letter of another name before or behind it.
///
/// Where the pattern itself begins or ends with another character, that side is not looked at.
pub(crate) fn has_word(line: &str, pattern: &str) -> bool {
    let begins_word = pattern.starts_with(is_word);
    let ends_word = pattern.ends_with(is_word);
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let behind = line[at + pattern.len()..].chars().next();
        let goes_on =
            begins_word && before.is_some_and(is_word) || ends_word && behind.is_some_and(is_word);
        !goes_on
    })
}

/// How many lines stand before the unit tests at the end of a file.
pub(crate) fn lines_without_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let tests = lines.iter().position(|line| line.starts_with("mod tests {"));
    let end = match tests {
        Some(at) if at > 0 && lines[at - 1].starts_with("#[cfg(test)]") => at - 1,
        Some(at) => at,
        None => lines.len(),
    };
    lines[..end].iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1)
}

/// A function: its name, and the lines on which it begins and ends.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`.
    pub(crate) first: usize,
    /// The line of its closing brace.
    pub(crate) last: usize,
}

/// All functions with a body, those inside of others too.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let starts = code.match_indices("fn ").filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        !before.is_some_and(is_word)
    });
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    starts
        .filter_map(|(at, _)| {
            let name: String = code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
            let (_, end) = body(&code[at..])?;
            let (first, last) = (line_of(at), line_of(at + end));
            (!name.is_empty()).then_some(Function { name, first, last })
        })
        .collect()
}

/// Where the body of the function that begins here starts and ends; none where it has none.
fn body(code: &str) -> Option<(usize, usize)> {
    let mut nested = 0;
    let mut start = None;
    for (at, c) in code.char_indices() {
        match c {
            ';' if nested == 0 => return None,
            '(' | '[' => nested += 1,
            ')' | ']' => nested -= 1,
            '{' => {
                start.get_or_insert(at);
                nested += 1;
            }
            '}' => {
                nested -= 1;
                if nested == 0
                    && let Some(start) = start
                {
                    return Some((start, at));
                }
            }
            _ => {}
        }
    }
    None
}

/// The names that follow `prefix` in paths: of `crate::a::b` and `crate::{a::b, c}` with the prefix
/// `crate::`, the names `a`, and `a` and `c`; each with the line on which it stands.
pub(crate) fn names_behind(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if prefix.starts_with(is_word) && code[..at].ends_with(is_word) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + prefix.len()..];
        let of = |text: &str| text.chars().take_while(|c| is_word(*c)).collect::<String>();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_members(group).map(|name| (line, of(name)))),
            None => names.push((line, of(rest))),
        }
    }
    names.retain(|(_, name)| !name.is_empty());
    names
}

/// The members of a group of imports whose opening brace has been read.
fn group_members(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let end = group.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth < 0
    });
    let mut depth = 0;
    group[..end.unwrap_or(group.len())]
        .split(move |c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .map(str::trim)
}

/// The scanner is tested here, since a rule that sees nothing passes for ever.
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"unsafe \\\" fn\"; // unsafe\nlet b = 'u'; /* a /* b */ c */ x<'u>";
        let code = code_of(text);
        assert_eq!(code.len(), text.len());
        assert!(!code.contains("unsafe") && !code.contains("fn"));
        assert!(code.contains("let b =") && code.contains("x<'u>"));
        assert!(!code_of("r#\"a \" unsafe\"# br\"unsafe\" b'\\''").contains("unsafe"));
        assert!(code_of("'{' '\\'' '\\u{7f}' }").trim() == "}");
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_brace() {
        let code = "trait T { fn none(a: [u8; 3]); }\nfn one(f: fn(u8)) {\n  if x { y }\n}\n";
        let found = functions(code);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].first, found[0].last), ("one", 2, 4));
    }

    #[test]
    fn words_are_found_whole() {
        assert!(has_word("use log::info;", "log::"));
        assert!(!has_word("use dialog::info;", "log::"));
        assert!(has_word("unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
    }

    #[test]
    fn every_imported_layer_is_seen() {
        let code = "use crate::a::b;\nuse crate::{c::{d, e}, f};\nlet x = mycrate::g;";
        let names = names_behind(code, "crate::");
        let names: Vec<(usize, &str)> = names.iter().map(|(at, n)| (*at, n.as_str())).collect();
        assert_eq!(names, [(1, "a"), (2, "c"), (2, "f")]);
    }

    #[test]
    fn a_file_is_as_long_as_what_stands_before_its_tests() {
        assert_eq!(lines_without_tests("a\nb\n\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("a\nb\n"), 2);
    }
}
