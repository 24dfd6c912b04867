//! The files that the pages load: ours, embedded, none from elsewhere.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub(super) async fn css() -> Response {
    asset("text/css; charset=utf-8", include_str!("assets/status.css"))
}

pub(super) async fn js() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("assets/status.js"))
}

pub(super) async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/icon.svg"))
}

fn asset(kind: &'static str, content: &'static str) -> Response {
    // Revalidated on each load: a new version of the operator brings new files under the same names.
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (StatusCode::OK, headers.map(|(name, value)| (name, HeaderValue::from_static(value))), content).into_response()
}
