//! A connection becomes one to an endpoint, for a client of which nothing is understood.
//!
//! It is a request without a head: it waits for its turn, is picked for and tried elsewhere like any other, and what the
//! endpoint answers is that there is a connection. Only the connecting is tried again: what comes after it may have been
//! heard.

use std::io;
use std::rc::Rc;

use tokio::time::Instant;

use crate::config::Priority;
use crate::http::facts::{AttemptFacts, Exchange};
use crate::http::h1::{BodyKind, Limits};
use crate::http::upload::Upload;
use crate::net::{Transport, announce};
use crate::upstream::attempt::Sending;
use crate::upstream::connect::{Connected, Manner, Way, connect};
use crate::upstream::endpoint::EndpointId;
use crate::upstream::retry::Failure;
use crate::upstream::{Response, Shared, Upstream, UpstreamError};

/// What the status of an exchange says that is no request: that its client has a connection (nginx's stream `$status`).
pub(crate) const CONNECTED: u16 = 200;

impl Upstream {
    /// Opens a connection for a client. It counts as a request in flight until it is dropped.
    pub(crate) async fn open(
        self: &Rc<Self>,
        exchange: &mut Exchange,
        client: &mut Transport,
        limits: &Limits,
    ) -> Result<Response, UpstreamError> {
        let mut upload = Upload::new(BodyKind::None, false, None);
        exchange.response.status = CONNECTED;
        let opened = self
            .send(Sending {
                exchange,
                client,
                upload: &mut upload,
                limits,
                upgrade: false,
                opens: true,
                priority: Priority::default(),
                deadline: None,
            })
            .await;
        if opened.is_err() {
            exchange.response.status = 0;
        }
        opened
    }

    /// Whether endpoints are told who their clients are.
    pub(crate) fn announces(&self) -> bool {
        self.shared.config.send_proxy_protocol.is_some()
    }

    /// A new connection to an endpoint, for whatever is to be spoken on it.
    pub(super) async fn dial(
        &self,
        sending: &mut Sending<'_>,
        endpoint: EndpointId,
    ) -> Result<Connected, (Failure, io::Error)> {
        let config = &self.shared.config;
        let target = &self.shared.targets[endpoint as usize];
        let mut manner = self.manner(sending.exchange);
        // With nothing to send, such a connection would not be made before its client has spoken; some wait to be spoken to.
        manner.options.tcp_fastopen &= !sending.opens || manner.header.is_some();
        let mut way = self.way(endpoint);
        if sending.opens {
            way.protocol = None;
        }
        let began = Instant::now();
        sending.exchange.attempt = AttemptFacts { reused: Some(false), ..AttemptFacts::default() };
        let connected = connect(target, way, &manner, config.connect_timeout, sending.deadline).await?;
        sending.exchange.attempt.connect_time = Some(began.elapsed());
        Ok(connected)
    }

    /// How an endpoint is spoken with.
    fn way(&self, endpoint: EndpointId) -> Way<'_> {
        let Shared { tls, config, .. } = &*self.shared;
        let host = config.endpoints.get(endpoint as usize).map_or("", |endpoint| endpoint.address.host());
        let tls = tls.as_ref().map(|connector| (connector, connector.name(host)));
        Way { tls, protocol: Some(config.protocol) }
    }

    fn manner(&self, exchange: &Exchange) -> Manner {
        let config = &self.shared.config;
        let header =
            config.send_proxy_protocol.map(|version| announce::client(version, exchange.source, exchange.destination));
        Manner { options: config.options, header }
    }
}
