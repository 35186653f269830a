//! The exchange of the call under way, read lazily: the choice, the request, the response.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result;

use crate::filters::FieldEdit;
use crate::http::facts::Facts;
use crate::http::head::Fields;
use crate::plugins::bindings::staunch::plugin::{pace, request, response, routing, selection};
use crate::plugins::imports::copied::Copied;
use crate::plugins::instance::{Phase, State};

/// Headers that a pick may add to its response, and bytes of them.
const MOST_APPENDED: usize = 8;
const MOST_APPENDED_BYTES: usize = 8 * 1024;
/// How long a rewriter may hold a request back.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

type Field = (String, Vec<u8>);

impl State {
    /// What `read` finds in the exchange; the empty answer when there is none now.
    fn of_exchange<R: Default + Copied>(&mut self, read: impl FnOnce(&mut Facts) -> R) -> Result<R> {
        let answer = self.facts.as_deref_mut().map(read).unwrap_or_default();
        Ok(self.copied(answer))
    }

    /// The same, but only during a call of this kind.
    fn during<R: Default + Copied>(&mut self, phase: Phase, read: impl FnOnce(&mut Facts) -> R) -> Result<R> {
        if self.phase == phase { self.of_exchange(read) } else { Ok(R::default()) }
    }
}

impl State {
    /// What `read` finds in a response that is being handled.
    fn of_response<R: Default + Copied>(&mut self, read: impl FnOnce(&mut Facts) -> R) -> Result<R> {
        match self.phase {
            Phase::OnResponse | Phase::Decide => self.of_exchange(read),
            _ => Ok(R::default()),
        }
    }
}

impl selection::Host for State {
    fn key(&mut self) -> Result<Option<Vec<u8>>> {
        self.during(Phase::Pick, |facts| facts.key.clone())
    }

    fn tried(&mut self) -> Result<Vec<u32>> {
        self.during(Phase::Pick, |facts| facts.tried.clone())
    }

    fn append_response_field(&mut self, name: String, value: Vec<u8>) -> Result<()> {
        let edit = FieldEdit::Append(name, value);
        edit.check()?;
        let FieldEdit::Append(name, value) = edit else { return Ok(()) };
        self.during(Phase::Pick, |facts| {
            let bytes: usize = facts.appended.iter().map(|(name, value)| name.len() + value.len()).sum();
            if facts.appended.len() < MOST_APPENDED && bytes + name.len() + value.len() <= MOST_APPENDED_BYTES {
                facts.appended.push((name, value));
            }
        })
    }
}

impl pace::Host for State {
    fn delay(&mut self, duration: u64) -> Result<()> {
        let duration = Duration::from_nanos(duration).min(LONGEST_DELAY);
        self.during(Phase::OnRequest, |facts| facts.delay = facts.delay.max(Some(duration)))
    }
}

impl routing::Host for State {
    fn has_upstream(&mut self, name: String) -> Result<bool> {
        Ok(self.upstream(&name).is_some())
    }

    fn send_to(&mut self, name: String) -> Result<bool> {
        let Some(upstream) = self.upstream(&name) else { return Ok(false) };
        self.during(Phase::OnRequest, |facts| {
            facts.send_to = Some(upstream);
            true
        })
    }
}

impl State {
    fn upstream(&self, name: &str) -> Option<Arc<str>> {
        self.core.upstreams.find(name)
    }
}

impl request::Host for State {
    fn method(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.request.method().to_owned())
    }

    fn scheme(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.scheme().to_owned())
    }

    fn authority(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.request.authority().to_owned())
    }

    fn path_and_query(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.request.path_and_query().to_owned())
    }

    fn client_address(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.client.map_or_else(String::new, |address| address.to_string()))
    }

    fn id(&mut self) -> Result<String> {
        let simulation = self.core.simulation.clone();
        self.of_exchange(|facts| {
            match simulation {
                Some(simulation) => {
                    facts.id_of(|| u128::from(simulation.random(false)) << 64 | u128::from(simulation.random(false)))
                }
                None => facts.id(),
            }
            .to_owned()
        })
    }

    fn route(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.route.to_string())
    }

    fn upstream(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.upstream.to_string())
    }

    fn field(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        self.of_exchange(|facts| first(&facts.request.fields, &name))
    }

    fn field_values(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        self.of_exchange(|facts| every(&facts.request.fields, &name))
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        self.of_exchange(|facts| all(&facts.request.fields))
    }

    fn note(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        self.of_exchange(|facts| facts.note(&name).map(<[u8]>::to_vec))
    }

    fn set_note(&mut self, name: String, value: Vec<u8>) -> Result<()> {
        self.of_exchange(|facts| facts.set_note(&name, &value))
    }
}

impl response::Host for State {
    fn status(&mut self) -> Result<u16> {
        self.of_response(|facts| facts.response.status)
    }

    fn endpoint(&mut self) -> Result<String> {
        self.of_response(|facts| facts.endpoint.to_string())
    }

    fn field(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        self.of_response(|facts| first(&facts.response.fields, &name))
    }

    fn field_values(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        self.of_response(|facts| every(&facts.response.fields, &name))
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        self.of_response(|facts| all(&facts.response.fields))
    }
}

fn first(fields: &Fields, name: &str) -> Option<Vec<u8>> {
    fields.get(name.as_bytes()).map(<[u8]>::to_vec)
}

fn every(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    fields.get_all(name.as_bytes()).map(<[u8]>::to_vec).collect()
}

fn all(fields: &Fields) -> Vec<Field> {
    fields.iter().map(|f| (String::from_utf8_lossy(f.name).to_ascii_lowercase(), f.value.to_vec())).collect()
}
