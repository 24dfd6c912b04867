//! The head of a request, for proxies that look at each one.

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Reads up to the end of a head, and whatever comes with it of the body; where the head ends, and none when the client leaves
/// before.
pub async fn read(client: &mut UnixStream, request: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(end));
        }
        if client.read_buf(request).await? == 0 {
            return Ok(None);
        }
    }
}
