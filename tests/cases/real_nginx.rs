//! Three real nginx servers as origins. Skipped where nginx is not installed.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::harness::{ADMIN, Client, Proxy, eventually, pattern};

/// What is served, beside the server's own name.
const SIZES: [usize; 10] = [1, 2, 1000, 16_383, 16_384, 65_537, 1 << 20, (4 << 20) + 1, 16 << 20, 64 << 20];

/// An nginx with a configuration of its own. It ends with the test.
struct Nginx {
    name: &'static str,
    address: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

impl Nginx {
    /// Serves the files of `root` and, at `/name`, its name.
    fn new(name: &'static str, root: &Path) -> Self {
        let folder = root.join(format!("nginx-{name}"));
        fs::create_dir_all(&folder).expect("a folder");
        // Free a moment ago. While the server is stopped nobody else gets it: the other tests have another address.
        let address = TcpListener::bind("127.0.0.77:0").and_then(|taken| taken.local_addr()).expect("a port");
        let here = folder.display();
        let config = format!(
            "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               access_log off; sendfile on; keepalive_requests 100;\n\
               client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;\n\
               uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n\
               server {{ listen {address}; root {}/files; location = /name {{ return 200 {name}; }} }}\n\
             }}\n",
            root.display()
        );
        fs::write(folder.join("nginx.conf"), config).expect("a file");
        let mut nginx = Self { name, address, folder, child: None };
        nginx.start();
        nginx
    }

    fn start(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&self.folder).arg("-c").arg(self.folder.join("nginx.conf"));
        command.arg("-e").arg(self.folder.join("error.log")).stdin(Stdio::null());
        self.child = Some(command.spawn().expect("nginx"));
        eventually(|| TcpStream::connect(self.address).is_ok());
    }

    /// Ends it as an operator does: requests in flight are finished, idle connections closed.
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let line = format!("kill -QUIT {}", child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
        eventually(|| child.try_wait().expect("a child").is_some());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A master that is killed leaves its worker behind; one that is told to stop does not.
            let line = format!("kill -TERM {}", child.id());
            let _ = Command::new("sh").args(["-c", &line]).status();
            let _ = child.wait();
        }
    }
}

/// Three servers, and a proxy before them with these weights.
fn servers(folder: &Path, weights: [u32; 3]) -> Option<([Nginx; 3], Proxy)> {
    let is_there = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !is_there {
        println!("skipped: nginx is not installed (Debian: apt-get install nginx)");
        return None;
    }
    // Its worker serves as another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder, open).expect("a folder of ours");
    fs::create_dir_all(folder.join("files")).expect("a folder");
    let servers = ["A", "B", "C"].map(|name| Nginx::new(name, folder));
    let endpoints: Vec<_> = servers
        .iter()
        .zip(weights)
        .map(|(server, weight)| format!("{{ address = \"{}\", weight = {weight} }}", server.address))
        .collect();
    // A server that stops takes all that is under way to it at once, on a slow machine more than a share of a second's.
    let proxy = Proxy::with(&format!(
        "{ADMIN}[upstreams.api]\nendpoints = [{}]\n[upstreams.api.passive]\nfail_timeout = \"1s\"\n\
         [upstreams.api.retry]\nbudget = {{ min = 100 }}\n",
        endpoints.join(", ")
    ));
    Some((servers, proxy))
}

#[test]
fn picks_over_one_connection_are_in_nginxs_own_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((_servers, proxy)) = servers(folder.path(), [5, 1, 1]) else { return };
    let mut client = Client::to(&proxy);

    let order: String = (0..70).map(|_| client.get("/name").text().to_owned()).collect();

    assert_eq!(order, "AABACAA".repeat(10));
}

#[test]
fn files_of_every_size_arrive_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((_servers, proxy)) = servers(folder.path(), [1, 1, 1]) else { return };
    let file = |size: usize| folder.path().join("files").join(size.to_string());
    for size in SIZES {
        fs::write(file(size), pattern(size)).expect("a file");
    }
    let mut client = Client::to(&proxy);

    for size in SIZES {
        let response = client.get(&format!("/{size}"));
        assert!(response.status == 200 && response.body == pattern(size), "{size} bytes");
        let part = client.ask("GET", &format!("/{size}"), "Range: bytes=0-0\r\n");
        assert_eq!((part.status, part.body), (206, pattern(1)), "{size} bytes");
        let head = client.ask("HEAD", &format!("/{size}"), "");
        assert_eq!(head.field("content-length"), Some(&*size.to_string()));
    }
}

#[test]
fn no_get_fails_while_a_server_is_stopped_and_started_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((mut servers, proxy)) = servers(folder.path(), [1, 1, 1]) else { return };
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::to(&proxy);
                while !over.load(Relaxed) {
                    let response = client.get("/name");
                    let is_answer = response.status == 200 && response.body.len() == 1;
                    assert!(is_answer, "{response:?}\n{}", proxy.admin("/metrics", "").text());
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let answers = |name: &str| (0..9).any(|_| proxy.get("/name").text() == name);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for server in &mut servers[..2] {
                server.stop();
                let before = asked.load(Relaxed);
                eventually(|| asked.load(Relaxed) > before + 200);
                server.start();
                eventually(|| answers(server.name));
            }
        }));
        // Whatever happened, the clients must not go on for ever.
        over.store(true, Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
}
