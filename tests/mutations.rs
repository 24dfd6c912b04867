//! Whatever becomes of a valid manifest — fields dropped, retyped, renamed, doubled, nested, odd characters —
//! the reader neither panics nor hangs, and gives either a meaning or an error with a place.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, parse};
use ofop::model::{PlatformKind, Severity};
use proptest::prelude::*;

/// Every accepted input of the recorded judgements.
static SEEDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let cases = std::fs::read_to_string("tests/examples/validation.jsonl").unwrap();
    let cases = cases.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let accepted =
        cases.filter(|case| case["accepted"] == true).filter_map(|case| Some(case["yaml"].as_str()?.to_owned()));
    let mut seeds: Vec<String> = accepted.collect();
    seeds.dedup();
    seeds
});

static CONTEXT: LazyLock<ParseContext> = LazyLock::new(|| {
    let schema = "{namespace_structure: [{inc: Acme}, {site: [north, south]}, {line: ANY}, {asset: ANY}, {attribute: ANY}], \
                  uns_template: inc/site/line/asset/attribute}";
    ParseContext {
        platform: PlatformKind::Docker,
        variables: Arc::new([("V".to_owned(), "a: [b".to_owned()), ("N".to_owned(), "1\n2".to_owned())].into()),
        namespace: Namespace::Schema(Arc::new(Schema::parse(&"uns.yml".into(), schema).unwrap())),
        directory_exists: |path| Path::new(path).is_absolute(),
        ..ParseContext::new(PlatformKind::Docker)
    }
});

/// What is put in somewhere: values of every type, and pieces of YAML.
const PIECES: &[&str] = &[
    "",
    "~",
    "yes",
    "0",
    "-1",
    "65536",
    "99999999999999999999",
    "1.5",
    ".inf",
    ".nan",
    "1:30",
    "2024-01-02",
    "[]",
    "[x]",
    "{}",
    "{a: 1}",
    "''",
    "'42'",
    "text",
    "ü\u{1F600}",
    "\u{202e}",
    "\u{feff}",
    "\t",
    "\0",
    "&a x",
    "*a",
    "!!int x",
    "!!set {}",
    "<<: *a",
    "${V}",
    "${N}",
    "${W:-x}",
    "${",
    "|\n  x",
    ">-\n  y",
    "? ",
    ": ",
    "- ",
    "#",
    "\"",
    "'",
    "[[[[[[[[",
    "{a: {a: {a: ",
    "---\n",
    "...\n",
    "\r\n",
    "\n\n",
    "apps:",
    "devices:",
    "x-y: ",
    "type: mtconnect",
    "@",
    "`",
    "%",
    "\u{85}",
    "a=b=c",
    "=",
    "${V}${V}",
];

#[derive(Debug, Clone)]
enum Mutation {
    /// Puts a piece in at a character.
    Insert(prop::sample::Index, &'static str),
    /// Takes characters out.
    Remove(prop::sample::Index, usize),
    /// Replaces what stands behind a colon or a dash.
    Retype(prop::sample::Index, &'static str),
    /// Drops a line.
    Drop(prop::sample::Index),
    /// Repeats a line.
    Double(prop::sample::Index),
    /// Moves a line to the right or to the left.
    Nest(prop::sample::Index, usize),
    /// Writes a letter in a key differently.
    Rename(prop::sample::Index),
    /// Puts in a part of another manifest.
    Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let piece = || prop::sample::select(PIECES);
    prop_oneof![
        (at(), piece()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), 1..12_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), piece()).prop_map(|(at, piece)| Mutation::Retype(at, piece)),
        at().prop_map(Mutation::Drop),
        at().prop_map(Mutation::Double),
        (at(), 0..8_usize).prop_map(|(at, columns)| Mutation::Nest(at, columns)),
        at().prop_map(Mutation::Rename),
        (at(), at(), at()).prop_map(|(at, other, line)| Mutation::Splice(at, other, line)),
    ]
}

fn lines(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    match mutation {
        Mutation::Insert(at, piece) => {
            let characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len() + 1);
            characters[..at].iter().copied().chain(piece.chars()).chain(characters[at..].iter().copied()).collect()
        }
        Mutation::Remove(at, count) => {
            let start = at.index(text.chars().count() + 1);
            text.chars()
                .enumerate()
                .filter(|(index, _)| !(start..start + count).contains(index))
                .map(|(_, c)| c)
                .collect()
        }
        Mutation::Retype(at, piece) => {
            let mut lines = lines(text);
            let at = at.index(lines.len());
            let end = lines[at].find(": ").map(|colon| colon + 2).or_else(|| lines[at].find("- ").map(|dash| dash + 2));
            if let Some(end) = end {
                lines[at].truncate(end);
                lines[at].push_str(piece);
            }
            lines.join("\n")
        }
        Mutation::Drop(at) => {
            let mut lines = lines(text);
            lines.remove(at.index(lines.len()));
            lines.join("\n")
        }
        Mutation::Double(at) => {
            let mut lines = lines(text);
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
            lines.join("\n")
        }
        Mutation::Nest(at, columns) => {
            let mut lines = lines(text);
            let at = at.index(lines.len());
            lines[at] = format!("{}{}", " ".repeat(*columns), lines[at].trim_start());
            lines.join("\n")
        }
        Mutation::Rename(at) => {
            let mut lines = lines(text);
            let at = at.index(lines.len());
            lines[at] = lines[at].replacen(':', "x:", 1);
            lines.join("\n")
        }
        Mutation::Splice(at, other, line) => {
            let mut lines = lines(text);
            let other = self::lines(&SEEDS[other.index(SEEDS.len())]);
            lines.insert(at.index(lines.len()), other[line.index(other.len())].clone());
            lines.join("\n")
        }
    }
}

/// A meaning or an error with a place, never both and never neither.
fn check(text: &str) -> Result<(), TestCaseError> {
    let parsed = parse(&"m.yml".into(), text, [0; 32], &CONTEXT);
    let errors: Vec<_> = parsed.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    prop_assert_eq!(parsed.manifest.is_some(), errors.is_empty(), "{:?}", parsed.problems);
    // As YAML ends lines.
    let text_lines = lines(&text.replace("\r\n", "\n").replace('\r', "\n"));
    for problem in &parsed.problems {
        prop_assert!(!problem.message.is_empty());
        if problem.line == 0 {
            continue;
        }
        let line = text_lines.get(problem.line as usize - 1);
        let length = line.map_or(0, |line| line.chars().count());
        prop_assert!(problem.line as usize <= text_lines.len(), "{}: {:?}", problem, text);
        // Directly behind the line is where something missing belongs.
        prop_assert!((1..=length + 2).contains(&(problem.column as usize)), "{}: {:?}", problem, line);
    }
    let again = parse(&"m.yml".into(), text, [0; 32], &CONTEXT);
    prop_assert_eq!(parsed.problems, again.problems);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_manifest_has_a_meaning_or_a_located_error(
        seed in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let text = mutations.iter().fold(SEEDS[seed.index(SEEDS.len())].clone(), |text, mutation| mutate(&text, mutation));
        check(&text)?;
    }

    #[test]
    fn any_text_has_a_meaning_or_a_located_error(text in "\\PC{0,80}") {
        check(&text)?;
    }
}
