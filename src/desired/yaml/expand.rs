//! `${VAR}` and `${VAR:-default}`.
//!
//! OpenFactory replaces them in the text before it parses it, so a value takes part in the YAML: it can become
//! a number, end at ` #`, be unquoted, even be a list. To mean the same without letting a value rewrite the
//! file around it, the text is read twice: with every variable masked by a character that is never special,
//! and with the values put in. Where a variable stands in a scalar, the second reading says what that scalar
//! is, and as an item of a list, how many items it is; everywhere else both must be equal, or the file is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::characters::{Place, with_next};
use super::required::{self, Search};
use super::{Data, Entry, Node, Span, YamlError, key_text, number, push_index, push_key};

/// The first of the private characters that stand for variables while the structure is read.
const FIRST_MASK: u32 = 0xF_0000;
/// How many there are.
const MASKS: u32 = 0xFFFD;

/// What a text says.
#[derive(Debug, Default)]
pub struct Reading {
    /// The document; none when there is none.
    pub root: Option<Node>,
    /// What is odd about values that were put in.
    pub warnings: Vec<YamlError>,
    /// Variables that are not set, and that have no default.
    pub unset: Vec<Missing>,
    /// Variables that no manifest is given, and secrets where everybody would see them.
    pub refused: Vec<YamlError>,
    /// Values of secret variables that stand elsewhere than in an environment.
    pub secrets: Vec<String>,
    /// Values of secret variables in environments.
    pub environment_secrets: Vec<String>,
}

/// What is put in, and what is not.
#[derive(Debug, Clone, Copy)]
pub struct Given<'v> {
    /// What `${NAME}` stands for.
    pub variables: &'v BTreeMap<String, String>,
    /// Variables that no manifest is given: credentials.
    pub withheld: &'v BTreeSet<String>,
    /// Variables that no manifest is given, since a setting does not list them.
    pub unlisted: &'v BTreeSet<String>,
    /// Variables whose values are secrets wherever they land.
    pub secret: &'v BTreeSet<String>,
}

/// A variable in whose place nothing was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub at: Span,
    /// Keys and indices on the way there.
    pub path: String,
}

/// Why nothing is put in a variable's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// It has no value and no default.
    Unset,
    /// No manifest is given its value.
    Withheld,
    /// A setting lists what manifests are given, and it is not there.
    Unlisted,
}

/// Reads a text and puts variables in, all but those that are withheld. A default is no way around that: who writes it
/// expects the value.
///
/// # Errors
/// As [`super::read`], and when a value changes more than the scalar it stands in.
pub fn read(text: &str, given: Given<'_>) -> Result<Reading, Vec<YamlError>> {
    let variables = given.variables;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let found = if text.len() <= super::MAX_BYTES { find(text, given) } else { Vec::new() };
    let search = required::may_be_in(text);
    if found.is_empty() {
        let root = super::read(text)?;
        let warnings = match &root {
            Some(root) if search => Search::new(&|_| None, variables).run(root)?,
            Some(_) | None => Vec::new(),
        };
        return Ok(Reading { root, warnings, ..Reading::default() });
    }
    let masks = Masks::new(text, &found)?;
    let masked = super::read(&masks.text).map_err(|mut errors| {
        for error in &mut errors {
            error.at = masks.original(error.at);
            masks.unmask(&mut error.path);
            masks.unmask(&mut error.message);
        }
        errors
    })?;
    let mut warnings = Vec::new();
    if let (Some(masked), true) = (&masked, search) {
        let name = |c| masks.get(c).map(|mask| mask.name.as_str());
        let place = |mut error: YamlError| {
            error.at = masks.original(error.at);
            masks.unmask(&mut error.path);
            masks.unmask(&mut error.message);
            error
        };
        let found = Search::new(&name, variables).run(masked);
        warnings = found.map_err(|errors| errors.into_iter().map(place).collect::<Vec<_>>())?;
        warnings = warnings.into_iter().map(place).collect();
    }
    let filled = super::read(&masks.filled).map_err(|errors| masks.blame(&errors))?;
    let reading = Reading { warnings, ..Reading::default() };
    let mut joining = Joining { masks: &masks, given, reading, path: String::new(), part: Part::Other };
    match (masked, filled) {
        (None, None) => Ok(Reading::default()),
        (Some(masked), Some(filled)) => {
            let root = joining.join(masked, filled).map_err(|error| vec![error])?;
            Ok(Reading { root: Some(root), ..joining.reading })
        }
        (Some(node), None) | (None, Some(node)) => Err(vec![joining.changed(node.at)]),
    }
}

/// One `${…}` in a text.
struct Found<'t> {
    start: usize,
    end: usize,
    name: &'t str,
    value: &'t str,
    lack: Option<Lack>,
    secret: bool,
}

fn find<'t>(text: &'t str, given: Given<'t>) -> Vec<Found<'t>> {
    let Given { variables, withheld, unlisted, secret } = given;
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let inside = &text[start + 2..];
        from = start + 2;
        let name_end = inside.find(|c: char| c == '}' || c == ':' || c.is_whitespace()).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(name_end);
        let (default, length) = if rest.starts_with('}') {
            (None, 1)
        } else if let Some(default) = rest.strip_prefix(":-")
            && let Some(end) = default.find('}')
        {
            (Some(&default[..end]), 2 + end + 1)
        } else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let end = start + 2 + name_end + length;
        let value = variables.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default);
        let (value, lack) = match value {
            _ if withheld.contains(name) => ("", Some(Lack::Withheld)),
            _ if unlisted.contains(name) => ("", Some(Lack::Unlisted)),
            Some(value) => (value, None),
            // The author of `${NAME?message}` is told of it in another way.
            None => ("", (!name.contains('?')).then_some(Lack::Unset)),
        };
        // A default stands in the file, where everybody reads it.
        let secret = secret.contains(name) && variables.get(name).is_some_and(|known| known == value);
        found.push(Found { start, end, name, value, lack, secret });
        from = end;
    }
    found
}

/// A variable's place.
struct Mask {
    name: String,
    value: String,
    lack: Option<Lack>,
    /// Its value is a secret.
    secret: bool,
    /// Where it stands in the file.
    at: Span,
    /// Column of its mask in the masked text, from 1.
    column: u32,
    /// Its line in the text with values put in.
    filled_line: u32,
}

/// The two texts that are read, and the way back to the file.
struct Masks {
    text: String,
    filled: String,
    masks: Vec<Mask>,
}

impl Masks {
    fn new(text: &str, found: &[Found<'_>]) -> Result<Self, Vec<YamlError>> {
        let refuse = |message: &str| Err(vec![YamlError::new(Span::default(), message)]);
        if found.len() > MASKS as usize {
            return refuse("holds too many variables");
        }
        if text.chars().any(|c| mask_index(c).is_some()) {
            return refuse("holds characters for private use together with variables; write them as escapes");
        }
        let mut masks = Masks { text: String::new(), filled: String::new(), masks: Vec::new() };
        let (mut place, mut masked, mut filled_line) = (Place::START, Place::START, 1);
        let mut copied = 0;
        for (index, found) in found.iter().enumerate() {
            for (c, next) in with_next(&text[copied..found.start]) {
                let before = place.line;
                place.pass(c, next);
                masked.pass(c, next);
                filled_line += place.line - before;
            }
            masks.text.push_str(&text[copied..found.start]);
            masks.filled.push_str(&text[copied..found.start]);
            let source = &text[found.start..found.end];
            let at = Span { width: number(source.chars().count()), ..place.span() };
            if source.contains(['\n', '\r']) {
                return Err(vec![YamlError::new(at, "a variable's default must stand on one line")]);
            }
            masks.text.push(char::from_u32(FIRST_MASK + number(index)).unwrap_or(char::REPLACEMENT_CHARACTER));
            masks.filled.push_str(found.value);
            if masks.filled.len() > super::MAX_BYTES {
                return refuse("is larger than 1 MiB with the values of its variables put in");
            }
            masks.masks.push(Mask {
                name: found.name.to_owned(),
                value: found.value.to_owned(),
                lack: found.lack,
                secret: found.secret,
                at,
                column: masked.column,
                filled_line,
            });
            place.column += at.width;
            masked.column += 1;
            filled_line += number(found.value.matches('\n').count());
            copied = found.end;
        }
        masks.text.push_str(&text[copied..]);
        masks.filled.push_str(&text[copied..]);
        Ok(masks)
    }

    /// The place in the file of a place in the masked text.
    fn original(&self, at: Span) -> Span {
        let first = self.masks.partition_point(|mask| mask.at.line < at.line);
        let on_line = self.masks[first..].iter().take_while(|mask| mask.at.line == at.line);
        let (mut column, mut width) = (at.column, at.width);
        for mask in on_line {
            let grown = mask.at.width.saturating_sub(1);
            if mask.column < at.column {
                column += grown;
            } else if mask.column < at.column + at.width {
                width += grown;
            }
        }
        Span { line: at.line, column, width }
    }

    /// Writes variables instead of their masks.
    fn unmask(&self, text: &mut String) {
        if is_variable(text) {
            *text =
                text.chars().map(|c| self.get(c).map_or(c.to_string(), |mask| format!("${{{}}}", mask.name))).collect();
        }
    }

    fn get(&self, c: char) -> Option<&Mask> {
        self.masks.get(mask_index(c)?)
    }

    /// What to say of a text that is broken by the values put in, without quoting any of it.
    fn blame(&self, errors: &[YamlError]) -> Vec<YamlError> {
        let line = errors.first().map_or(0, |error| error.at.line);
        let after = self.masks.partition_point(|mask| mask.filled_line <= line);
        let Some(mask) = self.masks.get(after.saturating_sub(1)) else { return errors.to_vec() };
        let name = &mask.name;
        let (message, hint) = match mask.lack {
            Some(Lack::Unset) => {
                (format!("`{name}` is not set, and the file cannot be read without its value"), set_it(name))
            }
            Some(lack @ (Lack::Withheld | Lack::Unlisted)) => refusal(lack, name),
            None => (format!("with the value of `{name}` put in, the file cannot be read"), QUOTE_IT.to_owned()),
        };
        vec![YamlError::new(mask.at, message).hint(hint)]
    }
}

fn mask_index(c: char) -> Option<usize> {
    u32::from(c).checked_sub(FIRST_MASK).filter(|index| *index < MASKS).map(|index| index as usize)
}

/// What to do about a value that means something to YAML.
const QUOTE_IT: &str = "put quotes around the variable, or change its value";

/// What is wrong with a variable that no manifest is given, and what to do about it.
fn refusal(lack: Lack, name: &str) -> (String, String) {
    match lack {
        Lack::Unset => (format!("`{name}` is not set"), set_it(name)),
        Lack::Withheld => (
            format!("`{name}` is a credential, and no manifest is given it"),
            "set a variable of the app's own in .ofaenv, and write its name".to_owned(),
        ),
        Lack::Unlisted => (
            format!("`{name}` is not one of the variables that manifests are given"),
            format!("add `{name}` to OFOP_MANIFEST_VARIABLES, or set it in .ofaenv"),
        ),
    }
}

/// What to do about a variable that is not set.
pub fn set_it(name: &str) -> String {
    format!("set `{name}` in the environment or in .ofaenv, or give it a default: `${{{name}:-…}}`")
}

/// What a text is part of, as far as secrets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// An environment: values are hidden wherever they are printed.
    Environment,
    /// What something is called by: everybody sees it.
    Name,
    /// Anything else.
    Other,
}

struct Joining<'m> {
    masks: &'m Masks,
    given: Given<'m>,
    /// What was noticed so far; its root comes last.
    reading: Reading,
    /// Of what is being joined.
    path: String,
    part: Part,
}

impl Joining<'_> {
    /// The masked node where nothing stands in for it, the filled one where a variable does.
    fn join(&mut self, masked: Node, filled: Node) -> Result<Node, YamlError> {
        let at = self.masks.original(masked.at);
        let data = match (masked.data, filled.data) {
            (Data::Text(text), filled) if is_variable(&text) => {
                self.note_missing(&text);
                self.note_secrets(&text, &[&filled]);
                self.warn_if_read_differently(at, &text, &filled);
                let mut node = Node { at, data: filled, expanded: true };
                mark(&mut node, at);
                return Ok(node);
            }
            (Data::List(masked), Data::List(filled)) if masked.len() == filled.len() => {
                let items = masked.into_iter().zip(filled).enumerate().map(|(index, (masked, filled))| {
                    self.below(|path| push_index(path, index), |joining| joining.join(masked, filled))
                });
                Data::List(items.collect::<Result<_, _>>()?)
            }
            (Data::List(masked), Data::List(filled)) => Data::List(self.join_items(at, masked, filled)?),
            (Data::Map(masked), Data::Map(filled)) if masked.len() == filled.len() => {
                let mut entries = Vec::with_capacity(masked.len());
                for (masked, filled) in masked.into_iter().zip(filled) {
                    let part = self.part;
                    self.part = Part::Name;
                    let key = self.join(masked.key, filled.key)?;
                    let shown = key_text(&key.data);
                    self.part = match (shown.as_str(), &masked.value.data) {
                        ("environment", Data::List(_) | Data::Text(_)) => Part::Environment,
                        ("uuid", Data::Text(_)) => Part::Name,
                        _ => Part::Other,
                    };
                    let value =
                        self.below(|path| push_key(path, &shown), |joining| joining.join(masked.value, filled.value))?;
                    self.part = part;
                    entries.push(Entry { key, value });
                }
                Data::Map(entries)
            }
            (Data::Float(masked), Data::Float(filled)) if masked.to_bits() == filled.to_bits() => Data::Float(masked),
            (masked, filled) if masked == filled => masked,
            _ => return Err(self.changed(masked.at)),
        };
        Ok(Node { at, data, expanded: false })
    }

    /// The items of a list that the values made longer or shorter: `[a, ${VAR}]` with `b, c` or with nothing.
    /// What stands there without a variable must still stand there, in the same order.
    fn join_items(&mut self, at: Span, masked: Vec<Node>, filled: Vec<Node>) -> Result<Vec<Node>, YamlError> {
        if filled.len() > masked.len() {
            let message = "a value that was put in makes several items of this list";
            self.reading.warnings.push(
                YamlError::new(at, message)
                    .hint("that is how OpenFactory reads it too; put quotes around the variable to keep it one"),
            );
        }
        let mut items = Vec::with_capacity(filled.len());
        let variables: String = masked
            .iter()
            .filter_map(|item| match &item.data {
                Data::Text(text) if is_variable(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let written = |item: &&Node| masked.iter().any(|masked| masked.data == item.data);
        let put_in: Vec<&Data> = filled.iter().filter(|item| !written(item)).map(|item| &item.data).collect();
        self.note_secrets(&variables, &put_in);
        let mut filled = filled.into_iter();
        // Where the variable stands that the next items may come from.
        let mut variable = None;
        for masked in masked {
            if let Data::Text(text) = &masked.data
                && is_variable(text)
            {
                self.note_missing(text);
                variable = Some(self.masks.original(masked.at));
                continue;
            }
            loop {
                let Some(mut next) = filled.next() else { return Err(self.changed(masked.at)) };
                if alike(&masked.data, &next.data) {
                    items.push(self.join(masked, next)?);
                    break;
                }
                let Some(at) = variable else { return Err(self.changed(masked.at)) };
                mark(&mut next, at);
                items.push(next);
            }
            variable = None;
        }
        for mut next in filled {
            let Some(at) = variable else { return Err(self.changed(at)) };
            mark(&mut next, at);
            items.push(next);
        }
        Ok(items)
    }

    fn changed(&self, at: Span) -> YamlError {
        let before = self.masks.masks.partition_point(|mask| mask.at.line <= at.line);
        let mask = self.masks.masks.get(before.saturating_sub(1));
        let name = mask.map_or("…", |mask| mask.name.as_str());
        let at = mask.map_or(at, |mask| mask.at);
        let (message, hint) = match mask.and_then(|mask| mask.lack) {
            Some(Lack::Unset) => {
                let message = "is not set, and without its value the file around it means something else";
                (format!("`{name}` {message}"), set_it(name))
            }
            Some(lack @ (Lack::Withheld | Lack::Unlisted)) => refusal(lack, name),
            None => (format!("the value of `{name}` changes the structure of the file around it"), QUOTE_IT.to_owned()),
        };
        YamlError::new(at, message).hint(hint)
    }

    /// Runs something one step further down.
    fn below<T>(&mut self, push: impl FnOnce(&mut String), run: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        push(&mut self.path);
        let result = run(self);
        self.path.truncate(length);
        result
    }

    /// Notes in the place of which variables in a text nothing was put.
    fn note_missing(&mut self, text: &str) {
        for mask in text.chars().filter_map(|c| self.masks.get(c)) {
            let (name, at, path) = (mask.name.clone(), mask.at, self.path.clone());
            match mask.lack {
                Some(Lack::Unset) => self.reading.unset.push(Missing { name, at, path }),
                Some(lack @ (Lack::Withheld | Lack::Unlisted)) => {
                    let (message, hint) = refusal(lack, &name);
                    self.reading.refused.push(YamlError { at, path, message, hint: Some(hint) });
                }
                None => {}
            }
        }
    }

    /// Notes the secrets among the variables in a text, which became `filled`.
    fn note_secrets(&mut self, text: &str, filled: &[&Data]) {
        let masks = self.masks;
        let secret: Vec<&Mask> = text.chars().filter_map(|c| masks.get(c)).filter(|mask| mask.secret).collect();
        let Some(first) = secret.first() else { return };
        let mut scalars = Vec::new();
        filled.iter().for_each(|data| collect_scalars(data, &mut scalars));
        if self.part == Part::Name || scalars.iter().any(|data| !matches!(data, Data::Text(_) | Data::Null)) {
            self.reading.refused.push(YamlError {
                at: first.at,
                path: self.path.clone(),
                message: format!("`{}` is a secret, and this is shown everywhere", first.name),
                hint: Some(
                    "give the variable another name, or take it out of OFOP_SECRET_VARIABLES, if it is none".into(),
                ),
            });
        }
        // A name in front of the value is shown.
        let named = text.find('=').map_or("", |at| &text[..at]);
        let in_name = |mask: &Mask| named.chars().any(|c| masks.get(c).is_some_and(|other| other.at == mask.at));
        for mask in secret {
            let environment = self.part == Part::Environment && !in_name(mask);
            let list = if environment { &mut self.reading.environment_secrets } else { &mut self.reading.secrets };
            list.push(mask.value.clone());
            // Another variable may have brought it along.
            let inside =
                |name: &&String| self.given.variables.get(*name).filter(|value| mask.value.contains(value.as_str()));
            list.extend(self.given.secret.iter().filter_map(|name| inside(&name)).cloned());
            // YAML may have made something else of it.
            list.extend(scalars.iter().filter_map(|data| match data {
                Data::Text(text) if !text.contains(mask.value.trim()) => Some(text.clone()),
                _ => None,
            }));
        }
    }

    fn warn_if_read_differently(&mut self, at: Span, text: &str, filled: &Data) {
        let mut written = String::new();
        let mut name = "";
        for c in text.chars() {
            match self.masks.get(c) {
                Some(mask) => {
                    written.push_str(&mask.value);
                    name = &mask.name;
                }
                None => written.push(c),
            }
        }
        let different = match filled {
            Data::Text(read) => read.trim() != written.trim(),
            Data::Null => written.trim().starts_with('#'),
            Data::List(_) | Data::Map(_) => true,
            Data::Bool(_) | Data::Int(_) | Data::BigInt(_) | Data::Float(_) | Data::Timestamp(_) => false,
        };
        if different {
            self.reading.warnings.push(
                YamlError::new(
                    at,
                    format!(
                        "the value of `{name}` holds characters that mean something to YAML and is not taken literally"
                    ),
                )
                .hint("that is how OpenFactory reads it too; use other quotes around the variable, or another value"),
            );
        }
    }
}

/// All of a tree but its lists and maps, keys included.
fn collect_scalars<'d>(data: &'d Data, scalars: &mut Vec<&'d Data>) {
    match data {
        Data::List(items) => items.iter().for_each(|item| collect_scalars(&item.data, scalars)),
        Data::Map(entries) => entries.iter().for_each(|entry| {
            collect_scalars(&entry.key.data, scalars);
            collect_scalars(&entry.value.data, scalars);
        }),
        Data::Null
        | Data::Bool(_)
        | Data::Int(_)
        | Data::BigInt(_)
        | Data::Float(_)
        | Data::Text(_)
        | Data::Timestamp(_) => scalars.push(data),
    }
}

fn is_variable(text: &str) -> bool {
    text.chars().any(|c| mask_index(c).is_some())
}

/// Whether two nodes may be the same one; of lists and maps this shows when they are joined.
fn alike(masked: &Data, filled: &Data) -> bool {
    match (masked, filled) {
        (Data::List(_), Data::List(_)) | (Data::Map(_), Data::Map(_)) => true,
        (masked, filled) => masked == filled,
    }
}

/// Marks everything in a node as coming from a variable that stands at `at`.
fn mark(node: &mut Node, at: Span) {
    node.at = at;
    node.expanded = true;
    match &mut node.data {
        Data::List(items) => items.iter_mut().for_each(|item| mark(item, at)),
        Data::Map(entries) => entries.iter_mut().for_each(|entry| {
            mark(&mut entry.key, at);
            mark(&mut entry.value, at);
        }),
        Data::Null
        | Data::Bool(_)
        | Data::Int(_)
        | Data::BigInt(_)
        | Data::Float(_)
        | Data::Text(_)
        | Data::Timestamp(_) => {}
    }
}
