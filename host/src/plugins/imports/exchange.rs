//! The exchange of the call under way, read lazily: the choice, the request, the response.

use wasmtime::Result;

use crate::http::facts::Facts;
use crate::http::head::Fields;
use crate::plugins::bindings::staunch::plugin::{request, response, selection};
use crate::plugins::imports::copied::Copied;
use crate::plugins::instance::{Phase, State};

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

impl selection::Host for State {
    fn key(&mut self) -> Result<Option<Vec<u8>>> {
        self.during(Phase::Pick, |facts| facts.key.clone())
    }

    fn tried(&mut self) -> Result<Vec<u32>> {
        self.during(Phase::Pick, |facts| facts.tried.clone())
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
        self.of_exchange(|facts| facts.id().to_owned())
    }

    fn route(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.route.as_ref().to_owned())
    }

    fn upstream(&mut self) -> Result<String> {
        self.of_exchange(|facts| facts.upstream.as_ref().to_owned())
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
        self.during(Phase::OnResponse, |facts| facts.response.status)
    }

    fn endpoint(&mut self) -> Result<String> {
        self.during(Phase::OnResponse, |facts| facts.endpoint.as_ref().to_owned())
    }

    fn field(&mut self, name: String) -> Result<Option<Vec<u8>>> {
        self.during(Phase::OnResponse, |facts| first(&facts.response.fields, &name))
    }

    fn field_values(&mut self, name: String) -> Result<Vec<Vec<u8>>> {
        self.during(Phase::OnResponse, |facts| every(&facts.response.fields, &name))
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        self.during(Phase::OnResponse, |facts| all(&facts.response.fields))
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
