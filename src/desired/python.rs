//! What Python's texts and numbers do where Rust's do something else, since OpenFactory's own checks are
//! Python: white space has four characters more, and a digit is a digit in every script.

/// The zeros of all decimal digits (Unicode 14, category Nd): each begins a row of ten.
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
    0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620,
    0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0,
    0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60,
    0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
];

/// Digits that no number is written with, such as `²` and `①`, from and to.
const OTHER_DIGITS: [(u32, u32); 20] = [
    (0xB2, 0xB3),
    (0xB9, 0xB9),
    (0x1369, 0x1371),
    (0x19DA, 0x19DA),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247C),
    (0x2488, 0x2490),
    (0x24EA, 0x24EA),
    (0x24F5, 0x24FD),
    (0x24FF, 0x24FF),
    (0x2776, 0x277E),
    (0x2780, 0x2788),
    (0x278A, 0x2792),
    (0x10A40, 0x10A43),
    (0x10E60, 0x10E68),
    (0x11052, 0x1105A),
    (0x1F100, 0x1F10A),
];

/// `str.isspace()`: Rust's white space and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The value of a decimal digit: what `\d` matches, and what numbers are written with.
fn decimal(c: char) -> Option<u32> {
    let c = u32::from(c);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= c)].last()?;
    (c - zero < 10).then_some(c - zero)
}

/// Whether `\d` matches.
pub(super) fn is_decimal(c: char) -> bool {
    decimal(c).is_some()
}

/// `str.isdigit()`: more than `\d`.
pub(super) fn is_digit(c: char) -> bool {
    let code = u32::from(c);
    is_decimal(c) || OTHER_DIGITS.iter().any(|(from, to)| (*from..=*to).contains(&code))
}

/// `float()` of a text.
pub(super) fn float(text: &str) -> Option<f64> {
    plain(text)?.parse().ok()
}

/// `int()` of a text, as far as it is small enough.
pub(super) fn int(text: &str) -> Option<i64> {
    plain(text)?.parse().ok()
}

/// A number without white space around it and without `_` between its digits, in ASCII.
fn plain(text: &str) -> Option<String> {
    let mut ascii = String::new();
    let mut before = None;
    let mut characters = strip(text).chars().peekable();
    while let Some(c) = characters.next() {
        match decimal(c).and_then(|digit| char::from_digit(digit, 10)) {
            Some(digit) => ascii.push(digit),
            None if c == '_' && before.is_some_and(is_decimal) && characters.peek().is_some_and(|c| is_decimal(*c)) => {
            }
            None if c.is_ascii() && c != '_' => ascii.push(c),
            None => return None,
        }
        before = Some(c);
    }
    Some(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\u{1f}\u{a0} a b\t\u{1c}\u{3000}"), "a b");
        assert_eq!(strip("\u{200b}a\u{feff}"), "\u{200b}a\u{feff}");
    }

    #[test]
    fn digits_are_those_of_every_script() {
        for c in ['0', '9', '٣', '௧', '１', '𝟘', '𝟿'] {
            assert!(is_decimal(c) && is_digit(c), "{c}");
        }
        for c in ['²', '①', '⓿', '𐩀'] {
            assert!(!is_decimal(c) && is_digit(c), "{c}");
        }
        for c in ['a', '/', ':', '½', 'Ⅳ', '௰', '一'] {
            assert!(!is_decimal(c) && !is_digit(c), "{c}");
        }
    }

    #[test]
    fn numbers_are_read_as_pythons_int_and_float_read_them() {
        for (text, number) in [("5", 5), (" +5\u{1f}", 5), ("-1_000", -1000), ("٣", 3), ("１_２", 12), ("007", 7)] {
            assert_eq!(int(text), Some(number), "{text:?}");
        }
        for text in ["", "_1", "1_", "1__0", "1.0", "1e3", "0x10", "- 5", "½", "99999999999999999999"] {
            assert_eq!(int(text), None, "{text:?}");
        }
        for (text, number) in
            [("1e3", 1000.0), ("1_0.5", 10.5), (".5", 0.5), ("5.", 5.0), ("٣.٥", 3.5), (" 1e1_0 ", 1e10)]
        {
            assert_eq!(float(text), Some(number), "{text:?}");
        }
        assert_eq!(float("-Infinity"), Some(f64::NEG_INFINITY));
        for text in ["", "e", "1_.5", "1._5", "1,5", "0x10", "²"] {
            assert_eq!(float(text), None, "{text:?}");
        }
    }
}
