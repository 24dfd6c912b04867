//! Answers in the forms in which the server sends them: which of them have a content type, which come in chunks, and
//! what an error says beside its message. Each is as in a capture of `tests/ksqldb_wire/`.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The format that `ofop` asks for.
pub(super) const V1_JSON: &str = "application/vnd.ksql.v1+json";
pub(super) const DELIMITED: &str = "application/vnd.ksqlapi.delimited.v1";
const JSON: &str = "application/json";

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    body: Value,
    content_type: Option<&'static str>,
    chunked: bool,
    realm: bool,
}

impl Refusal {
    /// A statement that is not taken.
    pub(super) fn statement(sql: &str, message: impl Into<String>) -> Refusal {
        Refusal::statement_code(400, 40001, sql, message)
    }

    pub(super) fn statement_code(status: u16, code: u32, sql: &str, message: impl Into<String>) -> Refusal {
        let message: String = message.into();
        Refusal {
            status,
            body: json!({
                "@type": "statement_error", "error_code": code, "message": message, "statementText": sql,
                "entities": [],
            }),
            content_type: Some(JSON),
            chunked: false,
            realm: false,
        }
    }

    /// An error of the request or the server, without the statement.
    pub(super) fn generic(status: u16, code: u32, message: impl Into<String>) -> Refusal {
        let message: String = message.into();
        let body = json!({"@type": "generic_error", "error_code": code, "message": message});
        Refusal { status, body, content_type: None, chunked: false, realm: false }
    }

    /// With `application/json`.
    pub(super) fn typed(self) -> Refusal {
        Refusal { content_type: Some(JSON), ..self }
    }

    /// As the planner of pull queries sends it: in chunks, without a content type.
    pub(super) fn planner(self) -> Refusal {
        Refusal { content_type: None, chunked: true, ..self }
    }

    /// Found while a query is answered.
    pub(super) fn internal() -> Refusal {
        let message = "The server encountered an internal error when processing the query. Please consult the \
                       server logs for more information.";
        let refusal = Refusal::generic(500, 50000, message);
        Refusal { content_type: Some(V1_JSON), chunked: true, ..refusal }
    }

    pub(super) fn unauthorized(realm: bool) -> Refusal {
        Refusal { realm, ..Refusal::generic(401, 40100, "Unauthorized") }
    }

    pub(super) fn not_ready() -> Refusal {
        Refusal::generic(503, 50302, "KSQL is not yet ready to serve requests.")
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = self.body.to_string();
        let body = if self.chunked { in_chunks(vec![text]) } else { Body::from(text) };
        let mut response = Response::builder().status(StatusCode::from_u16(self.status).unwrap());
        if let Some(content_type) = self.content_type {
            response = response.header("content-type", content_type);
        }
        if self.realm {
            response = response.header("WWW-Authenticate", "Basic realm=\"KsqlServer-Props\"");
        }
        response.body(body).unwrap()
    }
}

/// What `/ksql` answers when it has carried a statement out.
pub(super) fn entities(entities: &[Value]) -> Response {
    let text = Value::from(entities.to_vec()).to_string();
    Response::builder().header("content-type", JSON).body(Body::from(text)).unwrap()
}

/// A body whose length is not said before; each part is a chunk.
pub(super) fn in_chunks(parts: Vec<String>) -> Body {
    let parts = parts.into_iter().map(|part| Ok::<_, std::convert::Infallible>(Bytes::from(part)));
    Body::from_stream(futures_util::stream::iter(parts))
}

/// Rows in one of the forms in which the server sends them.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Format {
    /// A list with a header, rows, and its bracket at the end.
    V1,
    /// A line for each.
    Delimited,
    /// A list of lists.
    Json,
}

/// What a query found.
pub(super) struct Rows {
    pub(super) query: String,
    /// Name, type, and whether it is shown as the key.
    pub(super) columns: Vec<(String, String, bool)>,
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) limit_reached: bool,
}

impl Rows {
    /// The rows, as an answer that is cut in the middle if that is wanted.
    pub(super) fn response(&self, format: Format, cut: bool) -> Response {
        let names: Vec<&str> = self.columns.iter().map(|(name, _, _)| name.as_str()).collect();
        let kinds: Vec<&str> = self.columns.iter().map(|(_, kind, _)| kind.as_str()).collect();
        let described = json!({"queryId": self.query, "columnNames": names, "columnTypes": kinds}).to_string();
        let mut parts = Vec::with_capacity(self.rows.len() + 2);
        let content_type = match format {
            Format::V1 => {
                let schema: Vec<String> = self
                    .columns
                    .iter()
                    .map(|(name, kind, key)| format!("`{name}` {kind}{}", if *key { " KEY" } else { "" }))
                    .collect();
                let header = json!({"header": {"queryId": self.query, "schema": schema.join(", ")}});
                parts.push(format!("[{header}"));
                parts.extend(self.rows.iter().map(|row| format!(",\n{}", json!({"row": {"columns": row}}))));
                if self.limit_reached {
                    parts.push(format!(",\n{}", json!({"finalMessage": "Limit Reached"})));
                }
                parts.push("]".to_owned());
                V1_JSON
            }
            Format::Delimited => {
                parts.push(format!("{described}\n"));
                parts.extend(self.rows.iter().map(|row| format!("{}\n", json!(row))));
                DELIMITED
            }
            Format::Json => {
                parts.push(format!("[{described}"));
                parts.extend(self.rows.iter().map(|row| format!(",{}", json!(row))));
                parts.push("]".to_owned());
                JSON
            }
        };
        let mut text = parts.concat();
        if cut {
            let half = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.truncate(half);
        }
        // The server sends what its buffer holds; nobody may rely on where one chunk ends.
        let mut chunks = Vec::new();
        while text.len() > 8192 {
            let at = (0..=8192).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            chunks.push(text.drain(..at).collect());
        }
        chunks.push(text);
        Response::builder().header("content-type", content_type).body(in_chunks(chunks)).unwrap()
    }
}
