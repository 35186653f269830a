//! A running proxy, spoken to over its admin server.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use staunch::config::{Admin, ListenAddress};

use super::arguments::RemoteArguments;
use super::{Failure, say};

/// The longest wait for an answer: longer than an upgrade may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The variable with the token.
const TOKEN: &str = "STAUNCH_ADMIN_TOKEN";

/// `staunch apply`.
pub(super) fn apply(remote: &Remote, file: &Path, confirm: Option<Duration>) -> Result<(), Failure> {
    let text = fs::read(file).map_err(|error| Failure::bad(format_args!("{}: {error}", file.display())))?;
    let query = confirm.map(|time| format!("?confirm={}ms", time.as_millis())).unwrap_or_default();
    let accepted = remote.post(&format!("/api/config{query}"), &text)?;
    serves(&accepted);
    if let Some(pending) = accepted["pending"].as_object() {
        let (left, back_to) = (&pending["seconds_left"], &pending["back_to"]);
        say(format_args!("it goes back to generation {back_to} in {left} s unless `staunch confirm` is said"));
    }
    Ok(())
}

/// `staunch confirm`.
pub(super) fn confirm(remote: &Remote) -> Result<(), Failure> {
    let confirmed = remote.post("/api/config/confirm", &[])?;
    say(format_args!("generation {} stays", confirmed["generation"]));
    Ok(())
}

/// `staunch rollback`.
pub(super) fn roll_back(remote: &Remote, to: Option<u64>) -> Result<(), Failure> {
    let query = to.map(|number| format!("?to={number}")).unwrap_or_default();
    serves(&remote.post(&format!("/api/config/rollback{query}"), &[])?);
    Ok(())
}

/// `staunch reload`.
pub(super) fn reload(remote: &Remote) -> Result<(), Failure> {
    serves(&remote.post("/api/config/reload", &[])?);
    Ok(())
}

/// `staunch upgrade`.
pub(super) fn upgrade(remote: &Remote) -> Result<(), Failure> {
    let upgraded = remote.post("/api/upgrade", &[])?;
    say(format_args!("the process {} serves", upgraded["pid"]));
    Ok(())
}

/// `staunch drain`.
pub(super) fn drain(remote: &Remote) -> Result<(), Failure> {
    remote.post("/api/drain", &[])?;
    say("it drains");
    Ok(())
}

fn serves(accepted: &Value) {
    say(format_args!("generation {} serves", accepted["generation"]));
}

/// Where a running proxy answers its operator.
#[derive(Debug)]
pub(super) struct Remote {
    address: ListenAddress,
    token: Option<String>,
}

impl Remote {
    /// # Errors
    /// When neither the arguments nor the configuration tell the address.
    pub(super) fn of(arguments: &RemoteArguments) -> Result<Self, Failure> {
        let token = arguments.token.clone().or_else(|| env::var(TOKEN).ok()).filter(|token| !token.is_empty());
        if let Some(address) = &arguments.admin {
            return Ok(Self { address: address.clone(), token });
        }
        let admin = Admin::load(&arguments.config).map_err(Failure::bad)?.ok_or_else(|| {
            let file = arguments.config.display();
            Failure::Bad(format!("{file} has no `[admin]`: name the running proxy's with `--admin ADDRESS`"))
        })?;
        Ok(Self { address: admin.address, token: token.or(admin.token) })
    }

    /// Asks for something to be done, and answers what came of it.
    ///
    /// # Errors
    /// What the proxy said when it did not, or why nothing was heard of it.
    pub(super) fn post(&self, path: &str, body: &[u8]) -> Result<Value, Failure> {
        let (status, body) = self.ask("POST", path, body).map_err(|error| {
            Failure::internal(format_args!("the admin server at {} does not answer: {error}", self.address))
        })?;
        let answer = serde_json::from_slice::<Value>(&body);
        if (200..300).contains(&status) {
            return Ok(answer.unwrap_or_default());
        }
        Err(Failure::Bad(match &answer {
            Ok(answer) => refusal(answer),
            Err(_) => format!("the admin server at {} answers with {status}", self.address),
        }))
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: staunch\r\nconnection: close\r\n");
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let request = [head.as_bytes(), body].concat();
        match &self.address {
            ListenAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }
            ListenAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }
        }
    }
}

/// The words of a refusal, with every fault it names.
fn refusal(answer: &Value) -> String {
    let mut text = answer["error"].as_str().unwrap_or("it was refused").to_owned();
    for fault in answer["faults"].as_array().into_iter().flatten() {
        let of = |key: &str| fault[key].as_u64().filter(|number| *number > 0);
        text.push('\n');
        if let (Some(line), Some(column)) = (of("line"), of("column")) {
            text += &format!("{line}:{column}: ");
        }
        text += fault["message"].as_str().unwrap_or_default();
        if let Some(hint) = fault["hint"].as_str() {
            text += &format!(" ({hint})");
        }
    }
    text
}

/// Sends a request and reads its response, which the end of the connection ends.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is not whole"))
}

/// The status and the body of a response that was received whole.
fn read(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else { return None };
    let status = head.code?;
    let declared = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body = &answer[length..];
    let body = match declared {
        Some(field) => body.get(..std::str::from_utf8(field.value).ok()?.parse().ok()?)?,
        None => body,
    };
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    /// A server that answers one request with these bytes, and tells what it was asked.
    fn answering(answer: &'static str) -> (Remote, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(listener.local_addr().unwrap());
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"body") {
                length += stream.read(&mut request[length..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (Remote { address, token: Some("secret".to_owned()) }, asked)
    }

    #[test]
    fn a_request_carries_the_token_and_brings_the_answer() {
        let (remote, asked) = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"pid\":7}");

        assert_eq!(remote.post("/api/upgrade", b"body").unwrap(), json!({ "pid": 7 }));

        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /api/upgrade HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nauthorization: Bearer secret\r\n"), "{asked}");
    }

    #[test]
    fn a_refusal_is_told_with_every_fault() {
        let (remote, _) = answering(
            "HTTP/1.1 422 Unprocessable\r\n\r\n{\"error\":\"two faults\",\"faults\":[\
             {\"line\":3,\"column\":1,\"message\":\"unknown key `lisen`\",\"hint\":\"did you mean `listen`?\"},\
             {\"line\":0,\"column\":0,\"message\":\"no route\",\"hint\":null}]}",
        );

        let Err(Failure::Bad(text)) = remote.post("/", b"body") else { panic!("it was not refused") };

        assert_eq!(text, "two faults\n3:1: unknown key `lisen` (did you mean `listen`?)\nno route");
    }

    #[test]
    fn an_answer_that_breaks_off_is_none() {
        let (remote, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{");

        assert!(matches!(remote.post("/", b"body"), Err(Failure::Internal(text)) if text.contains("not whole")));
    }
}
