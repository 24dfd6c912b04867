//! The part of ksqlDB's SQL that OpenFactory and `ofop` use: words, and statements made of them. Whatever else the
//! server knows is a syntax error here.

use std::collections::BTreeMap;

use super::wire::Refusal;

/// A word of a statement.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Word {
    /// In capitals, as the server takes it.
    Name(String),
    /// Between backticks, as it is.
    Quoted(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    /// As it was written.
    pub(super) raw: String,
    /// Counted from 1.
    pub(super) column: usize,
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expr {
    Column {
        source: Option<String>,
        name: String,
        /// Where it stands in its line, counted from 1.
        column: Place,
    },
    Text(String),
    Number(String),
    Null,
    Call(String, Vec<Expr>),
    Struct(Vec<(String, Expr)>),
    Cast(Box<Expr>, String),
    Subscript(Box<Expr>, Box<Expr>),
    Both(&'static str, Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>, bool),
}

/// A place never makes two expressions differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) usize);

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) table: String,
    pub(super) alias: String,
    pub(super) left: Expr,
    pub(super) right: Expr,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Select {
    /// `None` is `*`.
    pub(super) items: Vec<Option<(Expr, Option<String>)>>,
    pub(super) from: String,
    pub(super) alias: String,
    pub(super) join: Option<Join>,
    pub(super) condition: Option<Expr>,
    pub(super) partition_by: Option<Expr>,
    pub(super) group_by: Option<Expr>,
    pub(super) changes: bool,
    pub(super) limit: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Create {
    pub(super) source: bool,
    pub(super) table: bool,
    pub(super) if_not_exists: bool,
    pub(super) name: String,
    /// Name, type, and whether it is the key.
    pub(super) columns: Vec<(String, String, bool)>,
    /// Texts with their quotes.
    pub(super) with: BTreeMap<String, String>,
    pub(super) select: Option<Select>,
}

#[derive(Clone, Debug)]
pub(super) enum Statement {
    Create(Box<Create>),
    InsertValues { into: String, columns: Vec<String>, values: Vec<Expr> },
    InsertSelect { into: String, select: Box<Select> },
    Describe(String),
    Show(String),
    Select(Box<Select>),
}

const SIGNS: [&str; 18] =
    ["<>", "!=", ":=", "<=", ">=", ",", "(", ")", "<", ">", "=", "*", "[", "]", ".", "+", "-", "/"];

fn syntax(sql: &str, token: Option<&Token>, unknown_statement: bool) -> Refusal {
    let Some(token) = token else {
        let at = sql.chars().count() + 1;
        return Refusal::statement(
            sql,
            format!(
                "line 1:{at}: Syntax Error\nmissing ';' at '<EOF>'\nStatement: {sql}\n\
                 Caused by: line 1:{at}: Syntax error at line 1:{at}"
            ),
        );
    };
    let (at, raw) = (token.column, &token.raw);
    if unknown_statement {
        const KNOWN: [&str; 9] =
            ["SELECT", "CREATE", "DESCRIBE", "SHOW", "INSERT", "DROP", "TERMINATE", "PRINT", "EXPLAIN"];
        let near =
            KNOWN.iter().find(|known| known.starts_with(&raw.to_uppercase()) || raw.to_uppercase().starts_with(*known));
        let hint = near.map(|near| format!("Did you mean '{near}'?\n")).unwrap_or_default();
        return Refusal::statement(
            sql,
            format!(
                "line 1:{at}: Syntax Error\nUnknown statement '{raw}'\n{hint}Statement: {sql}\n\
                 Caused by: line 1:{at}: Syntax error at line 1:{at}"
            ),
        );
    }
    Refusal::statement(sql, format!("line 1:{at}: Syntax Error\nSyntax error at or near '{raw}' at line 1:{at}"))
}

/// Splits a request into its statements, each with its semicolon if it has one.
pub(super) fn split(sql: &str) -> Vec<String> {
    let (mut parts, mut part, mut quote) = (Vec::new(), String::new(), None);
    for c in sql.chars() {
        part.push(c);
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '`') => quote = Some(c),
            None if c == ';' => parts.push(std::mem::take(&mut part).trim().to_owned()),
            None => {}
        }
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

fn tokens(sql: &str) -> Result<Vec<Token>, Refusal> {
    let chars: Vec<char> = sql.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let (begin, c) = (at, chars[at]);
        let word = if c.is_whitespace() {
            at += 1;
            continue;
        } else if c == '\'' || c == '`' {
            let mut text = String::new();
            loop {
                at += 1;
                match chars.get(at) {
                    Some(end) if *end == c && chars.get(at + 1) == Some(&c) => {
                        text.push(c);
                        at += 1;
                    }
                    Some(end) if *end == c => break,
                    Some(inside) => text.push(*inside),
                    None => {
                        let token = Token { word: Word::Sign(","), raw: c.into(), column: begin + 1 };
                        return Err(syntax(sql, Some(&token), false));
                    }
                }
            }
            at += 1;
            if c == '`' { Word::Quoted(text) } else { Word::Text(text) }
        } else if c.is_ascii_digit() {
            while chars.get(at).is_some_and(|c| c.is_ascii_digit() || *c == '.') {
                at += 1;
            }
            Word::Number(chars[begin..at].iter().collect())
        } else if c.is_alphabetic() || c == '_' {
            while chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                at += 1;
            }
            Word::Name(chars[begin..at].iter().collect::<String>().to_uppercase())
        } else {
            let rest: String = chars[at..chars.len().min(at + 2)].iter().collect();
            let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) else {
                let token = Token { word: Word::Sign(","), raw: c.into(), column: begin + 1 };
                return Err(syntax(sql, Some(&token), false));
            };
            at += sign.len();
            Word::Sign(sign)
        };
        found.push(Token { word, raw: chars[begin..at].iter().collect(), column: begin + 1 });
    }
    Ok(found)
}

/// One statement, with its semicolon.
pub(super) fn parse(sql: &str) -> Result<Statement, Refusal> {
    let Some(body) = sql.strip_suffix(';') else {
        let tokens = tokens(sql)?;
        let known = matches!(tokens.first().map(|token| &token.word), Some(Word::Name(name)) if is_statement(name));
        return Err(if known { syntax(sql, None, false) } else { syntax(sql, tokens.first(), true) });
    };
    let mut parser = Parser { sql, tokens: tokens(body)?, at: 0 };
    let statement = parser.statement()?;
    if parser.at < parser.tokens.len() {
        return Err(parser.odd());
    }
    Ok(statement)
}

fn is_statement(name: &str) -> bool {
    matches!(name, "SELECT" | "CREATE" | "DESCRIBE" | "SHOW" | "LIST" | "INSERT")
}

struct Parser<'s> {
    sql: &'s str,
    tokens: Vec<Token>,
    at: usize,
}

impl Parser<'_> {
    fn odd(&self) -> Refusal {
        syntax(self.sql, self.tokens.get(self.at), false)
    }

    fn peek(&self) -> Option<&Word> {
        self.tokens.get(self.at).map(|token| &token.word)
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Word::Name(found)) if found == name)
    }

    fn take(&mut self, names: &[&str]) -> bool {
        let all = names.iter().enumerate().all(|(index, name)| {
            matches!(self.tokens.get(self.at + index).map(|token| &token.word), Some(Word::Name(found)) if found == name)
        });
        if all {
            self.at += names.len();
        }
        all
    }

    fn need(&mut self, name: &str) -> Result<(), Refusal> {
        if self.take(&[name]) { Ok(()) } else { Err(self.odd()) }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let is = matches!(self.peek(), Some(Word::Sign(found)) if *found == sign);
        self.at += usize::from(is);
        is
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), Refusal> {
        if self.sign(sign) { Ok(()) } else { Err(self.odd()) }
    }

    fn name(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            Some(Word::Name(name) | Word::Quoted(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.odd()),
        }
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
        let mut found = vec![one(self)?];
        while self.sign(",") {
            found.push(one(self)?);
        }
        Ok(found)
    }

    fn statement(&mut self) -> Result<Statement, Refusal> {
        if self.take(&["SELECT"]) {
            return Ok(Statement::Select(Box::new(self.select()?)));
        }
        if self.take(&["CREATE"]) {
            return Ok(Statement::Create(Box::new(self.create()?)));
        }
        if self.take(&["DESCRIBE"]) {
            let name = self.name()?;
            self.take(&["EXTENDED"]);
            return Ok(Statement::Describe(name));
        }
        if self.take(&["SHOW"]) || self.take(&["LIST"]) {
            let what = self.name()?;
            self.take(&["EXTENDED"]);
            return match what.as_str() {
                "STREAMS" | "TABLES" | "QUERIES" => Ok(Statement::Show(what)),
                _ => {
                    self.at -= 1;
                    Err(self.odd())
                }
            };
        }
        if self.take(&["INSERT", "INTO"]) {
            let into = self.name()?;
            if self.take(&["SELECT"]) {
                return Ok(Statement::InsertSelect { into, select: Box::new(self.select()?) });
            }
            self.need_sign("(")?;
            let columns = self.list(Self::name)?;
            self.need_sign(")")?;
            self.need("VALUES")?;
            self.need_sign("(")?;
            let values = self.list(Self::expression)?;
            self.need_sign(")")?;
            return Ok(Statement::InsertValues { into, columns, values });
        }
        Err(syntax(self.sql, self.tokens.first(), true))
    }

    fn create(&mut self) -> Result<Create, Refusal> {
        let source = self.take(&["SOURCE"]);
        let table = !self.take(&["STREAM"]);
        if table {
            self.need("TABLE")?;
        }
        let if_not_exists = self.take(&["IF", "NOT", "EXISTS"]);
        let name = self.name()?;
        let mut columns = Vec::new();
        if self.sign("(") {
            columns = self.list(|parser| {
                let name = parser.name()?;
                let kind = parser.kind()?;
                let key = parser.take(&["PRIMARY", "KEY"]) || parser.take(&["KEY"]);
                Ok((name, kind, key))
            })?;
            self.need_sign(")")?;
        }
        let mut with = BTreeMap::new();
        if self.take(&["WITH"]) {
            self.need_sign("(")?;
            let options = self.list(|parser| {
                let name = parser.name()?;
                parser.need_sign("=")?;
                let value = match parser.peek() {
                    Some(Word::Text(text)) => format!("'{text}'"),
                    Some(Word::Number(number)) => number.clone(),
                    _ => return Err(parser.odd()),
                };
                parser.at += 1;
                Ok((name, value))
            })?;
            self.need_sign(")")?;
            with.extend(options);
        }
        let select = if self.take(&["AS"]) {
            self.need("SELECT")?;
            Some(self.select()?)
        } else {
            None
        };
        Ok(Create { source, table, if_not_exists, name, columns, with, select })
    }

    /// A type, as the server writes it.
    fn kind(&mut self) -> Result<String, Refusal> {
        let name = self.name()?;
        let inside = |parser: &mut Self| {
            parser.need_sign("<")?;
            let kinds = parser.list(Self::kind)?;
            parser.need_sign(">")?;
            Ok::<_, Refusal>(kinds.join(", "))
        };
        Ok(match name.as_str() {
            "VARCHAR" | "STRING" => "STRING".into(),
            "INT" | "INTEGER" => "INTEGER".into(),
            "BIGINT" | "BOOLEAN" | "DOUBLE" | "TIMESTAMP" => name,
            "MAP" | "ARRAY" => format!("{name}<{}>", inside(self)?),
            _ => {
                self.at -= 1;
                return Err(self.odd());
            }
        })
    }

    fn select(&mut self) -> Result<Select, Refusal> {
        let items = self.list(|parser| {
            if parser.sign("*") {
                return Ok(None);
            }
            let expression = parser.expression()?;
            let alias = if parser.take(&["AS"]) { Some(parser.name()?) } else { None };
            Ok(Some((expression, alias)))
        })?;
        self.need("FROM")?;
        let mut select = Select { items, ..Select::default() };
        (select.from, select.alias) = self.source()?;
        if self.take(&["LEFT", "JOIN"]) || self.take(&["LEFT", "OUTER", "JOIN"]) {
            let (table, alias) = self.source()?;
            self.need("ON")?;
            let left = self.operand()?;
            self.need_sign("=")?;
            let right = self.operand()?;
            select.join = Some(Join { table, alias, left, right });
        }
        if self.take(&["WHERE"]) {
            select.condition = Some(self.expression()?);
        }
        if self.take(&["PARTITION", "BY"]) {
            select.partition_by = Some(self.operand()?);
        }
        if self.take(&["GROUP", "BY"]) {
            select.group_by = Some(self.operand()?);
        }
        select.changes = self.take(&["EMIT", "CHANGES"]);
        if self.take(&["LIMIT"]) {
            let Some(Word::Number(number)) = self.peek() else { return Err(self.odd()) };
            select.limit = number.parse().ok();
            self.at += 1;
        }
        Ok(select)
    }

    /// A name and its alias.
    fn source(&mut self) -> Result<(String, String), Refusal> {
        const NEXT: [&str; 8] = ["LEFT", "ON", "WHERE", "PARTITION", "GROUP", "EMIT", "LIMIT", "JOIN"];
        let name = self.name()?;
        self.take(&["AS"]);
        let alias = match self.peek() {
            Some(Word::Name(alias)) if !NEXT.contains(&alias.as_str()) => alias.clone(),
            _ => return Ok((name.clone(), name)),
        };
        self.at += 1;
        Ok((name, alias))
    }

    fn expression(&mut self) -> Result<Expr, Refusal> {
        let mut left = self.conjunction()?;
        while self.take(&["OR"]) {
            left = Expr::Both("OR", Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expr, Refusal> {
        let mut left = self.comparison()?;
        while self.take(&["AND"]) {
            left = Expr::Both("AND", Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expr, Refusal> {
        let left = self.operand()?;
        if self.take(&["IS"]) {
            let not = self.take(&["NOT"]);
            self.need("NULL")?;
            return Ok(Expr::IsNull(Box::new(left), !not));
        }
        if self.take(&["IN"]) {
            self.need_sign("(")?;
            let values = self.list(Self::operand)?;
            self.need_sign(")")?;
            let equal = |value| Expr::Both("=", Box::new(left.clone()), Box::new(value));
            let any = values.into_iter().map(equal).reduce(|a, b| Expr::Both("OR", Box::new(a), Box::new(b)));
            return any.ok_or_else(|| self.odd());
        }
        for (sign, meaning) in [("=", "="), ("!=", "<>"), ("<>", "<>")] {
            if self.sign(sign) {
                return Ok(Expr::Both(meaning, Box::new(left), Box::new(self.operand()?)));
            }
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expr, Refusal> {
        if self.sign("(") {
            let inside = self.expression()?;
            self.need_sign(")")?;
            return Ok(inside);
        }
        let place = Place(self.tokens.get(self.at).map_or(0, |token| token.column));
        let mut found = match self.peek().cloned() {
            Some(Word::Text(text)) => {
                self.at += 1;
                Expr::Text(text)
            }
            Some(Word::Number(number)) => {
                self.at += 1;
                Expr::Number(number)
            }
            Some(Word::Name(name)) if name == "NULL" => {
                self.at += 1;
                Expr::Null
            }
            Some(Word::Name(_) | Word::Quoted(_)) if !self.is("FROM") => {
                let name = self.name()?;
                if self.sign("(") {
                    self.call(name)?
                } else if self.sign(".") {
                    Expr::Column { source: Some(name), name: self.name()?, column: place }
                } else {
                    Expr::Column { source: None, name, column: place }
                }
            }
            _ => return Err(self.odd()),
        };
        while self.sign("[") {
            let index = self.operand()?;
            self.need_sign("]")?;
            found = Expr::Subscript(Box::new(found), Box::new(index));
        }
        Ok(found)
    }

    fn call(&mut self, name: String) -> Result<Expr, Refusal> {
        let found = match name.as_str() {
            "CAST" => {
                let inside = self.expression()?;
                self.need("AS")?;
                Expr::Cast(Box::new(inside), self.kind()?)
            }
            "STRUCT" => Expr::Struct(self.list(|parser| {
                let name = parser.name()?;
                parser.need_sign(":=")?;
                Ok((name, parser.expression()?))
            })?),
            _ => Expr::Call(name, self.list(Self::expression)?),
        };
        self.need_sign(")")?;
        Ok(found)
    }
}
