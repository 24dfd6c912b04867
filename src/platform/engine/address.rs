//! Where an engine is, as `DOCKER_HOST` writes it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::platform::PlatformError;

/// Port of the API without TLS (Docker Engine API).
const PLAIN_PORT: u16 = 2375;
/// Port of the API with TLS (Docker Engine API).
const TLS_PORT: u16 = 2376;

/// Where an engine is and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and port, without protection.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A host and port behind TLS, both sides with certificates.
    Tls {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// Directory with `ca.pem`, `cert.pem` and `key.pem`.
        certificates: PathBuf,
    },
}

impl Address {
    /// Reads an address: `unix://PATH`, `tcp://HOST[:PORT]`, `http://HOST[:PORT]`, `https://HOST[:PORT]`, or the
    /// bare path of a socket. With a directory of certificates, `tcp://` means TLS.
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(text: &str, certificates: Option<&Path>) -> Result<Address, PlatformError> {
        let refuse = |reason: &str, hint: &str| {
            Err(PlatformError {
                message: format!("`{text}` is not an address of a Docker Engine that ofop can use: {reason}"),
                hint: Some(hint.to_owned()),
            })
        };
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return refuse("it has no scheme", "write it as unix:///var/run/docker.sock or tcp://HOST:2376");
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "unix" => refuse("the path of a socket begins with `/`", "write it as unix:///var/run/docker.sock"),
            "tcp" | "http" | "https" => {
                let secure = scheme == "https" || (scheme == "tcp" && certificates.is_some());
                let default = if secure { TLS_PORT } else { PLAIN_PORT };
                let rest = rest.trim_end_matches('/');
                let Some((host, port)) = split_port(rest, default) else {
                    return refuse("it names no host and port", "write it as tcp://HOST:2376");
                };
                match (secure, certificates) {
                    (false, _) => Ok(Address::Tcp { host, port }),
                    (true, Some(directory)) => Ok(Address::Tls { host, port, certificates: directory.into() }),
                    (true, None) => refuse(
                        "TLS needs certificates",
                        "set DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem",
                    ),
                }
            }
            "ssh" => refuse(
                "ofop does not speak ssh itself",
                "forward the socket and name it: ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST, then \
                 --host unix:///tmp/docker.sock",
            ),
            _ => refuse("its scheme is unknown", "unix://, tcp://, http:// and https:// are known"),
        }
    }

    /// What goes into the `Host` header.
    pub(super) fn authority(&self) -> String {
        match self {
            Address::Unix(_) => "localhost".into(),
            Address::Tcp { host, port } | Address::Tls { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port } | Address::Tls { host, port, .. } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// Host and port; a host of IPv6 keeps its brackets.
fn split_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match plain {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    valid.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        Address::parse(text, None).unwrap()
    }

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        assert_eq!(parsed("unix:///run/d.sock"), Address::Unix("/run/d.sock".into()));
        assert_eq!(parsed("/run/d.sock"), Address::Unix("/run/d.sock".into()));
        assert_eq!(parsed("tcp://m1"), Address::Tcp { host: "m1".into(), port: 2375 });
        assert_eq!(parsed("tcp://10.0.0.1:99/"), Address::Tcp { host: "10.0.0.1".into(), port: 99 });
        assert_eq!(parsed("http://[::1]:99"), Address::Tcp { host: "[::1]".into(), port: 99 });
        assert_eq!(
            Address::parse("tcp://m1", Some(Path::new("/certs"))).unwrap(),
            Address::Tls { host: "m1".into(), port: 2376, certificates: "/certs".into() }
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_hint() {
        for bad in ["", "m1:2375", "unix://run/x", "tcp://", "tcp://m1:x", "tcp://a b:1", "https://m1", "npipe:////./x"]
        {
            assert!(Address::parse(bad, None).unwrap_err().hint.is_some(), "{bad}");
        }
        let ssh = Address::parse("ssh://me@m1", None).unwrap_err();
        assert!(ssh.hint.unwrap().contains("ssh -nNT -L"));
    }
}
