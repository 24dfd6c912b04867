//! A text in all its readings: as it is, and with what programs did to it undone, one layer at a time.
//!
//! Engines pass a value through Go's `%q`, `fmt` without arguments, JSON and more before it comes back. Instead of
//! guessing every combination, one kind of escapes after the other is undone in every order, and a value is searched
//! for in each reading. Each character of a reading knows the bytes of the text that it stands for.

use std::collections::BTreeSet;

/// How many readings of a text are made at most. Two kinds of escapes, three times over in any order, make fewer.
const MOST_READINGS: usize = 64;

/// What stands for text that was left out.
const TRUNCATED: [&[char]; 2] = [&['…'], &['.', '.', '.']];

/// One character of a reading, and the bytes of the text that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Glyph {
    char: char,
    start: usize,
    end: usize,
}

/// Whether a character can be inside a word.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The readings of a value: what to search for.
pub(super) fn readings(value: &str) -> Vec<Vec<char>> {
    let mut readings = BTreeSet::new();
    let mut form = value.to_owned();
    // Managers pass a text through `fmt` at most twice.
    for _ in 0..3 {
        for level in Levels::of(&form).0 {
            readings.insert(level.into_iter().map(|glyph| glyph.char).collect::<Vec<char>>());
        }
        let next = without_directives(&form);
        if next == form {
            break;
        }
        form = next;
    }
    readings.into_iter().collect()
}

/// All readings of a text.
pub(super) struct Levels(Vec<Vec<Glyph>>);

impl Levels {
    pub(super) fn of(text: &str) -> Levels {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let first = text
            .char_indices()
            .map(|(start, char)| Glyph { char: plain(char), start, end: start + char.len_utf8() })
            .collect();
        let mut levels: Vec<Vec<Glyph>> = vec![first];
        let mut at = 0;
        while at < levels.len() && levels.len() < MOST_READINGS {
            for kind in [backslash, directive, percent, entity] {
                if let Some(next) = undo(&levels[at], kind)
                    && !levels.contains(&next)
                {
                    levels.push(next);
                }
            }
            at += 1;
        }
        Levels(levels)
    }

    /// Adds the ranges of bytes where a value stands as a whole word, its first `kept` characters aside; `shortest` is
    /// how much of a truncated value counts.
    pub(super) fn find(&self, value: &[char], kept: usize, shortest: usize, holes: &mut Vec<(usize, usize)>) {
        let Some((first, last)) = value.first().zip(value.last()) else { return };
        let (first, last) = (*first, *last);
        for level in &self.0 {
            let begins = |at: usize| !is_word(first) || at == 0 || !is_word(level[at - 1].char);
            let ends = |at: usize| !is_word(last) || at == level.len() || !is_word(level[at].char);
            for (at, glyph) in level.iter().enumerate() {
                if glyph.char == first && begins(at) {
                    let same = level[at..].iter().zip(value).take_while(|(glyph, c)| glyph.char == **c).count();
                    let end = at + same;
                    let whole = same == value.len() && ends(end);
                    let truncated = same >= shortest && same > kept && marks(&level[end..], true);
                    if whole || truncated {
                        holes.push((level[at + kept].start, level[end - 1].end));
                    }
                }
                if glyph.char == last && kept == 0 && ends(at + 1) {
                    let same = level[..=at].iter().rev().zip(value.iter().rev());
                    let same = same.take_while(|(glyph, c)| glyph.char == **c).count();
                    let start = at + 1 - same;
                    if same >= shortest && marks(&level[..start], false) {
                        holes.push((level[start].start, level[at].end));
                    }
                }
            }
        }
    }
}

/// Whether a mark of truncation stands at the beginning, or at the end, of this.
fn marks(around: &[Glyph], beginning: bool) -> bool {
    TRUNCATED.iter().any(|mark| {
        let Some(start) = (if beginning { Some(0) } else { around.len().checked_sub(mark.len()) }) else {
            return false;
        };
        around.get(start..start + mark.len()).is_some_and(|found| found.iter().map(|glyph| &glyph.char).eq(*mark))
    })
}

/// Undoes one kind of escapes once; none when there is nothing to undo.
fn undo(text: &[Glyph], kind: fn(&[Glyph]) -> Undone) -> Option<Vec<Glyph>> {
    let mut next = Vec::with_capacity(text.len());
    let mut at = 0;
    let mut changed = false;
    while at < text.len() {
        match kind(&text[at..]) {
            Some((chars, taken)) => {
                let (start, end) = (text[at].start, text[at + taken - 1].end);
                next.extend(chars.into_iter().map(|char| Glyph { char, start, end }));
                at += taken;
                changed = true;
            }
            None => {
                next.push(text[at]);
                at += 1;
            }
        }
    }
    changed.then_some(next)
}

/// What an escape means, and how many characters it takes.
type Undone = Option<(Vec<char>, usize)>;

/// Escapes of Go and JSON.
fn backslash(text: &[Glyph]) -> Undone {
    if text.first()?.char != '\\' {
        return None;
    }
    let one = |char: char, taken: usize| Some((vec![if char.is_control() { ' ' } else { char }], taken));
    let code = |digits: usize| number(text.get(2..2 + digits)?, 16);
    match text.get(1)?.char {
        c @ ('\\' | '"' | '\'' | '/' | '`') => one(c, 2),
        'n' | 'r' | 't' | 'a' | 'b' | 'f' | 'v' => one(' ', 2),
        'x' => one(char::from_u32(code(2)?)?, 4),
        'U' => one(char::from_u32(code(8)?)?, 10),
        'u' => {
            let high = code(4)?;
            if let Some(char) = char::from_u32(high) {
                return one(char, 6);
            }
            // JSON writes what is beyond 16 bits as two halves.
            let rest = text.get(6..12)?;
            let low = (rest[0].char == '\\' && rest[1].char == 'u').then(|| number(&rest[2..], 16))??;
            let both = char::decode_utf16([u16::try_from(high).ok()?, u16::try_from(low).ok()?]).next()?.ok()?;
            one(both, 12)
        }
        _ => None,
    }
}

/// What Go's `fmt` makes of directives without arguments: `%d` becomes `%!d(MISSING)`, a last `%` `%!(NOVERB)`.
fn directive(text: &[Glyph]) -> Undone {
    let says = |at: usize, words: &str| {
        text.get(at..).is_some_and(|rest| {
            rest.len() >= words.len() && rest.iter().zip(words.chars()).all(|(glyph, c)| glyph.char == c)
        })
    };
    if !says(0, "%!") {
        return None;
    }
    for (words, meaning) in [("(NOVERB)", vec!['%']), ("(BADWIDTH)", vec![]), ("(BADPREC)", vec![])] {
        if says(2, words) {
            return Some((meaning, 2 + words.len()));
        }
    }
    let verb = text.get(2)?.char;
    ["(MISSING)", "(BADINDEX)", "(NOVERB)"]
        .iter()
        .find(|words| says(3, words))
        .map(|words| (vec!['%', verb], 3 + words.len()))
}

/// `%C3%A4` of URLs.
fn percent(text: &[Glyph]) -> Undone {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [percent, digits @ ..] = rest
        && percent.char == '%'
        && let Some(byte) =
            digits.get(..2).and_then(|digits| number(digits, 16)).and_then(|code| u8::try_from(code).ok())
    {
        bytes.push(byte);
        rest = &digits[2..];
    }
    let chars: Vec<char> =
        std::str::from_utf8(&bytes).ok()?.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!chars.is_empty()).then_some((chars, bytes.len() * 3))
}

/// Entities of HTML.
fn entity(text: &[Glyph]) -> Undone {
    /// The longest that we know, `&#1114111;`.
    const LONGEST: usize = 10;
    if text.first()?.char != '&' {
        return None;
    }
    let end = text.iter().take(LONGEST).position(|glyph| glyph.char == ';')?;
    let name: String = text[1..end].iter().map(|glyph| glyph.char).collect();
    let char = match name.as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let code = name.strip_prefix('#')?;
            let code = match code.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => code.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((vec![if char.is_control() { ' ' } else { char }], end + 1))
}

fn number(digits: &[Glyph], radix: u32) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, glyph| number.checked_mul(radix)?.checked_add(glyph.char.to_digit(radix)?))
}

/// A value as `directive` gives it back after Go's `fmt`, which keeps the verb of a directive and drops its flags,
/// width and precision, and makes one `%` of two.
fn without_directives(value: &str) -> String {
    let mut clean = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        clean.push_str(before);
        clean.push('%');
        let flagged = after.trim_start_matches(['+', '-', '#', ' ', '0']);
        let sized = flagged.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '*' | '[' | ']'));
        let mut verb = sized.chars();
        match verb.next() {
            Some('%') | None => {}
            Some(verb) => clean.push(verb),
        }
        rest = verb.as_str();
    }
    clean.push_str(rest);
    clean
}
