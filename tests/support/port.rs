//! Ports for servers that take a number and no open listener.
//!
//! A port that was bound and closed a moment ago can be given away twice before its server starts: to the next who asks
//! in the same way, and to any connection that goes out. So these ports come from below the range that the kernel draws
//! from, and each belongs to the process that claimed it until that process ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "support for tests")]

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Linux draws ports from 32,768 on for everything that asks for any.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What keeps the others from a claimed port: sockets without a file, which the kernel takes back with the process.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on and no other test is given.
pub(crate) fn claim() -> u16 {
    // From another place in each process, so that the first claims of two seldom meet.
    let first = usize::try_from(std::process::id()).unwrap() * 31 + CLAIMS.lock().unwrap().len();
    for port in PORTS.cycle().skip(first % PORTS.len()).take(PORTS.len()) {
        let name = SocketAddr::from_abstract_name(format!("ofop-tests-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
    panic!("every port from {} to {} is taken", PORTS.start, PORTS.end - 1);
}
