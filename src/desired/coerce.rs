//! What a text or number means where a boolean or a number is wanted: pydantic's lax mode, which OpenFactory
//! reads its files with.

/// The boolean that a text stands for, in any case and without white space around it.
pub(super) fn bool_of_text(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
        "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// Digits with single `_` between them.
fn without_gaps(text: &str) -> Option<String> {
    if text.starts_with('_') || text.ends_with('_') || text.contains("__") {
        return None;
    }
    Some(text.replace('_', ""))
}

/// What a text is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotInt {
    /// A whole number.
    Number,
    /// Small enough for 64 bits.
    Small,
}

/// The whole number that a text stands for: white space around it, a sign, `_` between digits and `.0` behind
/// them are taken.
pub(super) fn int_of_text(text: &str) -> Result<i64, NotInt> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let digits = match text.split_once('.') {
        Some((digits, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => digits,
        Some(_) => return Err(NotInt::Number),
        None => text,
    };
    let digits = without_gaps(digits).ok_or(NotInt::Number)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotInt::Number);
    }
    let signed = if negative { format!("-{digits}") } else { digits };
    signed.parse().map_err(|_| NotInt::Small)
}

/// The whole number that a float is.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn int_of_float(number: f64) -> Result<i64, NotInt> {
    // 2^63 is the first float that does not fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if !number.is_finite() || number.fract() != 0.0 {
        return Err(NotInt::Number);
    }
    if number.abs() >= LIMIT {
        return Err(NotInt::Small);
    }
    Ok(number as i64)
}

/// The float that a text stands for; `inf` and `nan` are floats too.
pub(super) fn float_of_text(text: &str) -> Option<f64> {
    without_gaps(text.trim())?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_whole_numbers_as_pydantic_takes_them() {
        for (text, number) in [
            ("7", 7),
            (" 7 ", 7),
            ("\t7\n", 7),
            ("\u{a0}7", 7),
            ("1_000", 1000),
            ("+5", 5),
            ("-5", -5),
            ("8080.0", 8080),
            ("10_0.00", 100),
            ("08", 8),
            ("00_7", 7),
            ("-0", 0),
        ] {
            assert_eq!(int_of_text(text), Ok(number), "{text:?}");
        }
        for text in ["", " ", "- 5", "+-5", "_1", "1_", "1__0", "8080.", "8080.5", "1.0_0", ".0", "0x10", "1e3", "１"]
        {
            assert_eq!(int_of_text(text), Err(NotInt::Number), "{text:?}");
        }
        assert_eq!(int_of_text("99999999999999999999"), Err(NotInt::Small));
    }

    #[test]
    fn floats_are_whole_numbers_only_without_a_fraction() {
        assert_eq!(int_of_float(8080.0), Ok(8080));
        assert_eq!(int_of_float(1.5), Err(NotInt::Number));
        assert_eq!(int_of_float(f64::INFINITY), Err(NotInt::Number));
        assert_eq!(int_of_float(1e20), Err(NotInt::Small));
    }

    #[test]
    fn texts_are_floats_as_pydantic_takes_them() {
        for (text, number) in [("1", 1.0), (" 1.5 ", 1.5), ("1_0.5", 10.5), (".5", 0.5), ("5.", 5.0), ("1e1_0", 1e10)] {
            assert_eq!(float_of_text(text), Some(number), "{text:?}");
        }
        assert_eq!(float_of_text("1e400"), Some(f64::INFINITY));
        assert_eq!(float_of_text("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(float_of_text("NaN").is_some_and(f64::is_nan));
        for text in ["", "1e", "0x10", "1,5", "_1.5", "1__0.5", "१"] {
            assert_eq!(float_of_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn texts_are_booleans_in_any_case_but_not_with_spaces() {
        for text in ["on", "ON", "y", "T", "yes", "1", "tRue"] {
            assert_eq!(bool_of_text(text), Some(true), "{text:?}");
        }
        for text in ["off", "N", "f", "no", "0", "False"] {
            assert_eq!(bool_of_text(text), Some(false), "{text:?}");
        }
        for text in [" on ", "1.0", "", "2", "ja"] {
            assert_eq!(bool_of_text(text), None, "{text:?}");
        }
    }
}
