//! Lists of names of variables: `PRESS_*,LINE MQTT_URL`.

use super::Reader;
use super::values::invalid;
use super::variables::Found;
use super::{ConfigError, credentials};
use std::collections::BTreeSet;

/// What of the variables `${NAME}` in a manifest is not given, and what of it is shown nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableLimits {
    /// Credentials: no manifest may refer to them, whether they are set or not.
    pub withheld: BTreeSet<String>,
    /// Variables of the process's environment that `OFOP_MANIFEST_VARIABLES` does not list.
    pub unlisted: BTreeSet<String>,
    /// Those whose value is a secret wherever a manifest puts it.
    pub secret: BTreeSet<String>,
}

/// Names, in which `*` stands for any characters.
struct Patterns(Vec<String>);

impl Patterns {
    fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name))
    }
}

/// What is before the first `*` begins the name, what is behind the last ends it, the rest is there in order.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut name) = name.strip_prefix(first).and_then(|name| name.strip_suffix(last)) else { return false };
    middle.split('*').all(|part| match name.find(part) {
        Some(at) => {
            name = &name[at + part.len()..];
            true
        }
        None => false,
    })
}

impl Reader<'_> {
    pub(super) fn variable_limits(&self) -> Result<VariableLimits, ConfigError> {
        let variables = self.variables;
        let unlisted = match self.patterns("OFOP_MANIFEST_VARIABLES")? {
            Some(listed) => variables.of_process().filter(|name| !listed.matches(name)).map(str::to_owned).collect(),
            None => BTreeSet::new(),
        };
        let named = self.patterns("OFOP_SECRET_VARIABLES")?;
        let is_secret =
            |name: &str| credentials::is_marked(name) || named.as_ref().is_some_and(|named| named.matches(name));
        Ok(VariableLimits {
            withheld: variables.withheld(),
            unlisted,
            secret: variables.with_those_that_refer(is_secret),
        })
    }

    fn patterns(&self, name: &'static str) -> Result<Option<Patterns>, ConfigError> {
        let Some(Found { text, from }) = self.variable(name) else { return Ok(None) };
        let items = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty());
        let items: Vec<String> = items.map(str::to_owned).collect();
        let fits = |item: &String| item.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '*');
        match items.iter().find(|item| !fits(item)) {
            None => Ok(Some(Patterns(items))),
            Some(bad) => Err(invalid(
                from,
                format!("`{bad}` is no name of a variable"),
                "write names with commas between them, `*` for any characters, such as PRESS_*,LINE",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, fits) in [
            ("LINE", "LINE", true),
            ("LINE", "LINES", false),
            ("LINE", "line", false),
            ("*", "LINE", true),
            ("PRESS_*", "PRESS_", true),
            ("PRESS_*", "PRESS_7", true),
            ("PRESS_*", "XPRESS_7", false),
            ("*_KEY", "API_KEY", true),
            ("*_KEY", "API_KEYS", false),
            ("A*B*C", "AxBxC", true),
            ("A*B*C", "ABC", true),
            ("A*B*C", "ACB", false),
            ("A*A", "A", false),
            ("*B*B*", "aBcBd", true),
            ("*B*B*", "aBcd", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
