//! Whether actions make a template that Swarm can fill in (Go, `text/template/parse/parse.go` and `exec.go`).

use std::collections::BTreeSet;

use super::TemplateError;
use super::lexer::{Action, Token};

/// Functions, and how many arguments they take at least and at most (Go, `text/template/funcs.go`; swarmkit,
/// `template/template.go` adds `join`).
const FUNCTIONS: [(&str, usize, usize); 20] = [
    ("and", 1, MANY),
    ("call", 1, MANY),
    ("eq", 2, MANY),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 0, MANY),
    ("index", 1, MANY),
    ("join", 1, MANY),
    ("js", 0, MANY),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, MANY),
    ("print", 0, MANY),
    ("printf", 1, MANY),
    ("println", 0, MANY),
    ("slice", 1, 4),
    ("urlquery", 0, MANY),
];

const MANY: usize = usize::MAX;

/// How deep parentheses may be nested. Go allows more; nobody who writes a manifest does.
const DEEPEST: usize = 100;

/// What Swarm fills in: all paths that end in a text, and in front of them those that go on.
const FIELDS: [&[&str]; 14] = [
    &["Service"],
    &["Service", "ID"],
    &["Service", "Name"],
    &["Service", "Labels"],
    &["Node"],
    &["Node", "ID"],
    &["Node", "Hostname"],
    &["Node", "Platform"],
    &["Node", "Platform", "Architecture"],
    &["Node", "Platform", "OS"],
    &["Task"],
    &["Task", "ID"],
    &["Task", "Name"],
    &["Task", "Slot"],
];

const UNKNOWN: &str = "there is something in it that no template has";
const EMPTY: &str = "it is empty";

/// What a block that is open began with.
struct Block {
    at: usize,
    kind: Kind,
    /// An `else` without condition came: nothing but the end may follow.
    elsed: bool,
    /// How many variables were known before it.
    variables: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    If,
    With,
    Range,
    Define,
}

/// Checks all actions of a text.
pub(super) fn check(actions: &[Action]) -> Result<(), TemplateError> {
    let mut checker = Checker { variables: vec![String::new()], ..Checker::default() };
    for action in actions {
        checker.action(action).map_err(|(reason, hint)| TemplateError { at: action.at, reason, hint })?;
    }
    if let Some(block) = checker.blocks.first() {
        return Err(TemplateError { at: block.at, reason: "it is not closed with `{{end}}`", hint: None });
    }
    match checker.called.iter().find(|(name, _)| !checker.defined.contains(name)) {
        Some((_, at)) => Err(TemplateError { at: *at, reason: "a template of this name is not defined", hint: None }),
        None => Ok(()),
    }
}

type Reason = (&'static str, Option<&'static str>);
type Checked<T> = Result<T, Reason>;

fn no<T>(reason: &'static str) -> Checked<T> {
    Err((reason, None))
}

#[derive(Default)]
struct Checker {
    blocks: Vec<Block>,
    /// Names of variables; `$` alone is always there.
    variables: Vec<String>,
    defined: BTreeSet<String>,
    /// Templates that are certainly run, and where.
    called: Vec<(String, usize)>,
}

impl Checker {
    /// Whether an action here is run for certain, on Swarm's own context.
    fn certain(&self) -> bool {
        self.blocks.is_empty()
    }

    fn open(&mut self, at: usize, kind: Kind, variables: usize) {
        self.blocks.push(Block { at, kind, elsed: false, variables });
    }

    fn action(&mut self, action: &Action) -> Checked<()> {
        let tokens = trim(&action.tokens);
        let (word, rest) = match tokens {
            [] => return no(EMPTY),
            [Token::Word(word), rest @ ..] => (word.as_str(), trim(rest)),
            _ => ("", tokens),
        };
        let before = self.variables.len();
        match word {
            "if" | "with" => {
                self.pipeline(rest, false)?;
                self.open(action.at, if word == "if" { Kind::If } else { Kind::With }, before);
            }
            "range" => {
                self.pipeline(rest, true)?;
                self.open(action.at, Kind::Range, before);
            }
            "else" => self.otherwise(rest)?,
            "end" => match (self.blocks.pop(), rest) {
                (Some(block), []) => self.variables.truncate(block.variables),
                (None, _) => return no("there is nothing to end"),
                (Some(_), _) => return no(UNKNOWN),
            },
            "break" | "continue" => {
                if !self.blocks.iter().any(|block| block.kind == Kind::Range) {
                    return no("it stands outside of `{{range}}`");
                }
                if !rest.is_empty() {
                    return no(UNKNOWN);
                }
            }
            "define" => {
                let [Token::Text(name)] = rest else { return no(UNKNOWN) };
                if !self.blocks.is_empty() {
                    return no("a template is defined inside of something else");
                }
                self.defined.insert(bare(name));
                self.open(action.at, Kind::Define, before);
            }
            "block" | "template" => {
                let [Token::Text(name), rest @ ..] = rest else { return no(UNKNOWN) };
                let rest = trim(rest);
                if !rest.is_empty() {
                    self.pipeline(rest, false)?;
                } else if word == "block" {
                    return no(EMPTY);
                }
                if word == "block" {
                    self.defined.insert(bare(name));
                    self.open(action.at, Kind::Define, before);
                } else if self.certain() {
                    self.called.push((bare(name), action.at));
                }
            }
            _ => self.pipeline(tokens, false)?,
        }
        Ok(())
    }

    fn otherwise(&mut self, rest: &[Token]) -> Checked<()> {
        let Some(block) = self.blocks.last() else { return no("there is nothing to end") };
        let (kind, elsed, variables) = (block.kind, block.elsed, block.variables);
        if kind == Kind::Define || elsed {
            return no("an `{{else}}` belongs to nothing");
        }
        match (rest, kind) {
            ([], _) => {
                self.variables.truncate(variables);
                if let Some(block) = self.blocks.last_mut() {
                    block.elsed = true;
                }
                Ok(())
            }
            ([Token::Word(word), rest @ ..], Kind::If) if word == "if" => self.pipeline(trim(rest), false),
            ([Token::Word(word), rest @ ..], Kind::With) if word == "with" => self.pipeline(trim(rest), false),
            _ => no(UNKNOWN),
        }
    }

    /// `$x := command | command`
    fn pipeline(&mut self, tokens: &[Token], range: bool) -> Checked<()> {
        let mut tokens = trim(tokens);
        let (declared, rest) = declaration(tokens, range)?;
        tokens = rest;
        let assigned = declared.iter().filter(|(_, declares)| !declares);
        for (name, _) in assigned {
            self.known(name)?;
        }
        self.commands(tokens)?;
        self.variables.extend(declared.into_iter().filter(|(_, declares)| *declares).map(|(name, _)| name));
        Ok(())
    }

    fn known(&self, name: &str) -> Checked<()> {
        if self.variables.iter().any(|known| known == name) { Ok(()) } else { no("a variable is not defined") }
    }

    fn commands(&mut self, tokens: &[Token]) -> Checked<()> {
        if tokens.is_empty() {
            return no(EMPTY);
        }
        let mut first = true;
        for command in split(tokens, &Token::Pipe)? {
            self.command(trim(command), !first)?;
            first = false;
        }
        Ok(())
    }

    /// Operands with spaces between them; `piped` says that the value of another command is one more argument.
    fn command(&mut self, tokens: &[Token], piped: bool) -> Checked<()> {
        let operands = operands(tokens)?;
        let arguments = operands.len().saturating_sub(1) + usize::from(piped);
        let certain = self.certain();
        for (index, operand) in operands.iter().enumerate() {
            let head = index == 0;
            let (term, rest) = operand.split_first().ok_or((EMPTY, None))?;
            let close = if *term == Token::Open { closing(operand).unwrap_or_default() } else { 0 };
            let fields = if close > 0 { &operand[close + 1..] } else { rest };
            let mut chain: Vec<&str> = fields
                .iter()
                .filter_map(|token| if let Token::Field(name) = token { Some(name.as_str()) } else { None })
                .collect();
            match term {
                Token::Word(word) if matches!(word.as_str(), "true" | "false" | "nil") => {
                    constant(head, piped, arguments, &chain)?;
                    if head && word == "nil" {
                        return no("it is no value");
                    }
                }
                Token::Text(_) | Token::Number => constant(head, piped, arguments, &chain)?,
                Token::Word(word) => {
                    let count = if head { arguments } else { 0 };
                    function(word, certain.then_some(count))?;
                }
                Token::Dot if !chain.is_empty() => return no(UNKNOWN),
                Token::Dot => constant(head, piped, arguments, &chain)?,
                Token::Field(name) => {
                    chain.insert(0, name);
                    if certain {
                        field(&chain, head && arguments > 0)?;
                    }
                }
                Token::Variable(name) => {
                    self.known(name)?;
                    if certain && name.is_empty() && !chain.is_empty() {
                        field(&chain, head && arguments > 0)?;
                    }
                }
                Token::Open => self.pipeline(&operand[1..close], false)?,
                _ => return no(UNKNOWN),
            }
        }
        Ok(())
    }
}

/// A value that is written out can be the head of a command only alone.
fn constant(head: bool, piped: bool, arguments: usize, chain: &[&str]) -> Checked<()> {
    if !chain.is_empty() {
        return no(UNKNOWN);
    }
    if head && piped {
        return no("a value cannot take what is piped into it");
    }
    if head && arguments > 0 {
        return no("a value takes no arguments");
    }
    Ok(())
}

fn function(name: &str, arguments: Option<usize>) -> Checked<()> {
    if matches!(name, "env" | "secret" | "config") {
        return no("Swarm knows this function in configs and secrets only");
    }
    let Some((_, least, most)) = FUNCTIONS.iter().find(|(known, _, _)| *known == name) else {
        return no("Swarm knows no such function");
    };
    match arguments {
        Some(count) if count < *least || count > *most => no("a function has the wrong number of arguments"),
        Some(_) | None => Ok(()),
    }
}

fn field(path: &[&str], arguments: bool) -> Checked<()> {
    if path.len() > 2 && path[..2] == ["Service", "Labels"] {
        // A manager tries a template without labels first, and a label that is missing is an error.
        return Err(("a label is not a field", Some("write `{{index .Service.Labels \"KEY\"}}`")));
    }
    if !FIELDS.contains(&path) {
        return no("Swarm knows no such field");
    }
    if arguments { no("a field takes no arguments") } else { Ok(()) }
}

/// The variables that a pipeline sets, whether each is new, and the rest of it.
type Declaration<'a> = (Vec<(String, bool)>, &'a [Token]);

fn declaration(tokens: &[Token], range: bool) -> Checked<Declaration<'_>> {
    let [Token::Variable(first), rest @ ..] = tokens else { return Ok((Vec::new(), tokens)) };
    match trim(rest) {
        [Token::Declare, rest @ ..] => Ok((vec![(first.clone(), true)], trim(rest))),
        [Token::Assign, rest @ ..] => Ok((vec![(first.clone(), false)], trim(rest))),
        [Token::Comma, rest @ ..] if range => match trim(rest) {
            [Token::Variable(second), rest @ ..] => {
                let both = |declares| vec![(first.clone(), declares), (second.clone(), declares)];
                match trim(rest) {
                    [Token::Declare, rest @ ..] => Ok((both(true), trim(rest))),
                    [Token::Assign, rest @ ..] => Ok((both(false), trim(rest))),
                    _ => no(UNKNOWN),
                }
            }
            _ => no(UNKNOWN),
        },
        _ => Ok((Vec::new(), tokens)),
    }
}

/// Splits where a token stands outside of parentheses; no part may be empty.
fn split<'a>(tokens: &'a [Token], at: &Token) -> Checked<Vec<&'a [Token]>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Open if depth == DEEPEST => return no("parentheses are nested too deep"),
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1).ok_or((UNKNOWN, None))?,
            token if token == at && depth == 0 => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return no("a parenthesis does not end");
    }
    parts.push(&tokens[start..]);
    if parts.iter().any(|part| trim(part).is_empty()) { no(EMPTY) } else { Ok(parts) }
}

/// Splits a command into its operands: a term with the fields behind it.
fn operands(tokens: &[Token]) -> Checked<Vec<&[Token]>> {
    let mut operands = Vec::new();
    for operand in split_spaces(tokens)? {
        let term = match operand.first() {
            Some(Token::Open) => closing(operand).ok_or(("a parenthesis does not end", None))? + 1,
            Some(_) => 1,
            None => return no(EMPTY),
        };
        if !operand[term..].iter().all(|token| matches!(token, Token::Field(_))) {
            return no(UNKNOWN);
        }
        operands.push(operand);
    }
    Ok(operands)
}

fn split_spaces(tokens: &[Token]) -> Checked<Vec<&[Token]>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1).ok_or((UNKNOWN, None))?,
            Token::Space if depth == 0 => {
                parts.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&tokens[start..]);
    Ok(parts)
}

/// Where the parenthesis ends that begins this.
fn closing(tokens: &[Token]) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

fn trim(mut tokens: &[Token]) -> &[Token] {
    while let [Token::Space, rest @ ..] = tokens {
        tokens = rest;
    }
    while let [rest @ .., Token::Space] = tokens {
        tokens = rest;
    }
    tokens
}

/// A quoted name without its quotes.
fn bare(text: &str) -> String {
    text.trim_matches(['"', '`']).to_owned()
}
