//! Real Redis and PostgreSQL servers behind a listener for TCP, and a real DNS server behind one for UDP. Each is left out
//! where it is not installed.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::relay_tcp::listener;
use crate::harness::{ADMIN, Proxy, eventually};

/// A server of its own. It ends with its test.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is installed"))
    }

    /// Dies as a server does that is killed.
    fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("a child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago, at an address that no other test uses.
fn free(last: u8) -> SocketAddr {
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, last], 0)));
    taken.and_then(|taken| taken.local_addr()).expect("a port")
}

/// The first of these paths that is there.
fn installed(what: &str, package: &str, paths: &[PathBuf]) -> Option<PathBuf> {
    let found = paths.iter().find(|path| path.exists()).cloned();
    if found.is_none() {
        println!("skipped: {what} is not installed (Debian: apt-get install {package})");
    }
    found
}

/// In front of these, each ejected once it refuses.
fn before(endpoints: [SocketAddr; 2]) -> Proxy {
    let [one, other] = endpoints;
    let keys = "passive = { max_fails = 1, fail_timeout = \"1h\" }";
    Proxy::with(&format!("{ADMIN}{}[upstreams.api]\nendpoints = [\"{one}\", \"{other}\"]\n{keys}\n", listener("")))
}

/// What a client prints.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn redis_answers_on_while_an_endpoint_dies() {
    let Some(program) = installed("redis-server", "redis-server", &["/usr/bin/redis-server".into()]) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = [free(78), free(79)];
    let mut servers = addresses.map(|address| {
        let mut command = Command::new(&program);
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no"]).current_dir(folder.path());
        let server = Server::start(&mut command);
        eventually(|| TcpStream::connect(address).is_ok());
        server
    });
    let proxy = before(addresses);
    let redis = |arguments: &[&str]| {
        let port = proxy.address().port().to_string();
        said(Command::new("/usr/bin/redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(arguments))
    };
    for _ in 0..4 {
        assert_eq!(redis(&["eval", "return redis.call('incr', 'n')", "0"]).map(|n| n.is_empty()), Ok(false));
    }

    servers[0].kill();

    for n in 3..8 {
        // What the other has counted so far: half of what was asked before, and all since.
        assert_eq!(redis(&["incr", "n"]), Ok(n.to_string()));
    }
    proxy.assert_counted(r#"staunch_upstream_ejections_total{upstream="api"}"#, 1.0);
}

#[test]
fn postgresql_answers_on_while_an_endpoint_dies() {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    let Some(programs) = installed("postgresql", "postgresql", &programs) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder.path(), open).expect("a folder of ours");
    let addresses = [free(80), free(81)];
    let mut servers = addresses.map(|address| postgresql(&programs, folder.path(), address));
    let proxy = before(addresses);
    let ask = |question: &str| {
        let port = proxy.address().port().to_string();
        let mut command = Command::new(programs.join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atqc", question]);
        said(command.env("PGSSLMODE", "disable").env("PGCONNECT_TIMEOUT", "10"))
    };
    let ports: Vec<_> = (0..2).map(|_| ask("select inet_server_port()").expect("an answer")).collect();
    assert_eq!(ports, addresses.map(|address| address.port().to_string()));

    servers[0].kill();

    for _ in 0..4 {
        let question = "select inet_server_port() || ' ' || sum(n) from generate_series(1, 100000) n";
        assert_eq!(ask(question), Ok(format!("{} 5000050000", addresses[1].port())));
    }
    proxy.assert_counted(r#"staunch_upstream_ejections_total{upstream="api"}"#, 1.0);
}

/// A server with a folder of its own, run by who may: it refuses to be run by root.
fn postgresql(programs: &Path, folder: &Path, address: SocketAddr) -> Server {
    let data = folder.join(address.port().to_string());
    let user = if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"][..]
    } else {
        &["env"]
    };
    let run = |program: &str| {
        let mut command = Command::new(user[0]);
        command.args(&user[1..]).arg(programs.join(program)).arg("-D").arg(&data).current_dir(folder);
        command
    };
    let made = said(run("initdb").args(["-U", "postgres", "-A", "trust", "-N", "--no-instructions"]));
    made.unwrap_or_else(|error| panic!("{error}"));
    let sockets = format!("unix_socket_directories={}", folder.display());
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let server = Server::start(run("postgres").args(["-h", &ip, "-p", &port, "-c", &sockets, "-c", "fsync=off"]));
    eventually(|| {
        let mut ready = Command::new(programs.join("pg_isready"));
        said(ready.args(["-h", &ip, "-p", &port])).is_ok()
    });
    server
}

#[test]
fn a_dns_server_answers_a_dns_client() {
    let Some(program) = installed("dnsmasq", "dnsmasq-base", &["/usr/sbin/dnsmasq".into()]) else { return };
    let Some(dig) = installed("dig", "dnsutils", &["/usr/bin/dig".into()]) else { return };
    let servers = [(free(82), "192.0.2.1"), (free(83), "192.0.2.2")].map(|(address, answer)| {
        let mut command = Command::new(&program);
        let port = format!("--port={}", address.port());
        let listen = format!("--listen-address={}", address.ip());
        command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file="]);
        command.args(["--bind-interfaces", "--user=root", &port, &listen, &format!("--address=/db.test/{answer}")]);
        let server = Server::start(&mut command);
        eventually(|| TcpStream::connect(address).is_ok());
        (server, address)
    });
    let [(mut first, one), (_second, other)] = servers;
    let listener = listener("").replace("\"tcp\"", "\"udp\"") + "responses = 1\n";
    let keys = "passive = { max_fails = 1, fail_timeout = \"1h\" }";
    let proxy =
        Proxy::with(&format!("{ADMIN}{listener}[upstreams.api]\nendpoints = [\"{one}\", \"{other}\"]\n{keys}\n"));
    let ask = || {
        let port = proxy.address().port().to_string();
        said(Command::new(&dig).args(["@127.0.0.1", "-p", &port, "+short", "+tries=3", "+time=1", "x.db.test"]))
    };
    let answers: Vec<_> = (0..4).map(|_| ask().expect("an answer")).collect();
    assert_eq!(answers, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]);

    first.kill();

    // What was sent to nobody goes to the other, and no client notices.
    for _ in 0..4 {
        assert_eq!(ask(), Ok("192.0.2.2".to_owned()));
    }
}
