//! Requests and answers of a real ksqlDB 7.7.0, captured byte for byte in `tests/ksqldb_wire`, for the unit tests.

use std::path::Path;

/// An answer as the server gave it.
pub(super) struct Captured {
    /// HTTP status.
    pub(super) status: u16,
    /// The body, without the marks of its chunks.
    pub(super) body: String,
}

/// The text of a file with captures.
pub(super) fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ksqldb_wire").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("\r\n", "\n")
}

/// The answer in a file that holds one.
pub(super) fn capture(file: &str) -> Captured {
    let text = text(file);
    let answer = &text[text.find("HTTP/1.1 ").unwrap_or_else(|| panic!("{file} has no status line"))..];
    read(answer)
}

/// The statement that a file's request holds.
pub(super) fn statement(file: &str) -> String {
    let text = text(file);
    let body = text.lines().filter_map(|line| line.strip_prefix(">>> ")).find(|line| line.starts_with('{')).unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["ksql"].as_str().unwrap().to_owned()
}

/// The statements and answers in a file that holds many.
pub(super) fn answers(file: &str) -> Vec<(String, Captured)> {
    let text = text(file);
    text.split("\n>>> ")
        .skip(1)
        .map(|case| {
            let (statement, answer) = case.split_once("\n<<< ").unwrap();
            (statement.to_owned(), read(answer))
        })
        .collect()
}

fn read(answer: &str) -> Captured {
    let status = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
    let mark = |line: &&str| !line.is_empty() && u32::from_str_radix(line, 16).is_err();
    Captured { status, body: body.lines().filter(mark).collect::<Vec<_>>().join("\n") }
}
