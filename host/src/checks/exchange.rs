//! A check of any protocol: bytes sent as they are, and bytes that must come.
//!
//! What passes is looked for in the first [`SEARCHED`] bytes, wherever it stands there (HAProxy's `tcp-check expect`),
//! and as soon as it has come: the endpoint need not close the connection.

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::outcome::{Failure, shown};
use super::question::Channel;
use crate::config::{ExchangeCheck, Expected, Pattern};

/// Bytes of an answer that are searched: HAProxy's buffer.
const SEARCHED: usize = 16 * 1024;

/// Sends the bytes and waits for those that are expected. Answers the first line of what came.
pub(super) async fn ask(channel: &mut impl Channel, question: &ExchangeCheck) -> Result<String, Failure> {
    if !question.send.is_empty() {
        channel.write_all(&question.send).await.map_err(Failure::Broken)?;
        channel.flush().await.map_err(Failure::Broken)?;
    }
    let mut answer = Vec::with_capacity(512);
    let mut rest = channel.take(SEARCHED as u64);
    loop {
        let came = rest.read_buf(&mut answer).await.map_err(Failure::Broken)?;
        if came > 0 && is_met(&question.expect, &answer) {
            return Ok(shown(&answer));
        }
        if came == 0 {
            return Err(match &answer[..] {
                [] => Failure::Closed,
                answer => Failure::Answer(format!("what is expected is not in its answer: {}", shown(answer))),
            });
        }
    }
}

fn is_met(expected: &Expected, answer: &[u8]) -> bool {
    match expected {
        Expected::Anything => true,
        Expected::Bytes(bytes) => memmem::find(answer, bytes).is_some(),
        Expected::Pattern(Pattern(pattern)) => pattern.is_match(answer),
    }
}
