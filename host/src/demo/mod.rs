//! `staunch demo`: a proxy with something behind it, to play with.

mod control;
mod origin;
mod origins;

use std::io;
use std::net::{SocketAddr, TcpListener};

use staunch::config::{Config, ListenAddress};

use crate::cli::{DemoArguments, Failure, complain, say, start, wait};

use origins::Origins;

pub(crate) fn run(arguments: &DemoArguments) -> Result<(), Failure> {
    let origins =
        Origins::start().map_err(|error| Failure::internal(format_args!("no origin can be started: {error}")))?;
    let admin = is_free(&arguments.admin).then_some(&arguments.admin);
    if admin.is_none() {
        complain(format_args!("{} is in use: there will be no admin server (see `--admin`)", arguments.admin));
    }
    let config = config(&arguments.listen, admin, &origins).map_err(Failure::Arguments)?;
    let proxy = start(config).map_err(|failure| with_hint(failure, arguments))?;
    if let Some(address) = proxy.addresses().first() {
        say(welcome(address, proxy.admin_address(), &origins));
    }
    wait(proxy)
}

fn config(listen: &ListenAddress, admin: Option<&ListenAddress>, origins: &Origins) -> Result<Config, String> {
    let mut text = include_str!("staunch.toml").replace("@listen@", &listen.to_string());
    for (name, address) in origins.addresses() {
        text = text.replace(&format!("@{name}@"), &address.to_string());
    }
    if let Some(admin) = admin {
        text.push_str(&format!("\n[admin]\naddress = {}\n", toml::Value::from(admin.to_string())));
    }
    Config::parse(&text, None).map_err(|faults| faults.to_string())
}

/// Whether nobody else listens there. Without `SO_REUSEPORT`, so that another proxy is noticed.
fn is_free(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) => {
            !TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        }
        ListenAddress::Unix(_) => true,
    }
}

fn with_hint(failure: Failure, arguments: &DemoArguments) -> Failure {
    match failure {
        Failure::Bad(text) if !is_free(&arguments.listen) => {
            Failure::Bad(format!("{text}; choose another address with `--listen 127.0.0.1:8081`"))
        }
        other => other,
    }
}

fn welcome(listen: &ListenAddress, admin: Option<&ListenAddress>, origins: &Origins) -> String {
    // What curl is given: any address of this machine is reached over loopback.
    let reached = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], address.port())).to_string()
        }
        other => other.to_string(),
    };
    let (proxy, socket) = match listen {
        ListenAddress::Tcp(_) => (reached(listen), String::new()),
        ListenAddress::Unix(path) => ("demo".to_owned(), format!("--unix-socket {} ", path.display())),
    };
    let mut text = format!(
        "\nstaunch listens on {listen}. Behind it are three origins with the weights 5, 1 and 1:\n{}\n\
         \x20 curl -s {socket}'http://{proxy}/name?[1-7]'\n\
         \x20     seven requests over one connection: the smooth order of picks is a a b a c a a\n\
         \x20 curl -i {socket}http://{proxy}/\n\
         \x20     what an origin was sent, and what the rewriter set-headers made of it\n\
         \x20 curl -X POST {socket}http://{proxy}/demo/stop/b\n\
         \x20     stops an origin. Ask for the names again: b's turn is tried elsewhere, then b is left out for 10 s.\n\
         \x20     /demo/start/b starts it again, /demo/ tells which are running\n\
         \x20 curl {socket}http://{proxy}/slow?ms=2000\n\
         \x20 curl -i {socket}http://{proxy}/status/418\n\
         \x20 curl -so big {socket}http://{proxy}/big?size=1000000\n\
         \x20     answers that take their time, fail or are long\n",
        origins
            .addresses()
            .iter()
            .take(3)
            .map(|(name, address)| format!("  {name} on {address}\n"))
            .collect::<String>(),
    );
    match admin {
        Some(address @ ListenAddress::Tcp(_)) => {
            text += &format!("\nhttp://{}/ shows endpoints and plugins, /metrics counts.\n", reached(address));
        }
        Some(ListenAddress::Unix(path)) => {
            text += &format!("\ncurl --unix-socket {} http://admin/api/upstreams shows endpoints.\n", path.display());
        }
        None => {}
    }
    text + "Ctrl-C ends it.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_is_right_and_whole() {
        let origins = Origins::start().unwrap();
        let any = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());

        let config = config(&any, Some(&any), &origins).unwrap();

        let weights: Vec<_> = config.upstreams[0].endpoints.iter().map(|endpoint| endpoint.weight).collect();
        assert_eq!(weights, [5, 1, 1]);
        assert!(config.admin.is_some() && config.warnings.is_empty(), "{:?}", config.warnings);
    }

    #[test]
    fn a_port_in_use_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());

        assert!(!is_free(&address));
        drop(listener);
        assert!(is_free(&address));
    }
}
