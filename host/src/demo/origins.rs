//! The origins of the demo on a thread of their own.

use std::future::IntoFuture;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::control::{self, Switches};
use super::origin;

/// Running origins; they end when this is dropped.
pub(super) struct Origins {
    addresses: Vec<(&'static str, SocketAddr)>,
    end: CancellationToken,
}

impl Origins {
    /// Starts the origins `a`, `b` and `c`, and `control`, which stops and starts them; each on a free port.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let end = CancellationToken::new();
        let (tasks, addresses) = runtime.block_on(spawn_all())?;
        let ended = end.clone().cancelled_owned();
        thread::Builder::new().name("origins".to_owned()).spawn(move || keep(&runtime, ended, tasks))?;
        Ok(Self { addresses, end })
    }

    pub(super) fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

fn keep(runtime: &Runtime, ended: impl Future<Output = ()>, tasks: JoinSet<()>) {
    runtime.block_on(ended);
    drop(tasks);
}

async fn spawn_all() -> io::Result<(JoinSet<()>, Vec<(&'static str, SocketAddr)>)> {
    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    let mut switches = Vec::new();
    for name in ["a", "b", "c"] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        addresses.push((name, listener.local_addr()?));
        let (switch, state) = watch::channel(true);
        switches.push((name, switch));
        tasks.spawn(run(listener, origin::router(name), state));
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    addresses.push(("control", listener.local_addr()?));
    let router = control::router(Switches::from(switches));
    tasks.spawn(async {
        // It has no end of its own, and a failing accept is tried again.
        _ = axum::serve(listener, router).into_future().await;
    });
    Ok((tasks, addresses))
}

/// Serves one origin whenever its switch is on. A stopped one finishes what it answers and refuses connections.
async fn run(listener: TcpListener, router: Router, mut switch: watch::Receiver<bool>) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    while switch.wait_for(|is_on| *is_on).await.is_ok() {
        let bound = match listener.take() {
            Some(listener) => Ok(listener),
            None => TcpListener::bind(address).await,
        };
        let Ok(bound) = bound else {
            // Somebody took the port meanwhile: a demo may wait for the next switch.
            if switch.changed().await.is_err() {
                return;
            }
            continue;
        };
        let mut off = switch.clone();
        let stopped = async move {
            _ = off.wait_for(|is_on| !is_on).await;
        };
        _ = axum::serve(bound, router.clone()).with_graceful_shutdown(stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use super::*;

    fn ask(origins: &Origins, name: &str, method: &str, target: &str) -> io::Result<String> {
        let (_, address) = origins.addresses().iter().find(|(other, _)| *other == name).unwrap();
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "{method} {target} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn eventually(is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "it does not become so");
            thread::yield_now();
        }
    }

    #[test]
    fn origins_tell_their_name_and_what_they_were_sent() {
        let origins = Origins::start().unwrap();

        let echo = ask(&origins, "b", "PUT", "/a?b").unwrap();
        let status = |target| ask(&origins, "c", "GET", target).unwrap()[..12].to_owned();

        assert!(echo.contains("x-origin: b\r\n"), "{echo}");
        assert!(echo.contains("origin b\n\nPUT /a?b HTTP/1.1\nhost: demo\n"), "{echo}");
        assert!(ask(&origins, "a", "GET", "/name").unwrap().ends_with("\r\n\r\na\n"));
        assert!(ask(&origins, "a", "GET", "/big?x=1&size=5").unwrap().ends_with("\r\n\r\nxxxxx"));
        assert!(ask(&origins, "a", "GET", "/slow?ms=1").unwrap().ends_with("a after 1 ms\n"));
        assert_eq!(status("/status/418"), "HTTP/1.1 418");
        assert_eq!(status("/status/101"), "HTTP/1.1 400");
        assert_eq!(status("/status/x"), "HTTP/1.1 400");
    }

    #[test]
    fn a_stopped_origin_refuses_connections_until_it_is_started() {
        let origins = Origins::start().unwrap();

        let stopped = ask(&origins, "control", "POST", "/demo/stop/b").unwrap();
        assert!(stopped.ends_with("a running\nb stopped\nc running\n"), "{stopped}");
        eventually(|| ask(&origins, "b", "GET", "/").is_err());
        assert!(ask(&origins, "a", "GET", "/").is_ok());

        ask(&origins, "control", "POST", "/demo/start/b").unwrap();
        eventually(|| ask(&origins, "b", "GET", "/").is_ok());
        assert!(ask(&origins, "control", "POST", "/demo/stop/d").unwrap().starts_with("HTTP/1.1 404"));
    }
}
