//! The lines of a stream.

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::failure::{Act, CallError};
use crate::elements::MAX_PIECE;

/// The lines of a stream that does not end by itself.
pub struct Lines {
    act: Act,
    body: Incoming,
    held: Vec<u8>,
    /// Where the next line may begin in `held`.
    from: usize,
}

impl Lines {
    pub(super) fn new(act: Act, body: Incoming) -> Lines {
        Lines { act, body, held: Vec::new(), from: 0 }
    }

    /// The next line without its end; none when the stream has ended. Can be dropped while it waits without
    /// losing a byte.
    ///
    /// # Errors
    /// When the connection is lost or a line is absurdly long.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        loop {
            if let Some(end) = self.held[self.from..].iter().position(|&byte| byte == b'\n') {
                let line = self.held[self.from..self.from + end].to_vec();
                self.from += end + 1;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.held.drain(..self.from);
            self.from = 0;
            if self.held.len() > MAX_PIECE {
                let message = format!("a line is longer than {} MiB", MAX_PIECE >> 20);
                return Err(CallError::Answer { act: self.act, message });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(CallError::lost(self.act, &error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
