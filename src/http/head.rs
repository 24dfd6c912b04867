//! Whether the head of a request says one thing and no other: which host it is for, and how long its body is.
//!
//! What contradicts itself is refused, since a proxy before us may have understood it otherwise (RFC 9112, sections 3.2 and
//! 6.3).

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};

use super::problem::Problem;

/// Marks a request whose length is named in two ways.
#[derive(Debug, Clone, Copy)]
pub(super) struct AmbiguousLength;

/// The port of a host that names none.
const DEFAULT_PORT: u16 = 80;

/// A host as a request names it: in lower case, without a final dot, with its port.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    name: String,
    port: u16,
}

impl Host {
    /// `NAME`, `NAME:PORT`, `[IPv6]`, `[IPv6]:PORT`, and nothing else.
    fn parse(text: &str) -> Option<Host> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (
                    address.parse::<Ipv6Addr>().ok()?.to_string(),
                    port.strip_prefix(':').or(port.is_empty().then_some(""))?,
                )
            }
            None => {
                let (name, port) = text.split_once(':').unwrap_or((text, ""));
                let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                let bare = name.strip_suffix('.').unwrap_or(name);
                if bare.is_empty() || !bare.chars().all(fits) {
                    return None;
                }
                (bare.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            "" => DEFAULT_PORT,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
            _ => return None,
        };
        Some(Host { name, port })
    }

    /// Whether no foreign name server can point it elsewhere.
    fn is_local(&self) -> bool {
        self.name == "localhost" || self.name.ends_with(".localhost") || self.name.parse::<IpAddr>().is_ok()
    }
}

/// Checks the head of a request. On a `loopback` address it must name us by an IP address or as `localhost`; requests of
/// HTTP/1.0 may name nobody.
///
/// # Errors
/// What to answer instead.
pub(super) fn check(request: &Request, loopback: bool) -> Result<(), Problem> {
    if request.extensions().get::<AmbiguousLength>().is_some() {
        return Err(Problem::bad_request("the request names both a Content-Length and a Transfer-Encoding"));
    }
    let host = host(request.version(), request.headers(), request.uri())?;
    match host {
        Some(host) if loopback && !host.is_local() => Err(Problem::foreign_host()),
        Some(_) | None => Ok(()),
    }
}

fn host(version: Version, headers: &HeaderMap, uri: &Uri) -> Result<Option<Host>, Problem> {
    let mut named = headers.get_all(header::HOST).iter();
    let header = match (named.next(), named.next()) {
        (Some(_), Some(_)) => return Err(Problem::bad_request("the request has several Host headers")),
        (None, _) if version == Version::HTTP_11 => return Err(Problem::bad_request("the request has no Host header")),
        (None, _) => None,
        (Some(value), None) => {
            let host = value.to_str().ok().and_then(|text| Host::parse(text.trim()));
            Some(host.ok_or_else(|| Problem::bad_request("the Host header is not a name or an address with a port"))?)
        }
    };
    let Some(authority) = uri.authority().map(Authority::as_str) else { return Ok(header) };
    let target = Host::parse(authority)
        .ok_or_else(|| Problem::bad_request("the request's target does not name a host with a port"))?;
    match header {
        Some(header) if header != target => {
            Err(Problem::bad_request("the request's target names another host than its Host header"))
        }
        Some(_) | None => Ok(Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(host: &str) -> Request {
        Request::builder().header(header::HOST, host).body(Body::empty()).unwrap()
    }

    #[test]
    fn only_names_that_nobody_can_re_point_are_local() {
        for local in [
            "localhost",
            "LOCALHOST:8420",
            "127.0.0.1",
            "127.0.0.1:8420",
            "[::1]:8420",
            "10.0.0.7",
            "ofop.localhost",
            "localhost.",
        ] {
            assert!(check(&request(local), true).is_ok(), "{local}");
        }
        for foreign in ["evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!Host::parse(foreign).unwrap().is_local(), "{foreign}");
            assert!(check(&request(foreign), true).is_err() && check(&request(foreign), false).is_ok(), "{foreign}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_wherever_we_listen() {
        for odd in [
            "",
            ".",
            ":80",
            "localhost:80@evil",
            "localhost:99999",
            "localhost:+80",
            "localhost:80:80",
            "me@localhost",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[localhost]",
            "::1",
            "a b",
            "localhost/",
            "localhost,evil",
            "evil%2eexample",
        ] {
            assert_eq!(Host::parse(odd), None, "{odd}");
            assert!(check(&request(odd), false).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_same_host_may_be_written_in_two_ways() {
        let host = |uri: &str, host: &str| {
            let request = Request::builder().uri(uri).header(header::HOST, host).body(Body::empty()).unwrap();
            check(&request, true).is_ok()
        };
        assert!(host("http://LOCALHOST/healthz", "localhost:80"));
        assert!(!host("http://localhost/healthz", "localhost:8420"));
        assert!(!host("http://me@localhost/healthz", "localhost"));
    }
}
