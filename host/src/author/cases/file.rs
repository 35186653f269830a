//! What a file of cases says.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::{Spanned, Table};

use crate::plugins::Member;
use crate::upstream::endpoint::Endpoint;

/// A file of cases for one plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The plugin's file, from the folder of this one, or a built-in plugin's name.
    pub(super) plugin: String,
    /// "balancer", "retry" or "rewriter"; for a plugin of several kinds.
    pub(super) kind: Option<String>,
    /// The built-in balancer that stands behind this one.
    pub(super) then: Option<String>,
    /// The upstreams that a rewriter may send requests to.
    #[serde(default)]
    pub(super) upstreams: Vec<String>,
    /// The plugin's settings, and the endpoints, of every case that has none of its own.
    #[serde(default)]
    pub(super) config: Table,
    #[serde(default)]
    pub(super) endpoints: Vec<EndpointEntry>,
    pub(super) cases: Vec<Spanned<Case>>,
}

/// A fresh instance, and what it is told and asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) config: Option<Table>,
    pub(super) endpoints: Option<Vec<EndpointEntry>>,
    /// Where random numbers come from that no step gives.
    #[serde(default)]
    pub(super) seed: u64,
    /// A part of what the plugin says when it refuses these settings.
    pub(super) refused: Option<String>,
    #[serde(default)]
    pub(super) steps: Vec<Spanned<Step>>,
}

/// One thing that happens: exactly one of its actions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The address of the endpoint that is picked, "unavailable" or "overloaded".
    pub(super) pick: Option<String>,
    /// The same for requests one after the other.
    pub(super) picks: Option<Vec<String>>,
    /// For picks: where the request has been.
    #[serde(default)]
    pub(super) tried: Vec<String>,
    pub(super) random: Option<u64>,
    /// For one pick: headers that it adds to the response.
    pub(super) appends: Option<BTreeMap<String, String>>,
    /// Requests in flight, and times to a response head, by address.
    pub(super) active: Option<BTreeMap<String, u32>>,
    pub(super) latency: Option<BTreeMap<String, Span>>,
    pub(super) change: Option<ChangeEntry>,
    pub(super) observe: Option<ObserveEntry>,
    pub(super) wait: Option<Span>,
    /// A fresh instance takes over with this membership.
    pub(super) endpoints: Option<Vec<EndpointEntry>>,
    pub(super) decide: Option<DecideEntry>,
    /// An action for a rewriter; for picks and decisions, the request they are about.
    pub(super) request: Option<RequestEntry>,
    pub(super) response: Option<ResponseEntry>,
    /// What a decision or a message is to become.
    pub(super) expect: Option<toml::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum EndpointEntry {
    Address(String),
    Table(EndpointTable),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointTable {
    address: String,
    #[serde(default = "one")]
    weight: u32,
    zone: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    backup: bool,
    #[serde(default)]
    down: bool,
    #[serde(default = "yes")]
    ready: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeEntry {
    pub(super) endpoint: String,
    pub(super) weight: Option<u32>,
    pub(super) ready: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObserveEntry {
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) latency: Span,
    /// 0: the attempt brought no response.
    pub(super) status: u16,
    #[serde(default)]
    pub(super) penalty: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DecideEntry {
    pub(super) status: Option<u16>,
    pub(super) failed: Option<String>,
    pub(super) endpoint: u32,
    pub(super) attempt: u32,
    pub(super) sent: Option<bool>,
    pub(super) elapsed: Span,
    pub(super) remaining: Option<Span>,
    pub(super) budget: Option<u32>,
    pub(super) retry_after: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RequestEntry {
    pub(super) method: Option<String>,
    /// The path with its query.
    pub(super) target: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) client: Option<IpAddr>,
    pub(super) secure: bool,
    pub(super) route: String,
    pub(super) upstream: String,
    pub(super) headers: BTreeMap<String, Values>,
    /// The pieces it comes in.
    pub(super) body: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseEntry {
    #[serde(default = "ok")]
    pub(super) status: u16,
    /// The address of the endpoint that answered.
    #[serde(default)]
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Values>,
    /// The pieces it comes in.
    pub(super) body: Option<Vec<String>>,
}

/// The values of a header: one, several, or none.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Values {
    One(String),
    Several(Vec<String>),
    /// `false`: the header is not there.
    Present(bool),
}

/// What is to come of a decision.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanExpected {
    /// Exactly so long, or between two lengths of time.
    pub(super) delay: Option<Delay>,
    pub(super) elsewhere: Option<bool>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Delay {
    Exactly(Span),
    Between([Span; 2]),
}

/// What is to become of a message. What is not named may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MessageExpected {
    pub(super) method: Option<String>,
    pub(super) target: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) headers: BTreeMap<String, Values>,
    pub(super) body: Option<String>,
    /// The plugin answers in place of whoever would.
    pub(super) respond: Option<RespondExpected>,
    pub(super) delay: Option<Span>,
    pub(super) send_to: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RespondExpected {
    pub(super) status: Option<u16>,
    pub(super) headers: BTreeMap<String, Values>,
    pub(super) body: Option<String>,
}

/// A length of time such as "250ms".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom(format!("`{text}` is no duration such as \"250ms\" or \"30s\""));
        humantime::parse_duration(&text).map(Self).map_err(wrong)
    }
}

impl Values {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value.clone()],
            Self::Several(values) => values.clone(),
            Self::Present(_) => Vec::new(),
        }
    }
}

/// The membership that entries tell of, in slots from 0 on.
pub(super) fn members(entries: &[EndpointEntry]) -> Vec<Member> {
    let member = |(id, entry): (u32, &EndpointEntry)| {
        let table = match entry.clone() {
            EndpointEntry::Table(table) => table,
            EndpointEntry::Address(address) => EndpointTable {
                address,
                weight: 1,
                zone: None,
                labels: BTreeMap::new(),
                backup: false,
                down: false,
                ready: true,
            },
        };
        let endpoint = Endpoint {
            id,
            address: table.address.into(),
            weight: table.weight,
            priority: u32::from(table.backup),
            zone: table.zone,
            labels: table.labels.into_iter().collect(),
            down: table.down,
        };
        Member { endpoint, ready: table.ready && !table.down }
    };
    (0..).zip(entries).map(member).collect()
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}
