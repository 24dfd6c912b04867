//! From the parser's events to a tree: aliases, merge keys, duplicates, budgets.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan, StrInput, Tag};

use super::{
    Data, Entry, MAX_DEPTH, MAX_NODES, NODE_BYTES, Node, Span, YamlError, characters, key_text, number, push_index,
    push_key, scalar,
};

/// Reads one document of a text whose characters were checked.
pub(super) fn read(text: &str) -> Result<Option<Node>, Vec<YamlError>> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        path: Vec::new(),
        flow: 0,
        texts: Vec::new(),
        errors: Vec::new(),
    };
    let root = builder.document();
    if root.is_ok() {
        builder.errors.extend(characters::stray_tab(text, &builder.texts));
    }
    match root {
        Ok(root) if builder.errors.is_empty() => Ok(root),
        Ok(_) => Err(builder.errors),
        Err(error) => {
            builder.errors.push(characters::within(text, error));
            Err(builder.errors)
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// What anchors stand for, and how many nodes that is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    path: Vec<Step>,
    /// How many `[` and `{` are open.
    flow: usize,
    /// Where quoted texts and block texts stand, as ranges of characters: tabs are allowed there.
    texts: Vec<(usize, usize)>,
    /// What is wrong but does not keep us from reading on.
    errors: Vec<YamlError>,
}

/// One step on the way to a node.
enum Step {
    Key(String),
    Index(usize),
}

/// Writes a path as people write it: `apps.x.networks[2]`.
fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => push_key(&mut text, key),
            Step::Index(index) => push_index(&mut text, *index),
        }
    }
    text
}

impl Builder<'_> {
    fn document(&mut self) -> Result<Option<Node>, YamlError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::Nothing | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) => {
                    if root.is_some() {
                        return Err(self.error(span_of(span), "a second document begins here").hint(
                            "one document per file: put the parts below one `apps:` or `devices:`, or into files of their own",
                        ));
                    }
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => return Err(self.error(span_of(span), "is not the start of a document")),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'static>, ParserSpan), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((owned(event), span)),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Err(self.error(Span::default(), "ends too early")),
        }
    }

    fn node(&mut self, event: Event<'static>, span: ParserSpan, depth: usize) -> Result<Node, YamlError> {
        let at = span_of(span);
        if depth > MAX_DEPTH {
            return Err(self.error(at, format!("nests deeper than {MAX_DEPTH} levels")));
        }
        self.count(at, 1)?;
        let before = self.nodes;
        let (anchor, data) = match event {
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(at, "this alias refers to a node that holds it"));
                };
                self.count(at, size)?;
                return Ok(Node { at, ..node });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                self.count(at, text.len() / NODE_BYTES)?;
                if !plain {
                    self.texts.push((span.start.index(), span.end.index()));
                }
                (anchor, self.scalar(at, text.into_owned(), plain, tag.as_deref())?)
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection_tag(at, tag.as_deref(), "seq")?;
                let flow = usize::from(!span.is_empty());
                self.flow += flow;
                let items = self.list(depth)?;
                self.flow -= flow;
                (anchor, Data::List(items))
            }
            Event::MappingStart(anchor, tag) => {
                self.collection_tag(at, tag.as_deref(), "map")?;
                let flow = usize::from(!span.is_empty());
                self.flow += flow;
                let entries = self.map(depth)?;
                self.flow -= flow;
                (anchor, Data::Map(entries))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(self.error(at, "a value is missing here")),
        };
        let node = Node { at, data, expanded: false };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            self.path.push(Step::Index(items.len()));
            items.push(self.node(event, span, depth + 1)?);
            self.path.pop();
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, YamlError> {
        let mut own: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut merged: Option<Vec<Entry>> = None;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(combine(merged, own));
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = if merge {
                Node { at: span_of(span), data: Data::Text("<<".into()), expanded: false }
            } else {
                self.key(event, span, depth)?
            };
            self.path.push(Step::Key(key_text(&key.data)));
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if merge {
                if merged.is_some() {
                    let error = self.error(key.at, "a second `<<` in the same map");
                    self.errors.push(error.hint("write `<<: [*first, *second]`"));
                }
                merged = Some(self.merge(value)?);
            } else if let Some(first) = places.get(&key_identity(&key.data)) {
                let first: Span = own.get(*first).map_or(key.at, |entry| entry.key.at);
                let error = self
                    .error(key.at, format!("duplicate key `{}`", key_text(&key.data).escape_debug()))
                    .hint(format!("it stands already in line {}, column {}", first.line, first.column));
                self.errors.push(error);
            } else {
                places.insert(key_identity(&key.data), own.len());
                own.push(Entry { key, value });
            }
            self.path.pop();
        }
    }

    fn key(&mut self, event: Event<'static>, span: ParserSpan, depth: usize) -> Result<Node, YamlError> {
        // To PyYAML a plain `=` is a text as a key, and nothing that it can read as a value.
        let equals = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "=");
        if equals {
            return Ok(Node { at: span_of(span), data: Data::Text("=".into()), expanded: false });
        }
        let scalar = matches!(event, Event::Scalar(..));
        // `null: x` has a key, `: x` has none.
        let missing = matches!(&event, Event::Scalar(text, ..) if text.is_empty());
        let key = self.node(event, span, depth + 1)?;
        if scalar && span.end.line() > span.start.line() {
            return Err(self.error(key.at, "a key must stand on one line"));
        }
        match key.data {
            Data::Null if missing => Err(self.error(key.at, "a key is missing before this `:`")),
            Data::List(_) | Data::Map(_) => Err(self
                .error(key.at, "a list or a map cannot be a key")
                .hint("if this is a value such as `{{ x }}` or `[x]`, put it in quotes")),
            Data::Null
            | Data::Bool(_)
            | Data::Int(_)
            | Data::BigInt(_)
            | Data::Float(_)
            | Data::Text(_)
            | Data::Timestamp(_) => Ok(key),
        }
    }

    /// What `<<: value` brings in. In a list the earlier map wins, so later ones come first here.
    fn merge(&mut self, value: Node) -> Result<Vec<Entry>, YamlError> {
        const MESSAGE: &str = "`<<` takes a map or a list of maps";
        match value.data {
            Data::Map(entries) => Ok(entries),
            Data::List(items) => {
                let mut merged = Vec::new();
                for item in items.into_iter().rev() {
                    let Data::Map(entries) = item.data else { return Err(self.error(item.at, MESSAGE)) };
                    merged.extend(entries);
                }
                Ok(merged)
            }
            Data::Null
            | Data::Bool(_)
            | Data::Int(_)
            | Data::BigInt(_)
            | Data::Float(_)
            | Data::Text(_)
            | Data::Timestamp(_) => Err(self.error(value.at, MESSAGE)),
        }
    }

    fn scalar(&mut self, at: Span, text: String, plain: bool, tag: Option<&Tag>) -> Result<Data, YamlError> {
        // The parser takes them, PyYAML does not.
        if plain && self.flow > 0 && (text.starts_with([':', '>', '|']) || text.contains('?')) {
            let message = "between brackets, a text with a `?`, or with `:`, `>` or `|` in front, must be in quotes";
            return Err(self.error(at, message));
        }
        // The tag `!` alone says nothing, to PyYAML.
        let result = match tag.filter(|tag| tag_name(tag) != "!") {
            None if plain => scalar::resolve(text),
            None => Ok(Data::Text(text)),
            Some(tag) => scalar::tagged(text, &tag_name(tag)),
        };
        result.map_err(|message| self.error(at, message).hint("put it in quotes if it is meant as a text"))
    }

    fn collection_tag(&self, at: Span, tag: Option<&Tag>, kind: &str) -> Result<(), YamlError> {
        let Some(tag) = tag else { return Ok(()) };
        let name = tag_name(tag);
        if name == "!" || name.strip_prefix(scalar::CORE) == Some(kind) {
            return Ok(());
        }
        Err(self.error(at, format!("the tag `{}` means nothing here", name.replace(scalar::CORE, "!!").escape_debug())))
    }

    fn count(&mut self, at: Span, nodes: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(self.error(at, format!("the file means more than {MAX_NODES} values, aliases included")));
        }
        Ok(())
    }

    fn error(&self, at: Span, message: impl Into<String>) -> YamlError {
        YamlError { path: path_text(&self.path), ..YamlError::new(at, message) }
    }

    fn syntax(&self, error: &ScanError) -> YamlError {
        let mark = error.marker();
        let at = Span { line: number(mark.line()), column: number(mark.col() + 1), width: 1 };
        let message = format!("is not YAML: {}", error.info());
        let error = self.error(at, message);
        match syntax_hint(&error.message) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// What most likely is behind a mistake in the grammar, by the parser's words for it.
fn syntax_hint(message: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["tab"]) {
        Some("indent with spaces, never with tabs")
    } else if says(&["unexpected character", "plain scalar cannot start", "unknown escape", "hexadecimal"]) {
        Some("put a text that begins with such a character in quotes; in double quotes a backslash is written twice")
    } else if says(&["unknown anchor", "anchor or alias"]) {
        Some("put a text that begins with `*` or `&` in quotes")
    } else if says(&["mapping values are not allowed", "illegal placement of ':'"]) {
        Some("put a text that holds `: ` in quotes, or mend the indentation")
    } else if says(&["quoted scalar", "flow ", "unexpected eof", "double-quoted"]) {
        Some("look for a quote or a bracket that is not closed")
    } else if says(&["block", "indent", "expected", "mapping keys"]) {
        Some("entries of one map or list begin in the same column: mend the indentation, or put a text in quotes")
    } else {
        None
    }
}

/// The entries of a map with what `<<` brings in: PyYAML puts that first, and own entries win.
fn combine(merged: Option<Vec<Entry>>, own: Vec<Entry>) -> Vec<Entry> {
    let Some(merged) = merged else { return own };
    let mut entries: Vec<Entry> = Vec::with_capacity(merged.len() + own.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for entry in merged.into_iter().chain(own) {
        let identity = key_identity(&entry.key.data);
        match places.get(&identity).and_then(|place| entries.get_mut(*place)) {
            Some(earlier) => *earlier = entry,
            None => {
                places.insert(identity, entries.len());
                entries.push(entry);
            }
        }
    }
    entries
}

/// What makes two keys the same: `1` and `"1"` differ, `1`, `1.0` and `true` do not, as in Python.
fn key_identity(key: &Data) -> String {
    match key {
        Data::Bool(value) => format!("number {:?}", f64::from(u8::from(*value))),
        #[expect(clippy::cast_precision_loss, reason = "two keys beyond 2^53 that collide are refused, not confused")]
        Data::Int(value) => format!("number {:?}", *value as f64),
        Data::Float(value) => format!("number {value:?}"),
        Data::Text(text) => format!("text {text}"),
        Data::Null | Data::BigInt(_) | Data::Timestamp(_) | Data::List(_) | Data::Map(_) => {
            format!("other {}", key_text(key))
        }
    }
}

fn tag_name(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

fn span_of(span: ParserSpan) -> Span {
    let width = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Span { line: number(span.start.line()), column: number(span.start.col() + 1), width: number(width.max(1)) }
}

/// The same event without a hold on the text: the parser cannot lend one out while it is asked for the next.
fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Nothing => Event::Nothing,
        Event::StreamStart => Event::StreamStart,
        Event::StreamEnd => Event::StreamEnd,
        Event::DocumentStart(explicit) => Event::DocumentStart(explicit),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::Alias(anchor) => Event::Alias(anchor),
        Event::Scalar(text, style, anchor, tag) => Event::Scalar(
            text.into_owned().into(),
            style,
            anchor,
            tag.map(|tag| std::borrow::Cow::Owned(tag.into_owned())),
        ),
        Event::SequenceStart(anchor, tag) => {
            Event::SequenceStart(anchor, tag.map(|tag| std::borrow::Cow::Owned(tag.into_owned())))
        }
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingStart(anchor, tag) => {
            Event::MappingStart(anchor, tag.map(|tag| std::borrow::Cow::Owned(tag.into_owned())))
        }
        Event::MappingEnd => Event::MappingEnd,
    }
}
