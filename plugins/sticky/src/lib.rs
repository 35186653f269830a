//! The balancer `sticky`: brings a client back to its endpoint with a cookie, and leaves the rest to another balancer.

mod cookie;
mod siphash;

use std::collections::BinaryHeap;

use staunch_plugin::delegate::Group;
use staunch_plugin::{
    Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Invalid, KeySource, PickContext, PickError,
    selection,
};

use cookie::Cookie;

struct Sticky {
    cookie: Cookie,
    endpoints: Endpoints,
    /// The cookie's value of each endpoint with its position, by rising value.
    values: Vec<(u64, usize)>,
    /// All endpoints; none before the first update.
    all: Option<Group>,
}

impl Balancer for Sticky {
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
        let cookie = Cookie::read(config)?;
        needs.want_key(KeySource::Cookie(cookie.name.clone()));
        Ok(Self { cookie, endpoints: Endpoints::default(), values: Vec::new(), all: None })
    }

    fn update(&mut self, endpoints: Endpoints) {
        let ids: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.all = Some(Group::new(&ids));
        let values = endpoints.iter().map(|endpoint| self.cookie.value(&endpoint.address)).zip(0..);
        // A heap sorts in a tenth of the code that `sort` brings into a component.
        self.values = values.collect::<BinaryHeap<_>>().into_sorted_vec();
        self.endpoints = endpoints;
    }

    fn change(&mut self, changes: &[EndpointChange]) {
        self.endpoints.apply(changes);
    }

    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
        let named = cx.key.and_then(|_| self.named());
        if let Some(position) = named
            && let Some(endpoint) = self.endpoints.at(position)
            && endpoint.ready
            && !self.endpoints.tried(cx).contains(&position)
        {
            return Ok(endpoint.id);
        }
        let picked = self.all.ok_or(PickError::Unavailable)?.pick()?;
        let position = self.endpoints.position(picked);
        if let Some(endpoint) = position.filter(|_| position != named).and_then(|at| self.endpoints.at(at)) {
            let value = self.cookie.value(&endpoint.address);
            selection::append_response_field("set-cookie", self.cookie.set(value));
        }
        Ok(picked)
    }
}

impl Sticky {
    /// The position of the endpoint that the client's cookie names.
    fn named(&self) -> Option<usize> {
        let value = Cookie::parse(&selection::key()?)?;
        let found = self.values.binary_search_by_key(&value, |&(value, _)| value).ok()?;
        Some(self.values[found].1)
    }
}

staunch_plugin::export!(balancer: Sticky);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host, pick_context};

    use super::*;

    fn configured(host: &Host, endpoints: u32) -> Sticky {
        let mut balancer: Sticky = host.balancer().expect("the settings are right");
        balancer.update(testing::endpoints(endpoints));
        host.calls();
        balancer
    }

    /// A pick for a client with this cookie.
    fn pick_with(host: &Host, balancer: &mut Sticky, cookie: Option<&str>) -> Result<EndpointId, PickError> {
        host.set_key(cookie.map(str::as_bytes));
        balancer.pick(&PickContext { key: cookie.map(|_| 1), ..pick_context() })
    }

    /// The value of the only cookie that was set.
    fn set(host: &Host) -> String {
        let appended = host.appended();
        let [(name, value)] = &appended[..] else { panic!("not one header: {appended:?}") };
        assert_eq!(name, "set-cookie");
        let text = str::from_utf8(value).expect("text");
        text.strip_prefix("staunch=").and_then(|rest| rest.split(';').next()).expect("a value").to_owned()
    }

    #[test]
    fn a_new_client_goes_where_the_balancer_behind_says_and_comes_back_there() {
        let host = Host::new();
        let mut balancer = configured(&host, 3);
        assert_eq!(host.wanted_keys(), [KeySource::Cookie("staunch".to_owned())]);
        assert_eq!(host.groups(), [[0, 1, 2]]);

        for expected in 0..3 {
            assert_eq!(pick_with(&host, &mut balancer, None), Ok(expected));
            let cookie = set(&host);
            for _ in 0..3 {
                assert_eq!(pick_with(&host, &mut balancer, Some(&cookie)), Ok(expected));
            }
            assert_eq!(host.appended(), [], "it has its cookie");
        }
    }

    #[test]
    fn another_instance_knows_the_cookie_whatever_the_order_of_endpoints() {
        let host = Host::new();
        let mut first = configured(&host, 5);
        assert_eq!(pick_with(&host, &mut first, None), Ok(0));
        let cookie = set(&host);

        let mut second: Sticky = host.balancer().expect("the settings are right");
        second.update([4, 3, 0, 2].map(testing::endpoint).to_vec().into());

        assert_eq!(pick_with(&host, &mut second, Some(&cookie)), Ok(0));
    }

    #[test]
    fn when_its_endpoint_may_have_no_traffic_a_client_gets_another_and_a_new_cookie() {
        let host = Host::new();
        let mut balancer = configured(&host, 2);
        pick_with(&host, &mut balancer, None).expect("all are ready");
        let old = set(&host);

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: false }]);
        host.set_avoided(&[0]);
        assert_eq!(pick_with(&host, &mut balancer, Some(&old)), Ok(1));
        let new = set(&host);

        balancer.change(&[EndpointChange { id: 0, weight: 1, ready: true }]);
        host.set_avoided(&[]);
        assert_eq!(pick_with(&host, &mut balancer, Some(&new)), Ok(1), "it stays where it went");
        assert_eq!(pick_with(&host, &mut balancer, Some(&old)), Ok(0), "who was away comes back");
    }

    #[test]
    fn a_further_attempt_goes_elsewhere_with_a_new_cookie() {
        let host = Host::new();
        let mut balancer = configured(&host, 2);
        pick_with(&host, &mut balancer, None).expect("all are ready");
        let cookie = set(&host);

        host.set_tried(&[0]);
        let cx = PickContext { key: Some(1), attempt: 1, ..pick_context() };
        host.set_key(Some(cookie.as_bytes()));

        assert_eq!(balancer.pick(&cx), Ok(1));
        assert_ne!(set(&host), cookie);
        // The balancer behind is the test's, which goes on in turn.
        assert_eq!(balancer.pick(&cx), Ok(0));
        assert_eq!(host.appended(), [], "its own endpoint again, which it has a cookie of");
    }

    #[test]
    fn a_cookie_of_somebody_else_counts_for_nothing() {
        let host = Host::new();
        let mut balancer = configured(&host, 2);

        for cookie in ["", "endpoint-1:80", "0123456789abcdef", "0123456789abcdef0"] {
            assert!(pick_with(&host, &mut balancer, Some(cookie)).is_ok());
            assert_ne!(set(&host), cookie);
        }
    }

    #[test]
    fn the_cookie_does_not_tell_the_address() {
        let host = Host::new();
        let mut balancer = configured(&host, 1);
        pick_with(&host, &mut balancer, None).expect("all are ready");

        let appended = String::from_utf8(host.appended().remove(0).1).expect("text");

        assert!(!appended.contains("endpoint-0") && !appended.contains("80;"), "{appended}");
    }

    #[test]
    fn a_first_request_without_a_cookie_asks_the_host_for_no_key() {
        let host = Host::new();
        let mut balancer = configured(&host, 2);

        balancer.pick(&PickContext { key: None, ..pick_context() }).expect("all are ready");

        assert_eq!(host.calls(), ["delegate.pick", "selection.append-response-field"]);
    }

    #[test]
    fn what_the_balancer_behind_refuses_is_refused() {
        let host = Host::new();
        let mut unset: Sticky = host.balancer().expect("the settings are right");
        assert_eq!(unset.pick(&pick_context()), Err(PickError::Unavailable));

        let mut balancer = configured(&host, 1);
        host.set_avoided(&[0]);
        assert_eq!(balancer.pick(&pick_context()), Err(PickError::Unavailable));
        assert_eq!(host.appended(), []);
    }
}
