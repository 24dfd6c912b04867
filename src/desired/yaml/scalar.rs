//! What a plain scalar is in YAML 1.1, by the patterns of PyYAML's resolver.
//!
//! They are narrower than they look: `1e3`, `0o17`, `08`, `-.5` and `1_000.5e3` are texts, `010` is eight,
//! `1:30` is ninety, and `y` is a text although `yes` is true.

use super::Data;
use crate::desired::python;

/// What tags of the YAML 1.1 core begin with.
pub(super) const CORE: &str = "tag:yaml.org,2002:";

/// Decides what a plain scalar without a tag is.
///
/// # Errors
/// Says why PyYAML cannot read it: no such day, digits missing, `=` or `<<` as a value.
pub(super) fn resolve(text: String) -> Result<Data, String> {
    let Some(first) = text.bytes().next() else { return Ok(Data::Null) };
    match first {
        b'~' | b'n' | b'N' | b'y' | b'Y' | b't' | b'T' | b'f' | b'F' | b'o' | b'O' => {
            if let Some(value) = boolean(&text) {
                return Ok(Data::Bool(value));
            }
            Ok(if is_null(&text) { Data::Null } else { Data::Text(text) })
        }
        b'-' | b'+' | b'.' | b'0'..=b'9' => {
            if is_float(&text) {
                return Ok(Data::Float(float(&text)));
            }
            if is_int(&text) {
                return int(&text);
            }
            if is_timestamp(&text) { timestamp(text) } else { Ok(Data::Text(text)) }
        }
        b'=' if text == "=" => Err("a plain `=` is not a value in YAML 1.1".into()),
        b'<' if text == "<<" => Err("a plain `<<` is not a value in YAML 1.1".into()),
        _ => Ok(Data::Text(text)),
    }
}

/// Reads a scalar that carries a tag.
///
/// # Errors
/// Says why it cannot be that, or that the tag is not one that we take.
pub(super) fn tagged(text: String, tag: &str) -> Result<Data, String> {
    let Some(what) = tag.strip_prefix(CORE) else {
        return Err(format!("the tag `{}` is not known", tag.escape_debug()));
    };
    let wrong = || format!("this is not what the tag `!!{what}` says");
    match what {
        "str" => Ok(Data::Text(text)),
        "null" => Ok(Data::Null),
        "bool" => boolean_any_case(&text).map(Data::Bool).ok_or_else(wrong),
        // A tag asks Python's `int()` and `float()`, which know more than the patterns of plain scalars.
        "int" if is_int(&text) => int(&text),
        "int" if !text.starts_with(['0', '-', '+']) => python::int(&text).map(Data::Int).ok_or_else(wrong),
        "float" if is_float(&text) => Ok(Data::Float(float(&text))),
        "float" => python::float(&text.replace('_', "")).map(Data::Float).ok_or_else(wrong),
        "timestamp" if is_timestamp(&text) => timestamp(text),
        "int" | "timestamp" => Err(wrong()),
        _ => Err(format!("the tag `!!{}` means nothing here", what.escape_debug())),
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "~" | "null" | "Null" | "NULL")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn boolean_any_case(text: &str) -> Option<bool> {
    boolean(&text.to_ascii_lowercase())
}

/// A cursor over ASCII bytes, for patterns.
struct Cursor<'t>(&'t [u8]);

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes one byte out of `set`.
    fn one(&mut self, set: impl Fn(u8) -> bool) -> bool {
        if self.peek().is_some_and(set) {
            self.0 = &self.0[1..];
            return true;
        }
        false
    }

    /// Takes as many bytes out of `set` as there are; says how many.
    fn many(&mut self, set: impl Fn(u8) -> bool) -> usize {
        let count = self.0.iter().take_while(|byte| set(**byte)).count();
        self.0 = &self.0[count..];
        count
    }

    fn word(&mut self, word: &str) -> bool {
        if let Some(rest) = self.0.strip_prefix(word.as_bytes()) {
            self.0 = rest;
            return true;
        }
        false
    }

    fn sign(&mut self) -> bool {
        self.one(|b| matches!(b, b'-' | b'+'))
    }

    fn done(&self) -> bool {
        self.0.is_empty()
    }

    /// `(:[0-5]?[0-9])+`
    fn sixties(&mut self) -> bool {
        let mut any = false;
        while self.one(|b| b == b':') {
            let digits = self.many(digit);
            if !(1..=2).contains(&digits) {
                return false;
            }
            any = true;
        }
        any
    }

    /// `[eE][-+][0-9]+`, or nothing.
    fn exponent(&mut self) -> bool {
        if !self.one(|b| matches!(b, b'e' | b'E')) {
            return true;
        }
        self.sign() && self.many(digit) > 0
    }
}

fn digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn digit_or_gap(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'_'
}

/// Whether every part behind a colon is below sixty.
fn sixties_in_range(text: &str) -> bool {
    text.split(':').skip(1).all(|part| {
        let whole = part.split('.').next().unwrap_or(part);
        whole.len() < 2 || whole.as_bytes()[0] <= b'5'
    })
}

fn is_float(text: &str) -> bool {
    let mut cursor = Cursor(text.as_bytes());
    let signed = cursor.sign();
    if cursor.one(|b| b == b'.') {
        let rest = std::str::from_utf8(cursor.0).unwrap_or_default();
        return matches!(rest, "inf" | "Inf" | "INF")
            || (!signed && matches!(rest, "nan" | "NaN" | "NAN"))
            || (!signed && cursor.one(digit) && {
                cursor.many(digit_or_gap);
                cursor.exponent() && cursor.done()
            });
    }
    if !cursor.one(digit) {
        return false;
    }
    cursor.many(digit_or_gap);
    let sixties = cursor.peek() == Some(b':') && cursor.sixties() && sixties_in_range(text);
    if !cursor.one(|b| b == b'.') {
        return false;
    }
    if sixties {
        cursor.many(digit_or_gap);
        return cursor.done();
    }
    cursor.many(digit_or_gap);
    !text.contains(':') && cursor.exponent() && cursor.done()
}

fn float(text: &str) -> f64 {
    let text = text.replace('_', "").to_ascii_lowercase();
    let (sign, text) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text.as_str()),
    };
    let part = |part: &str| part.parse::<f64>().unwrap_or_default();
    match text {
        ".inf" => sign * f64::INFINITY,
        ".nan" => f64::NAN,
        _ if text.contains(':') => {
            // From the last part to the first, as PyYAML adds them up: floats do not commute with brackets.
            let (sum, _) =
                text.rsplit(':').fold((0.0, 1.0), |(sum, base), digits| (sum + part(digits) * base, base * 60.0));
            sign * sum
        }
        _ => sign * part(text),
    }
}

fn is_int(text: &str) -> bool {
    let mut cursor = Cursor(text.as_bytes());
    cursor.sign();
    if cursor.word("0b") {
        return cursor.many(|b| matches!(b, b'0' | b'1' | b'_')) > 0 && cursor.done();
    }
    if cursor.word("0x") {
        return cursor.many(|b| b.is_ascii_hexdigit() || b == b'_') > 0 && cursor.done();
    }
    if cursor.word("0") {
        cursor.many(|b| matches!(b, b'0'..=b'7' | b'_'));
        return cursor.done();
    }
    if !cursor.one(digit) {
        return false;
    }
    cursor.many(digit_or_gap);
    cursor.done() || (cursor.sixties() && cursor.done() && sixties_in_range(text))
}

fn int(text: &str) -> Result<Data, String> {
    let text = text.replace('_', "");
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text.as_str()),
    };
    let size = if let Some(digits) = digits.strip_prefix("0b") {
        from_digits(digits, 2)?
    } else if let Some(digits) = digits.strip_prefix("0x") {
        from_digits(digits, 16)?
    } else if digits.contains(':') {
        let part = |part: &str| part.parse::<f64>().unwrap_or_default();
        let near = digits.split(':').fold(0.0, |sum, digits| sum * 60.0 + part(digits));
        let exact = digits.split(':').try_fold(0_i128, |sum, part| {
            sum.checked_mul(60)?.checked_add(part.parse().ok()?).filter(|sum| *sum <= i128::from(i64::MAX) + 1)
        });
        Size { exact, near }
    } else if digits.starts_with('0') {
        from_digits(digits, 8)?
    } else {
        from_digits(digits, 10)?
    };
    let exact = size.exact.map(|value| if negative { -value } else { value });
    let near = if negative { -size.near } else { size.near };
    Ok(exact.and_then(|value| i64::try_from(value).ok()).map_or(Data::BigInt(near), Data::Int))
}

/// A whole number without its sign.
struct Size {
    /// None when it is too large.
    exact: Option<i128>,
    near: f64,
}

fn from_digits(digits: &str, radix: u32) -> Result<Size, String> {
    if digits.is_empty() {
        return Err("a number without digits".into());
    }
    let near = match radix {
        10 => digits.parse().unwrap_or(f64::INFINITY),
        _ => digits
            .chars()
            .filter_map(|c| c.to_digit(radix))
            .fold(0.0, |sum, digit| f64::from(radix).mul_add(sum, f64::from(digit))),
    };
    Ok(Size { exact: i128::from_str_radix(digits, radix).ok(), near })
}

/// The parts of a timestamp, as far as they are there.
struct Time {
    date: [u32; 3],
    /// Hour, minute, second, hours and minutes of the zone.
    rest: Option<[u32; 5]>,
}

fn is_timestamp(text: &str) -> bool {
    time_parts(text).is_some()
}

fn time_parts(text: &str) -> Option<Time> {
    let mut cursor = Cursor(text.as_bytes());
    let (year, n) = take_number(&mut cursor);
    let dash = cursor.one(|b| b == b'-');
    let (month, m) = take_number(&mut cursor);
    let dash = dash && cursor.one(|b| b == b'-');
    let (day, d) = take_number(&mut cursor);
    if n != 4 || !dash || !(1..=2).contains(&m) || !(1..=2).contains(&d) {
        return None;
    }
    let date = [year, month, day];
    if cursor.done() {
        return (m == 2 && d == 2).then_some(Time { date, rest: None });
    }
    let separated = cursor.one(|b| matches!(b, b'T' | b't')) || cursor.many(|b| matches!(b, b' ' | b'\t')) > 0;
    let (hour, h) = take_number(&mut cursor);
    let colon = cursor.one(|b| b == b':');
    let (minute, min) = take_number(&mut cursor);
    let colon = colon && cursor.one(|b| b == b':');
    let (second, s) = take_number(&mut cursor);
    if !separated || !colon || !(1..=2).contains(&h) || min != 2 || s != 2 {
        return None;
    }
    if cursor.one(|b| b == b'.') {
        cursor.many(digit);
    }
    cursor.many(|b| matches!(b, b' ' | b'\t'));
    let mut zone = [0, 0];
    if !cursor.one(|b| b == b'Z') && cursor.sign() {
        let (hours, h) = take_number(&mut cursor);
        if !(1..=2).contains(&h) {
            return None;
        }
        zone[0] = hours;
        if cursor.one(|b| b == b':') {
            let (minutes, m) = take_number(&mut cursor);
            if m != 2 {
                return None;
            }
            zone[1] = minutes;
        }
    }
    cursor.done().then_some(Time { date, rest: Some([hour, minute, second, zone[0], zone[1]]) })
}

fn take_number(cursor: &mut Cursor<'_>) -> (u32, usize) {
    let mut value = 0_u32;
    let mut count = 0;
    while let Some(byte) = cursor.peek().filter(|byte| digit(*byte)) {
        cursor.one(digit);
        value = value.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
        count += 1;
    }
    (value, count)
}

/// Refuses what looks like a date and is none, where PyYAML stops with an exception.
fn timestamp(text: String) -> Result<Data, String> {
    let Some(Time { date: [year, month, day], rest }) = time_parts(&text) else { return Ok(Data::Text(text)) };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let date = year > 0 && (1..=12).contains(&month) && (1..=days).contains(&day);
    let time = rest.is_none_or(|[hour, minute, second, zone, zone_minute]| {
        hour < 24 && minute < 60 && second < 60 && zone * 60 + zone_minute < 24 * 60
    });
    if date && time {
        Ok(Data::Timestamp(text))
    } else {
        Err("looks like a date or a time, but there is no such".into())
    }
}
