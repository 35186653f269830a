//! `staunch proxy`: a configuration made of arguments.

use staunch::config::{Config, Faults, Place};
use toml::Value;

use super::Failure;
use super::arguments::ProxyArguments;

/// Writes what the arguments mean as a configuration, so that both have the same defaults and the same checks.
pub(super) fn config(arguments: &ProxyArguments) -> Result<Config, Failure> {
    let text = format!(
        "[[listeners]]\naddress = {}\n\n\
         [[routes]]\nupstream = \"origin\"\n\n\
         [upstreams.origin]\nbalance = {}\nendpoints = {}\n",
        Value::from(arguments.listen.to_string()),
        Value::from(arguments.balance.clone()),
        Value::from(arguments.to.clone()),
    );
    Config::parse(&text, None).map_err(|faults| Failure::Arguments(without_places(faults).to_string()))
}

/// Nobody wrote the text that the places are in.
fn without_places(mut faults: Faults) -> Faults {
    faults.faults.iter_mut().for_each(|fault| fault.place = Place::default());
    faults
}

#[cfg(test)]
mod tests {
    use staunch::config::{Action, ListenAddress};

    use super::*;

    fn arguments(to: &[&str]) -> ProxyArguments {
        ProxyArguments {
            to: to.iter().map(|&address| address.to_owned()).collect(),
            listen: ListenAddress::Tcp(([127, 0, 0, 1], 0).into()),
            balance: "round-robin".to_owned(),
        }
    }

    #[test]
    fn arguments_become_one_route_to_one_upstream() {
        let config = config(&arguments(&["127.0.0.1:1", "unix:/tmp/a"])).unwrap();

        let endpoints: Vec<_> = config.upstreams[0].endpoints.iter().map(|endpoint| &*endpoint.text).collect();
        assert_eq!(endpoints, ["127.0.0.1:1", "unix:/tmp/a"]);
        assert!(
            matches!(config.routes[..], [ref route] if route.action == Action::Upstream(0) && route.hosts.is_empty())
        );
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn every_bad_argument_is_told_and_no_line_of_a_file_that_is_not_there() {
        let mut arguments = arguments(&["http://a:80", "b\"\n[admin]"]);
        arguments.balance = "round-robbin".to_owned();

        let Err(Failure::Arguments(text)) = config(&arguments) else { panic!("they were accepted") };

        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("no scheme") && text.contains("no port") && text.contains("round-robbin"), "{text}");
        assert!(!text.starts_with(|first: char| first.is_ascii_digit()), "{text}");
    }
}
