//! Active health checks: asks every endpoint of an upstream whether it is well, on the control thread.
//!
//! An endpoint is up until its check has failed `fall` times in a row, and down until it has passed `rise` times.
//! Starts are spread over one interval, so that a thousand endpoints are not asked in the same moment.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use crate::config::{HealthCheck, HealthCheckKind};
use crate::http::h1::{self, Limits};
use crate::http::head::ResponseHead;
use crate::net::Transport;
use crate::upstream::endpoint::EndpointId;
use crate::upstream::{Shared, Target, connect};

/// What is read of a check's response.
const LIMITS: Limits = Limits { max_head: 32 * 1024, max_fields: 128, max_target: 0 };

/// Checks one endpoint for ever, and tells the upstream's health. Dropping the future ends the check.
pub(crate) async fn run(shared: Arc<Shared>, id: EndpointId) {
    let Some(config) = &shared.config.health else { return };
    let (Some(endpoint), Some(target)) = (shared.endpoints.get(id as usize), shared.targets.get(id as usize)) else {
        return;
    };
    let mut streak = Streak::new(config.rise, config.fall);
    sleep(config.interval.mul_f64(fastrand::f64())).await;
    loop {
        if shared.health.is_down(id) {
            sleep(config.interval).await;
            continue;
        }
        let checked = match timeout(config.timeout, check(config, target, &endpoint.address)).await {
            Ok(checked) => checked,
            Err(elapsed) => Err(elapsed.into()),
        };
        let passed = checked.is_ok();
        if let Some(up) = streak.observe(passed) {
            if let Some(state) = shared.health.state(id) {
                state.checked(up);
            }
            let (upstream, endpoint) = (&shared.name, &endpoint.address);
            match checked {
                Ok(()) => tracing::info!(%upstream, %endpoint, "its check passes again"),
                Err(error) => tracing::warn!(%upstream, %endpoint, %error, "takes no traffic until its check passes"),
            }
        }
        if passed && shared.health.check_passed(id, Instant::now()) {
            let (upstream, endpoint) = (&shared.name, &endpoint.address);
            tracing::info!(%upstream, %endpoint, "its check passes, which ends its ejection");
        }
        sleep(config.interval).await;
    }
}

/// Results in a row, and what they make of an endpoint.
#[derive(Debug)]
struct Streak {
    rise: u32,
    fall: u32,
    is_up: bool,
    /// Results in a row that speak against `is_up`.
    against: u32,
}

impl Streak {
    fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, is_up: true, against: 0 }
    }

    /// Takes one result; answers the new state when it changes.
    fn observe(&mut self, passed: bool) -> Option<bool> {
        if passed == self.is_up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if passed { self.rise } else { self.fall };
        if self.against < needed {
            return None;
        }
        (self.is_up, self.against) = (passed, 0);
        Some(passed)
    }
}

async fn check(config: &HealthCheck, target: &Target, address: &str) -> io::Result<()> {
    let stream = connect(target, config.timeout, None).await.map_err(|(_, error)| error)?;
    let HealthCheckKind::Http { method, path, host, expect } = &config.kind else { return Ok(()) };
    let mut transport = Transport::new(stream, config.timeout, config.timeout);
    let host = host.as_deref().unwrap_or(address);
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: staunch\r\nconnection: close\r\n\r\n");
    transport.output.extend_from_slice(request.as_bytes());
    poll_fn(|cx| transport.poll_flush(cx)).await?;
    let status = status(&mut transport).await?;
    if expect.iter().any(|&(first, last)| (first..=last).contains(&status)) {
        Ok(())
    } else {
        Err(io::Error::other(format!("it answered {status}")))
    }
}

/// The status of the final response.
async fn status(transport: &mut Transport) -> io::Result<u16> {
    let mut head = ResponseHead::default();
    loop {
        let parsed = h1::parse_response(transport.input.bytes(), &LIMITS, &mut head);
        match parsed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? {
            Some(length) => {
                transport.input.consume(length);
                if head.status >= 200 {
                    return Ok(head.status);
                }
            }
            None => {
                transport.input.grow(LIMITS.max_head);
                if transport.fill().await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_in_a_row_change_the_state() {
        let mut streak = Streak::new(2, 3);

        let changes: Vec<_> = "--+---+-++-".chars().map(|result| streak.observe(result == '+')).collect();

        let mut expected = vec![None; 11];
        (expected[5], expected[9]) = (Some(false), Some(true));
        assert_eq!(changes, expected);
    }
}
