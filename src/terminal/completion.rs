//! What the tab key makes of half a word.
//!
//! Owns the choice among commands and names. Pure; the talk calls it.

use super::command::COMMANDS;

/// What can be done about the word before the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// There is no word.
    Nothing,
    /// Nothing that is known begins like it.
    None,
    /// Put this in the place of the last so many bytes.
    Text(usize, String),
    /// It could be any of these.
    Several(Vec<String>),
}

/// Completes the last word of `before` to a command, or to one of `names`.
pub fn complete<'a>(before: &str, names: impl Iterator<Item = &'a str>) -> Completion {
    let start = before
        .rfind(char::is_whitespace)
        .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    let word = &before[start..];
    if word.is_empty() {
        return Completion::Nothing;
    }
    let is_first = start == 0;
    let mut choices: Vec<String> = if is_first && word.starts_with('/') {
        let commands = COMMANDS.iter().filter_map(|(usage, _)| usage.split(' ').next());
        commands.map(|command| format!("{command} ")).collect()
    } else {
        // Whoever is addressed at the head of a line is addressed with a colon.
        let end = if is_first { ": " } else { " " };
        names.map(|name| format!("{name}{end}")).collect()
    };
    let lower = word.to_lowercase();
    choices.retain(|choice| choice.to_lowercase().starts_with(&lower));
    choices.sort();
    choices.dedup();
    match choices.as_slice() {
        [] => Completion::None,
        [only] => Completion::Text(word.len(), only.clone()),
        several => {
            let common = common_head(several);
            if common.len() > word.len() {
                Completion::Text(word.len(), common)
            } else {
                let trimmed = several.iter().map(|choice| choice.trim_end_matches([':', ' ']));
                Completion::Several(trimmed.map(str::to_owned).collect())
            }
        }
    }
}

fn common_head(choices: &[String]) -> String {
    let first = &choices[0];
    let fits = |end: usize| choices.iter().all(|choice| choice.starts_with(&first[..end]));
    let ends = first.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|&end| fits(end)).last().unwrap_or(0);
    first[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: &str) -> Completion {
        complete(before, ["anna", "Anton", "bob", "bob"].into_iter())
    }

    #[test]
    fn words_become_names_and_commands() {
        assert_eq!(of("b"), Completion::Text(1, "bob: ".into()));
        assert_eq!(of("ask B"), Completion::Text(1, "bob ".into()));
        assert_eq!(of("/hel"), Completion::Text(4, "/help ".into()));
        assert_eq!(of("a"), Completion::Several(vec!["Anton".into(), "anna".into()]));
        assert_eq!(of("/le"), Completion::Text(3, "/leave ".into()));
        assert_eq!(of("x"), Completion::None);
        assert_eq!(of("say "), Completion::Nothing);
        assert_eq!(of(""), Completion::Nothing);
    }
}
