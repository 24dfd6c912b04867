//! Long JSON lists, element by element.
//!
//! Both the engine and ksqlDB answer with lists that grow with the cluster. Reading them in pieces keeps memory
//! flat, lets one odd element harm no other, and makes a list that was cut an error instead of a shorter list.

/// The longest element of a list, in bytes. A service with its previous spec fits one raft message of 1.5 MiB;
/// JSON can be several times as long as the bytes that it stands for.
pub(crate) const MAX_PIECE: usize = 8 << 20;

/// Splits the text of one JSON array into the texts of its elements, whatever the chunks it arrives in.
/// It knows only as much of JSON as that takes; an element is checked by whoever parses it.
#[derive(Default)]
pub(crate) struct Elements {
    place: Place,
    /// Brackets open inside the present element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The part of the present element that came with earlier chunks.
    held: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before `[`.
    #[default]
    Before,
    /// Between elements.
    Between,
    /// Inside an element.
    Inside,
    /// After `]`.
    After,
    /// The answer was `null`, which the engine means as an empty list.
    Null(usize),
}

impl Elements {
    /// Takes the next chunk and hands on every element that it completes.
    pub(crate) fn feed(&mut self, chunk: &[u8], each: &mut impl FnMut(&[u8])) -> Result<(), String> {
        let mut start = 0;
        let mut next = 0;
        while let Some(&byte) = chunk.get(next) {
            if self.in_string && !self.escaped {
                // Most of a list is texts, of which only these two bytes matter.
                let Some(ahead) = memchr::memchr2(b'"', b'\\', &chunk[next..]) else { break };
                next += ahead;
                self.step(chunk[next]);
                next += 1;
                continue;
            }
            let at = next;
            next += 1;
            match self.place {
                Place::Before => match byte {
                    b'[' => self.place = Place::Between,
                    b'n' => self.place = Place::Null(1),
                    _ if byte.is_ascii_whitespace() => {}
                    _ => return Err("it is not a list".into()),
                },
                Place::Null(at) => match b"null".get(at) {
                    Some(&wanted) if wanted == byte => self.place = Place::Null(at + 1),
                    None if byte.is_ascii_whitespace() => {}
                    _ => return Err("it is not a list".into()),
                },
                Place::Between => match byte {
                    b']' => self.place = Place::After,
                    b',' => {}
                    _ if byte.is_ascii_whitespace() => {}
                    _ => {
                        (self.place, start) = (Place::Inside, at);
                        self.step(byte);
                    }
                },
                Place::Inside => {
                    let ends = !self.in_string && self.depth == 0 && matches!(byte, b',' | b']');
                    if !ends {
                        self.step(byte);
                        continue;
                    }
                    if self.held.is_empty() {
                        each(&chunk[start..at]);
                    } else {
                        self.held.extend_from_slice(&chunk[start..at]);
                        each(&self.held);
                        self.held.clear();
                    }
                    self.place = if byte == b']' { Place::After } else { Place::Between };
                }
                Place::After if byte.is_ascii_whitespace() => {}
                Place::After => return Err("something follows the list".into()),
            }
        }
        if self.place == Place::Inside {
            self.held.extend_from_slice(&chunk[start..]);
            if self.held.len() > MAX_PIECE {
                return Err(format!("an element is longer than {} MiB", MAX_PIECE >> 20));
            }
        }
        Ok(())
    }

    /// Whether the list was whole.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.place {
            Place::After | Place::Null(4) => Ok(()),
            Place::Before | Place::Between | Place::Inside | Place::Null(_) => Err("the list was cut".into()),
        }
    }

    /// Follows strings and brackets inside an element.
    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements of a text that arrives in chunks of `size` bytes.
    fn split(text: &str, size: usize) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let mut elements = Elements::default();
        for chunk in text.as_bytes().chunks(size) {
            elements.feed(chunk, &mut |element| found.push(String::from_utf8(element.to_vec()).unwrap()))?;
        }
        elements.end().map(|()| found)
    }

    #[test]
    fn elements_are_the_same_in_chunks_of_any_size() {
        let text = r#" [ {"a":"],{\"\\"} , [1,[2]],"x,]",7,null ] "#;
        for size in 1..text.len() {
            let found = split(text, size).unwrap();
            let trimmed: Vec<&str> = found.iter().map(|element| element.trim()).collect();
            assert_eq!(trimmed, [r#"{"a":"],{\"\\"}"#, "[1,[2]]", "\"x,]\"", "7", "null"], "chunks of {size}");
        }
        assert!(split("[]", 1).unwrap().is_empty());
        assert!(split("null\n", 1).unwrap().is_empty());
    }

    #[test]
    fn a_list_that_was_cut_is_an_error() {
        let text = r#"[{"a":1},{"b":2}]"#;
        for end in 0..text.len() {
            assert!(split(&text[..end], 3).is_err(), "{}", &text[..end]);
        }
        for bad in ["{}", "[1]x", "nul", "nulls", "\"[]\""] {
            assert!(split(bad, 2).is_err(), "{bad}");
        }
    }
}
