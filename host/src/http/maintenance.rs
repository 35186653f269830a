//! Which routes are closed for work on what is behind them.
//!
//! # Why does this outlive configurations?
//!
//! Who closes a route by hand opens it by hand. A reload in between, for whatever reason, must not let clients in: there
//! is one [`Maintenance`] for the life of the process, and a new configuration is only told to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::config::{self, Config, Network};
use crate::filters::LocalResponse;
use crate::http::respond;
use crate::telemetry::exposition::{Exposition, Kind};

/// The switches of the whole proxy and of its routes, by their names.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    /// Whether anything is closed: all that is looked at while nothing is.
    is_any: AtomicBool,
    server: Arc<Switch>,
    routes: Mutex<BTreeMap<String, Arc<Switch>>>,
}

/// One switch. The control thread turns it, workers look at it.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    /// 0: open. 1: closed. From 2 on: closed, and clients are told to come back after so many seconds less 2.
    closed: AtomicU64,
    standing: Mutex<Standing>,
}

/// How a switch stands, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What the configuration says.
    pub(crate) configured: bool,
    /// What was said by hand, which prevails.
    pub(crate) by_hand: Option<bool>,
    /// What clients are told by hand, in seconds.
    pub(crate) retry_after: Option<u32>,
    /// When it was opened or closed; `None`: it has been open from the start.
    pub(crate) since: Option<SystemTime>,
}

/// There is no route of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no route `{0}`")]
pub(crate) struct UnknownRoute(pub(crate) String);

impl Maintenance {
    /// The switches of a configuration.
    pub(crate) fn new(config: &Config, now: SystemTime) -> Self {
        let maintenance = Self::default();
        maintenance.configure(config, now);
        maintenance
    }

    /// Takes over what a configuration says. What was switched by hand stays; routes that are gone are forgotten.
    pub(crate) fn configure(&self, config: &Config, now: SystemTime) {
        let mut routes = self.routes.lock();
        routes.retain(|name, _| config.routes.iter().any(|route| route.name == *name));
        self.server.turn(now, |standing| standing.configured = config.server.maintenance.on);
        for route in &config.routes {
            let switch = routes.entry(route.name.clone()).or_default();
            switch.turn(now, |standing| standing.configured = route.maintenance.on);
        }
        self.look(&routes);
    }

    /// Opens or closes a route, or all of them; `None` leaves it to the configuration again. `retry_after`: what
    /// clients are told meanwhile, in seconds, in place of what is configured.
    ///
    /// # Errors
    /// When there is no such route.
    pub(crate) fn switch(
        &self,
        route: Option<&str>,
        on: Option<bool>,
        retry_after: Option<u32>,
        now: SystemTime,
    ) -> Result<(), UnknownRoute> {
        let routes = self.routes.lock();
        let switch = match route {
            None => &self.server,
            Some(name) => routes.get(name).ok_or_else(|| UnknownRoute(name.to_owned()))?,
        };
        switch.turn(now, |standing| (standing.by_hand, standing.retry_after) = (on, retry_after));
        self.look(&routes);
        let closed = switch.is_closed();
        tracing::info!(route = route.unwrap_or("*"), closed, by_hand = on.is_some(), "maintenance switched");
        Ok(())
    }

    /// How the whole proxy's switch and those of the routes stand.
    pub(crate) fn standings(&self) -> (Standing, Vec<(String, Standing)>) {
        let routes = self.routes.lock();
        let routes = routes.iter().map(|(name, switch)| (name.clone(), *switch.standing.lock()));
        (*self.server.standing.lock(), routes.collect())
    }

    /// Whether anything is closed.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Relaxed)
    }

    /// The gate of the whole proxy.
    pub(crate) fn server_gate(&self, config: &config::Maintenance) -> Gate {
        Gate::new(self.server.clone(), config)
    }

    /// The gate of a route.
    pub(crate) fn route_gate(&self, name: &str, config: &config::Maintenance) -> Gate {
        Gate::new(self.routes.lock().entry(name.to_owned()).or_default().clone(), config)
    }

    pub(crate) fn write_metrics(&self, out: &mut Exposition) {
        let (server, routes) = self.standings();
        let help = "Whether a route is closed for maintenance, or all of them (an empty route).";
        out.family("staunch_http_maintenance", Kind::Gauge, help);
        out.sample(&[("route", "")], u64::from(server.is_closed()));
        // Of a thousand routes few are ever closed.
        for (name, standing) in routes.iter().filter(|(_, standing)| standing.since.is_some()) {
            out.sample(&[("route", name)], u64::from(standing.is_closed()));
        }
    }

    fn look(&self, routes: &BTreeMap<String, Arc<Switch>>) {
        self.is_any.store(self.server.is_closed() || routes.values().any(|switch| switch.is_closed()), Relaxed);
    }
}

impl Standing {
    pub(crate) fn is_closed(&self) -> bool {
        self.by_hand.unwrap_or(self.configured)
    }
}

impl Switch {
    fn turn(&self, now: SystemTime, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock();
        let was_closed = standing.is_closed();
        change(&mut standing);
        if standing.is_closed() != was_closed {
            standing.since = Some(now);
        }
        let closed = match (standing.is_closed(), standing.retry_after) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(seconds)) => u64::from(seconds) + 2,
        };
        self.closed.store(closed, Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed) != 0
    }
}

/// A switch with what is answered while it is closed, as one worker uses it.
pub(crate) struct Gate {
    switch: Arc<Switch>,
    answer: LocalResponse,
    /// In seconds.
    retry_after: Option<u64>,
    allow: Vec<Network>,
}

impl Gate {
    fn new(switch: Arc<Switch>, config: &config::Maintenance) -> Self {
        let closed = LocalResponse { status: 503, ..LocalResponse::default() };
        Self {
            switch,
            answer: config.answer.as_ref().map_or(closed, respond::configured),
            retry_after: config.retry_after.map(|time| time.as_secs()),
            allow: config.allow.clone(),
        }
    }

    /// What a client is answered that does not get through.
    pub(crate) fn refusal(&self, client: Option<IpAddr>) -> Option<LocalResponse> {
        let by_hand = match self.switch.closed.load(Relaxed) {
            0 => return None,
            closed => closed.checked_sub(2),
        };
        if client.is_some_and(|client| self.allow.iter().any(|network| network.contains(client))) {
            return None;
        }
        let mut answer = self.answer.clone();
        let is_told = answer.fields.iter().any(|(name, _)| name == "retry-after");
        if let Some(seconds) = by_hand.or(self.retry_after.filter(|_| !is_told)) {
            answer.fields.retain(|(name, _)| name != "retry-after");
            answer.fields.push(("retry-after".to_owned(), seconds.to_string().into_bytes()));
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(text: &str) -> Config {
        let head = "[[listeners]]\naddress = ':0'\n";
        Config::parse(&format!("{head}{text}"), None).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn two(one: bool) -> Config {
        config(&format!(
            "[[routes]]\nname = 'one'\npath = '/1'\nmaintenance = {one}\nrespond = {{}}\n\
             [[routes]]\nname = 'two'\nrespond = {{}}\n"
        ))
    }

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn closed(maintenance: &Maintenance) -> Vec<String> {
        let (server, routes) = maintenance.standings();
        let routes = routes.into_iter().filter(|(_, standing)| standing.is_closed()).map(|(name, _)| name);
        server.is_closed().then(|| "*".to_owned()).into_iter().chain(routes).collect()
    }

    #[test]
    fn what_was_switched_by_hand_outlives_a_configuration_until_it_is_given_back() {
        let maintenance = Maintenance::new(&two(true), NOW);
        assert_eq!(closed(&maintenance), ["one"]);

        maintenance.switch(Some("one"), Some(false), None, NOW).unwrap();
        maintenance.switch(Some("two"), Some(true), None, NOW).unwrap();
        maintenance.configure(&two(true), NOW);
        assert_eq!(closed(&maintenance), ["two"]);

        maintenance.switch(Some("one"), None, None, NOW).unwrap();
        maintenance.switch(Some("two"), None, None, NOW).unwrap();
        assert_eq!(closed(&maintenance), ["one"]);
        maintenance.configure(&two(false), NOW);
        assert_eq!(closed(&maintenance), [""; 0]);
    }

    #[test]
    fn a_worker_that_holds_a_gate_sees_it_close_and_open() {
        let maintenance = Maintenance::new(&two(false), NOW);
        let gates = [maintenance.server_gate(&config::Maintenance::default())]
            .into_iter()
            .chain(["one", "two"].map(|name| maintenance.route_gate(name, &config::Maintenance::default())))
            .collect::<Vec<_>>();
        let refused = || gates.iter().map(|gate| gate.refusal(None).is_some()).collect::<Vec<_>>();
        assert!(!maintenance.is_any());

        maintenance.switch(Some("two"), Some(true), Some(0), NOW).unwrap();
        assert_eq!((maintenance.is_any(), refused()), (true, vec![false, false, true]));
        maintenance.switch(None, Some(true), None, NOW).unwrap();
        assert_eq!(refused(), [true, false, true]);
        maintenance.switch(None, Some(false), None, NOW).unwrap();
        maintenance.switch(Some("two"), Some(false), None, NOW).unwrap();
        assert_eq!((maintenance.is_any(), refused()), (false, vec![false, false, false]));
    }

    #[test]
    fn since_when_is_the_last_time_it_opened_or_closed() {
        let maintenance = Maintenance::new(&two(false), NOW);
        let later = NOW + Duration::from_secs(60);
        let since = || maintenance.standings().0.since;
        assert_eq!(since(), None);

        maintenance.switch(None, Some(true), None, NOW).unwrap();
        maintenance.switch(None, Some(true), Some(5), later).unwrap();
        assert_eq!(since(), Some(NOW));
        maintenance.switch(None, None, None, later).unwrap();
        assert_eq!(since(), Some(later));
    }

    #[test]
    fn an_unknown_route_cannot_be_switched() {
        let maintenance = Maintenance::new(&two(false), NOW);

        let refused = maintenance.switch(Some("three"), Some(true), None, NOW);

        assert_eq!(refused, Err(UnknownRoute("three".to_owned())));
    }

    #[test]
    fn retry_after_is_the_operators_word_then_the_answers_then_the_settings() {
        let header = |settings: &str, by_hand| {
            let config = config(&format!("[[routes]]\nname = 'r'\nrespond = {{}}\nmaintenance = {{ {settings} }}\n"));
            let maintenance = Maintenance::new(&config, NOW);
            maintenance.switch(Some("r"), Some(true), by_hand, NOW).unwrap();
            let answer = maintenance.route_gate("r", &config.routes[0].maintenance).refusal(None).unwrap();
            let values: Vec<_> = answer.fields.into_iter().filter(|(name, _)| name == "retry-after").collect();
            assert!(values.len() <= 1, "{values:?}");
            values.into_iter().next().map(|(_, value)| String::from_utf8(value).unwrap())
        };

        assert_eq!(header("", None).as_deref(), Some("60"));
        assert_eq!(header("retry_after = '2m'", None).as_deref(), Some("120"));
        assert_eq!(header("retry_after = false", None), None);
        assert_eq!(header("retry_after = false", Some(0)).as_deref(), Some("0"));
        let own = "respond = { headers = { retry-after = 'Fri, 31 Dec 1999 23:59:59 GMT' } }";
        assert_eq!(header(own, None).as_deref(), Some("Fri, 31 Dec 1999 23:59:59 GMT"));
        assert_eq!(header(own, Some(7)).as_deref(), Some("7"));
    }

    #[test]
    fn allowed_clients_get_through() {
        let config =
            config("[[routes]]\nname = 'r'\nrespond = {}\nmaintenance = { allow = ['10.0.0.0/8', '2001:db8::1'] }\n");
        let gate = Maintenance::new(&config, NOW).route_gate("r", &config.routes[0].maintenance);

        for (client, refused) in [("10.1.2.3", false), ("11.1.2.3", true), ("2001:db8::1", false), ("::1", true)] {
            assert_eq!(gate.refusal(client.parse().ok()).is_some(), refused, "for {client}");
        }
        assert!(gate.refusal(None).is_some(), "a client without an address");
    }
}
