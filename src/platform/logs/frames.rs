//! From the engine's frames to lines. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::{LogLine, LogStream};

/// The most bytes of one frame: the engine splits lines at 16 KiB and puts a few attributes in front.
const MAX_FRAME: usize = 1 << 20;
/// The most bytes of one line that are kept.
const MAX_LINE: usize = 64 << 10;
/// The head of a frame: its stream, three zeros, its length.
const HEAD: usize = 8;

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: LogStream,
    pub(super) payload: Vec<u8>,
}

/// Finds frames in what arrives.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    held: Vec<u8>,
    /// Where the next frame begins in `held`.
    from: usize,
}

impl Scanner {
    /// Takes in bytes as they arrive.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.drain(..self.from);
        self.from = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame. What begins with no head comes from a program with a terminal: there each line is a frame.
    ///
    /// # Errors
    /// When a frame is absurdly long.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, String> {
        let held = &self.held[self.from..];
        let Some(&kind) = held.first() else { return Ok(None) };
        if kind > 3 {
            let end = match held.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if held.len() > MAX_FRAME => held.len(),
                None => return Ok(None),
            };
            let frame = Frame { stream: LogStream::Out, payload: held[..end].to_vec() };
            self.from += end;
            return Ok(Some(frame));
        }
        let Some((head, rest)) = held.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > MAX_FRAME {
            return Err(format!("a piece of output of {length} bytes"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let stream = match kind {
            2 => LogStream::Err,
            3 => LogStream::Engine,
            _ => LogStream::Out,
        };
        let frame = Frame { stream, payload: payload.to_vec() };
        self.from += HEAD + length;
        Ok(Some(frame))
    }

    /// What is left at the end: a last line without an end.
    pub(super) fn rest(&mut self) -> Option<Frame> {
        let held = self.held.split_off(self.from);
        self.held.clear();
        self.from = 0;
        (held.first()? > &3).then_some(Frame { stream: LogStream::Out, payload: held })
    }
}

/// Puts pieces of lines together: pieces of different tasks may come in turn.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: BTreeMap<(String, LogStream), LogLine>,
    lines: VecDeque<LogLine>,
}

impl Joiner {
    /// Takes in a frame.
    pub(super) fn add(&mut self, frame: &Frame) {
        let (time, task, text) = match frame.stream {
            LogStream::Engine => (String::new(), String::new(), String::from_utf8_lossy(&frame.payload).into_owned()),
            LogStream::Out | LogStream::Err => parts(&frame.payload),
        };
        let (text, ends) = match text.strip_suffix('\n') {
            Some(text) => (text.strip_suffix('\r').unwrap_or(text), true),
            None => (text.as_str(), frame.stream == LogStream::Engine),
        };
        let key = (task.clone(), frame.stream);
        let line = self.open.entry(key.clone()).or_insert_with(|| LogLine {
            time,
            task,
            stream: frame.stream,
            text: String::new(),
        });
        append(&mut line.text, text);
        if ends {
            self.lines.extend(self.open.remove(&key));
        }
    }

    /// Lets what has no end yet be lines.
    pub(super) fn end(&mut self) {
        self.lines.extend(std::mem::take(&mut self.open).into_values());
    }

    /// Whether a line is ready.
    pub(super) fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The next line.
    pub(super) fn take(&mut self) -> Option<LogLine> {
        self.lines.pop_front()
    }
}

/// Appends up to the most that a line holds; what is left out shows as `…`.
fn append(line: &mut String, text: &str) {
    let is_cut = line.len() >= MAX_LINE && line.ends_with('…');
    let room = MAX_LINE.saturating_sub(line.len());
    if text.len() <= room || is_cut {
        line.push_str(if is_cut { "" } else { text });
        return;
    }
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    line.push_str(&text[..end]);
    line.push('…');
}

/// Time, task and text of a piece: `TIME KEY=VALUE,… TEXT`.
fn parts(payload: &[u8]) -> (String, String, String) {
    let text = String::from_utf8_lossy(payload);
    let Some((time, rest)) = text.split_once(' ') else { return (String::new(), String::new(), text.into_owned()) };
    let (details, text) = rest.split_once(' ').unwrap_or(("", rest));
    let task = details.split(',').find_map(|detail| detail.strip_prefix("com.docker.swarm.task.id="));
    (time.to_owned(), task.unwrap_or_default().to_owned(), text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    fn lines(bytes: &[u8], size: usize) -> Vec<(LogStream, String, String)> {
        let (mut scanner, mut joiner) = (Scanner::default(), Joiner::default());
        for chunk in bytes.chunks(size) {
            scanner.feed(chunk);
            while let Some(frame) = scanner.next().unwrap() {
                joiner.add(&frame);
            }
        }
        scanner.rest().iter().for_each(|frame| joiner.add(frame));
        joiner.end();
        std::iter::from_fn(|| joiner.take()).map(|line| (line.stream, line.task, line.text)).collect()
    }

    #[test]
    fn lines_are_put_together_from_any_chunks_of_any_tasks() {
        let detail = |task: &str| {
            format!("2026-01-02T03:04:05.000000000Z com.docker.swarm.node.id=n,com.docker.swarm.task.id={task}")
        };
        let stream = [
            framed(1, &format!("{} cannot reach ", detail("t1"))),
            framed(2, &format!("{} warning: a b\r\n", detail("t2"))),
            framed(1, &format!("{} PLC 10.1.2.3\n", detail("t1"))),
            framed(3, "incomplete log stream"),
            framed(1, &format!("{} no end", detail("t1"))),
        ]
        .concat();
        for size in 1..stream.len() {
            let found = lines(&stream, size);
            let all = [
                (LogStream::Err, "t2".to_owned(), "warning: a b".to_owned()),
                (LogStream::Out, "t1".to_owned(), "cannot reach PLC 10.1.2.3".to_owned()),
                (LogStream::Engine, String::new(), "incomplete log stream".to_owned()),
                (LogStream::Out, "t1".to_owned(), "no end".to_owned()),
            ];
            assert_eq!(found, all, "{size}");
        }
    }

    #[test]
    fn output_of_a_program_with_a_terminal_has_no_frames() {
        let stream = b"2026-01-02T03:04:05.000000000Z  one\r\n2026-01-02T03:04:05.000000000Z  two";
        for size in 1..stream.len() {
            let texts: Vec<String> = lines(stream, size).into_iter().map(|(_, _, text)| text).collect();
            assert_eq!(texts, ["one", "two"], "{size}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_or_refused() {
        let piece = format!("2026-01-02T03:04:05.000000000Z  {}", "ä".repeat(16 << 10));
        let stream = (0..5).flat_map(|_| framed(1, &piece)).chain(framed(1, "t  end\n")).collect::<Vec<_>>();
        let found = lines(&stream, 100_000);
        assert_eq!(found.len(), 1);
        assert!(found[0].2.len() <= MAX_LINE + 3 && found[0].2.ends_with('…'), "{}", found[0].2.len());
        let mut scanner = Scanner::default();
        scanner.feed(&[1, 0, 0, 0, 255, 0, 0, 0]);
        assert!(scanner.next().is_err());
    }
}
