//! The API's tokens: one for all, or one with a name and a role for each person and program.

use std::collections::BTreeSet;

use super::Secret;
use crate::model::Role;
use crate::model::command::UNNAMED;

/// The API takes no shorter token: shorter ones can be guessed.
const SHORTEST: usize = 16;

/// How many tokens a file may hold: each request is compared with all of them.
const MOST: usize = 256;

/// The longest name, in bytes: it is printed with every command.
const LONGEST_NAME: usize = 64;

/// A token of the API and the name of whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Who is meant: letters, digits and `.`, `_`, `-`, `@`, `+`.
    pub name: String,
    /// The token.
    pub secret: Secret,
    /// What it allows; everything where the file does not say.
    pub role: Role,
}

/// Reads tokens: a single one without a name, or lines `NAME TOKEN` or `NAME=TOKEN`, each with a role behind it or without
/// one; among lines with names, empty ones and those that begin with `#` are skipped.
///
/// # Errors
/// A sentence that names the line and shows nothing of any token.
pub(super) fn parse(text: &str) -> Result<Vec<ApiToken>, String> {
    let whole = text.trim();
    if !whole.contains('\n') && named(whole).is_none() {
        check(whole).map_err(|problem| format!("the token {problem}"))?;
        return Ok(vec![ApiToken { name: UNNAMED.to_owned(), secret: Secret::new(whole), role: Role::Confirm }]);
    }
    let mut tokens: Vec<ApiToken> = Vec::new();
    let (mut names, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, token)) = named(line) else {
            return Err(format!("line {number} is neither `NAME TOKEN` nor `NAME=TOKEN`"));
        };
        let (token, role) = with_role(token).ok_or_else(|| {
            let roles = Role::ALL.map(Role::as_str).join(", ");
            format!("what stands behind the token in line {number} is no role: {roles}")
        })?;
        check(token).map_err(|problem| format!("the token in line {number} {problem}"))?;
        if !names.insert(name) {
            return Err(format!("the name in line {number} is there twice"));
        }
        if !secrets.insert(token) {
            return Err(format!("the token in line {number} is there twice, so that it names nobody"));
        }
        tokens.push(ApiToken { name: name.to_owned(), secret: Secret::new(token), role });
    }
    match tokens.len() {
        0 => Err("there is no token in it".into()),
        1..=MOST => Ok(tokens),
        count => Err(format!("there are {count} tokens in it, more than {MOST}")),
    }
}

/// Name and token of a line. Base64 ends in `=`, which makes no name of what is before it.
fn named(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| c == '=' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let token = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    let is_name = (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits);
    (is_name && !token.is_empty() && token != "=").then_some((name, token))
}

/// A token and the role behind it; none where something else is there.
fn with_role(text: &str) -> Option<(&str, Role)> {
    match text.split_once(|c: char| c.is_ascii_whitespace()) {
        None => Some((text, Role::Confirm)),
        Some((token, role)) => Role::ALL.into_iter().find(|one| one.as_str() == role.trim()).map(|role| (token, role)),
    }
}

fn check(token: &str) -> Result<(), String> {
    if token.len() < SHORTEST {
        return Err(format!("has fewer than {SHORTEST} characters"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds white space or other characters that a header cannot carry".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(String, String)> {
        let tokens = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        tokens.into_iter().map(|token| (token.name, token.secret.expose().to_owned())).collect()
    }

    fn pair(name: &str, token: &str) -> (String, String) {
        (name.into(), token.into())
    }

    #[test]
    fn a_single_token_needs_no_name() {
        for token in ["0123456789abcdef", "VGhpcyBpcyBhIHRva2VuIQ==", "VGhpcyBpcyBhIHRva2Vu=", "#123456789abcdef"] {
            assert_eq!(names(token), [pair(UNNAMED, token)]);
            assert_eq!(names(&format!("{token}\n")), [pair(UNNAMED, token)]);
        }
    }

    #[test]
    fn lines_name_who_holds_a_token() {
        let text = "# shift leaders\n\nanna 0123456789abcdef\r\nci=VGhpcyBpcyBhIHRva2VuIQ==\n  bo = abcdef0123456789\n";
        let all =
            [pair("anna", "0123456789abcdef"), pair("ci", "VGhpcyBpcyBhIHRva2VuIQ=="), pair("bo", "abcdef0123456789")];
        assert_eq!(names(text), all);
        assert_eq!(names("anna\t0123456789abcdef"), all[..1]);
        assert_eq!(names("anna=0123456789abcdef"), all[..1]);
    }

    #[test]
    fn a_role_behind_a_token_limits_it() {
        let text = "bo 0123456789abcdef\nscreen=VGhpcyBpcyBhIHRva2VuIQ==  read\nshift\tabcdef0123456789 operate \n\
                    chief fedcba9876543210 confirm\n";
        let roles: Vec<_> = parse(text).unwrap().into_iter().map(|token| (token.name, token.role)).collect();
        let all = [("bo", Role::Confirm), ("screen", Role::Read), ("shift", Role::Operate), ("chief", Role::Confirm)];
        assert_eq!(roles, all.map(|(name, role)| (name.to_owned(), role)));
    }

    #[test]
    fn what_names_nobody_for_certain_is_refused_without_showing_a_token() {
        let many: String = (0..=MOST).map(|n| format!("n{n} sentinel-{n:010}\n")).collect();
        for (text, problem) in [
            ("", "fewer than 16"),
            ("sentinel", "fewer than 16"),
            ("two sentinel", "fewer than 16"),
            ("two sentinel words and more", "no role"),
            ("anna sentinel-0123456 admin", "no role"),
            ("anna sentinel-0123456 read confirm", "no role"),
            ("sentinel-0123456 read", "fewer than 16"),
            ("sentinel-0123456\nsentinel-6543210", "line 1 is neither"),
            ("anna sentinel-0123456\nsentinel-6543210", "line 2 is neither"),
            ("anna sentinel-0123456\nanna sentinel-6543210", "the name in line 2"),
            ("anna sentinel-0123456\nbo sentinel-0123456", "the token in line 2"),
            ("a/b sentinel-0123456\nbo sentinel-0123456", "line 1 is neither"),
            ("# only\n# words", "no token"),
            ("anna sentinel-\u{e4}0123456", "a header"),
            (many.as_str(), "more than 256"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem) && !error.contains("sentinel"), "{text:?}: {error}");
        }
    }
}
