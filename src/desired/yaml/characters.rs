//! What the text itself shows, character by character, before and beside its grammar.

use super::{MAX_BYTES, Span, YamlError};

/// The parser says that something is missing on a line behind the last one: that is at the end of the text.
pub(super) fn within(text: &str, error: YamlError) -> YamlError {
    let mut end = Place::START;
    with_next(text).for_each(|(c, next)| end.pass(c, next));
    if error.at.line > end.line { YamlError { at: end.span(), ..error } } else { error }
}

/// Refuses what YAML 1.1 does not allow in a stream, and the line breaks that only YAML 1.1 knows.
pub(super) fn check(text: &str) -> Result<(), Vec<YamlError>> {
    if text.len() > MAX_BYTES {
        return Err(vec![
            YamlError::new(Span::default(), format!("is larger than {} KiB", MAX_BYTES >> 10))
                .hint("split it into several files"),
        ]);
    }
    let mut place = Place::START;
    for (c, next) in with_next(text) {
        let problem = match c {
            '\t' | '\n' | '\r' | ' '..='~' => None,
            '\u{85}' | '\u{2028}' | '\u{2029}' => Some("is a line break to YAML 1.1; write it as an escape in quotes"),
            '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => None,
            '\0' => Some("must not stand in a text file; is this a binary file?"),
            _ => Some("is not allowed in YAML; write it as an escape in double quotes"),
        };
        if let Some(problem) = problem {
            return Err(vec![YamlError::new(place.span(), format!("the character U+{:04X} {problem}", u32::from(c)))]);
        }
        place.pass(c, next);
    }
    Ok(())
}

/// Every character with the one behind it.
pub(super) fn with_next(text: &str) -> impl Iterator<Item = (char, Option<char>)> {
    let behind = text.chars().skip(1).map(Some).chain([None]);
    text.chars().zip(behind)
}

/// A place in a text that is walked through. Lines end with `\n`, `\r\n` or `\r` alone, as in YAML.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    pub(super) const START: Place = Place { line: 1, column: 1 };

    pub(super) fn pass(&mut self, c: char, next: Option<char>) {
        if c == '\n' || (c == '\r' && next != Some('\n')) {
            *self = Place { line: self.line + 1, column: 1 };
        } else {
            self.column += 1;
        }
    }

    pub(super) fn span(self) -> Span {
        Span { line: self.line, column: self.column, width: 1 }
    }
}

/// The first tab outside of quoted texts, block texts and comments: YAML 1.1 allows none, whatever it indents.
pub(super) fn stray_tab(text: &str, texts: &[(usize, usize)]) -> Option<YamlError> {
    if !text.contains('\t') {
        return None;
    }
    let mut place = Place::START;
    let mut comment = false;
    let mut blank = true;
    let mut upcoming = 0;
    for (index, (c, next)) in with_next(text).enumerate() {
        while texts.get(upcoming).is_some_and(|(_, end)| *end <= index) {
            upcoming += 1;
        }
        let quoted = texts.get(upcoming).is_some_and(|(start, _)| *start <= index);
        match c {
            '\n' | '\r' => comment = false,
            '#' if blank && !quoted => comment = true,
            '\t' if !quoted && !comment => {
                let hint = "indent and separate with spaces; a tab in a text needs quotes";
                return Some(YamlError::new(place.span(), "holds a tab").hint(hint));
            }
            _ => {}
        }
        blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        place.pass(c, next);
    }
    None
}
