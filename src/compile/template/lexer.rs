//! The actions of a template, in tokens (Go, `text/template/parse/lex.go`).

use super::TemplateError;

/// What stands between `{{` and `}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action {
    /// Where its `{{` stands, in characters from 1.
    pub(super) at: usize,
    pub(super) tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// White space, which separates arguments.
    Space,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `.`
    Dot,
    /// `.Name`
    Field(String),
    /// `$name` or `$`
    Variable(String),
    /// A function or a keyword.
    Word(String),
    /// A text, as written, with its quotes.
    Text(String),
    /// A number or a character.
    Number,
}

/// Reads all actions; comments are none.
pub(super) fn actions(text: &str) -> Result<Vec<Action>, TemplateError> {
    let mut actions = Vec::new();
    let mut at = 0;
    let (mut counted, mut characters) = (0, 0);
    while let Some(found) = text[at..].find("{{") {
        let start = at + found;
        characters += text[counted..start].chars().count();
        counted = start;
        let place = characters + 1;
        let fail = |reason| TemplateError { at: place, reason, hint: None };
        let mut inner = start + 2;
        let trimmed = text[inner..].strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
        if trimmed {
            inner += 2;
        }
        let comment = text[inner..].trim_start_matches(|c| trimmed && is_space(c));
        if comment.starts_with("/*") {
            let begin = text.len() - comment.len();
            let end = text[begin..].find("*/").ok_or_else(|| fail("a comment in it does not end"))?;
            let rest = &text[begin + end + 2..];
            let after = delimiter(rest).or_else(|| delimiter(rest.strip_prefix(is_space)?));
            let taken = after.ok_or_else(|| fail("a comment in it has something behind it"))?;
            at = text.len() - taken.len();
            continue;
        }
        let mut lexer = Lexer { rest: &text[inner..], fail: &fail };
        let tokens = lexer.tokens()?;
        at = text.len() - lexer.rest.len();
        actions.push(Action { at: place, tokens });
    }
    Ok(actions)
}

/// What follows an end of an action that stands here.
fn delimiter(text: &str) -> Option<&str> {
    text.strip_prefix("}}").or_else(|| text.strip_prefix("-}}"))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'a, F> {
    rest: &'a str,
    fail: &'a F,
}

impl<'a, F: Fn(&'static str) -> TemplateError> Lexer<'a, F> {
    fn tokens(&mut self) -> Result<Vec<Token>, TemplateError> {
        let mut tokens = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix("}}") {
                self.rest = rest;
                return Ok(tokens);
            }
            let spaces = self.take_while(is_space);
            if !spaces.is_empty() {
                if let Some(rest) = self.rest.strip_prefix("-}}") {
                    self.rest = rest;
                    return Ok(tokens);
                }
                tokens.push(Token::Space);
                continue;
            }
            tokens.push(self.token()?);
        }
    }

    fn token(&mut self) -> Result<Token, TemplateError> {
        const UNKNOWN: &str = "there is something in it that no template has";
        let first = self.rest.chars().next().ok_or_else(|| (self.fail)("it is not closed with `}}`"))?;
        let one = |token| Ok((token, first.len_utf8()));
        let (token, length) = match first {
            '|' => one(Token::Pipe),
            ',' => one(Token::Comma),
            '(' => one(Token::Open),
            ')' => one(Token::Close),
            '=' => one(Token::Assign),
            ':' if self.rest.starts_with(":=") => Ok((Token::Declare, 2)),
            '"' | '\'' => {
                let end = quoted(self.rest, first).ok_or("a quoted text in it does not end");
                end.map(|end| {
                    let text = self.rest[..end].to_owned();
                    (if first == '"' { Token::Text(text) } else { Token::Number }, end)
                })
            }
            '`' => match self.rest[1..].find('`') {
                Some(end) => Ok((Token::Text(self.rest[..end + 2].to_owned()), end + 2)),
                None => Err("a quoted text in it does not end"),
            },
            '.' if !self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let name: String = self.rest[1..].chars().take_while(|c| is_name(*c)).collect();
                let length = 1 + name.len();
                Ok((if name.is_empty() { Token::Dot } else { Token::Field(name) }, length))
            }
            '$' => {
                let name: String = self.rest[1..].chars().take_while(|c| is_name(*c)).collect();
                let length = 1 + name.len();
                Ok((Token::Variable(name), length))
            }
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => {
                let end = self.rest[1..].find(|c: char| !is_name(c) && !matches!(c, '.' | '+' | '-'));
                let text = &self.rest[..end.map_or(self.rest.len(), |end| end + 1)];
                // A sign belongs to an exponent, or begins something else.
                let text = number(text);
                text.map(|length| (Token::Number, length)).ok_or("a number in it is malformed")
            }
            c if is_name(c) => {
                let name: String = self.rest.chars().take_while(|c| is_name(*c)).collect();
                let length = name.len();
                Ok((Token::Word(name), length))
            }
            _ => Err(UNKNOWN),
        }
        // What has no end at all is told first: it is why the rest makes no sense.
        .map_err(|reason| {
            let closed = self.rest.contains("}}") || reason.contains("quoted");
            (self.fail)(if closed { reason } else { "it is not closed with `}}`" })
        })?;
        self.rest = &self.rest[length..];
        // Names, fields and variables end where something may follow them.
        let follows = |c: char| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(' | '=');
        let needs_end = matches!(token, Token::Field(_) | Token::Variable(_) | Token::Word(_));
        if needs_end && !self.rest.is_empty() && !self.rest.starts_with("}}") && !self.rest.starts_with(follows) {
            return Err((self.fail)(UNKNOWN));
        }
        Ok(token)
    }

    fn take_while(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !of(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

/// The length of a quoted text, quotes included; a line end ends none.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The length of a number at the beginning of a text that goes on with characters of names, dots and signs.
fn number(text: &str) -> Option<usize> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let radix = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| unsigned.strip_prefix(*prefix));
    let (digits, is_digit): (&str, fn(char) -> bool) = if let Some(rest) = radix(["0x", "0X"]) {
        (rest, |c| c.is_ascii_hexdigit() || c == '_')
    } else if let Some(rest) = radix(["0b", "0B"]) {
        (rest, |c| matches!(c, '0' | '1' | '_'))
    } else if let Some(rest) = radix(["0o", "0O"]) {
        (rest, |c| matches!(c, '0'..='7' | '_'))
    } else {
        (unsigned, |c| c.is_ascii_digit() || c == '_')
    };
    let whole = digits.trim_start_matches(is_digit);
    let fraction = whole.strip_prefix('.').map_or(whole, |rest| rest.trim_start_matches(is_digit));
    let exponent = match fraction.strip_prefix(['e', 'E', 'p', 'P']) {
        Some(rest) => {
            let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
            (after.len() < rest.len()).then_some(after)?
        }
        None => fraction,
    };
    let rest = exponent.strip_prefix('i').unwrap_or(exponent);
    let has_digit =
        digits.starts_with(is_digit) || digits.strip_prefix('.').is_some_and(|rest| rest.starts_with(is_digit));
    (rest.is_empty() && has_digit).then_some(text.len())
}
