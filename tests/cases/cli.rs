//! The commands, and what their ends mean.

use std::fs;
use std::process::{Output, Stdio};

use crate::harness::{Client, Upstream, api, binary, eventually, staunch};

/// Runs `staunch check` on this text.
fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    fs::write(&file, text).expect("a file");
    let output = staunch(&["check", "-c", file.to_str().expect("UTF-8")]);
    // The place of the folder is of no interest.
    let said = said(&output).replace(&format!("{}/", folder.path().display()), "");
    (output.status.code(), said)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_good_configuration_is_fine() {
    let (code, said) = check(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:8080\"\n{}[[routes]]\nupstream = \"api\"\nrewrite = [\"set-headers\"]\n",
        api([&Upstream::refusing()])
    ));

    assert_eq!((code, said.as_str()), (Some(0), "staunch.toml: fine\n"));
}

#[test]
fn the_example_of_a_front_door_is_fine() {
    let (code, said) = check(include_str!("../../examples/resilient.toml"));

    assert_eq!((code, said.as_str()), (Some(0), "staunch.toml: fine\n"));
}

#[test]
fn every_fault_is_told_at_once_with_its_place_and_a_hint() {
    let (code, said) = check(
        "[server]\n\
         workers = \"many\"\n\
         [[listeners]]\n\
         address = \"localhost\"\n\
         [[routes]]\n\
         upstream = \"apo\"\n\
         [upstreams.api]\n\
         balanse = \"round-robin\"\n\
         endpoints = [\"10.0.0.1:80\"]\n\
         read_timeout = \"5 parsecs\"\n\
         [upstreams.api.retry]\n\
         plugin = \"standart\"\n",
    );

    assert_eq!(code, Some(1), "{said}");
    for (place, hint) in [
        ("staunch.toml:2:11: ", "many"),
        ("staunch.toml:4:11: ", "localhost"),
        ("staunch.toml:6:12: ", "did you mean `api`?"),
        ("staunch.toml:8:1: ", "did you mean `balance`?"),
        ("staunch.toml:10:16: ", "5 parsecs"),
        ("staunch.toml:12:10: ", "did you mean `standard`?"),
    ] {
        let line = said.lines().find(|line| line.starts_with(place));
        assert!(line.is_some_and(|line| line.contains(hint)), "{place} {hint} in\n{said}");
    }
    assert_eq!(said.lines().count(), 6, "{said}");
}

#[test]
fn a_plugins_complaint_is_told_with_its_place() {
    let (code, said) = check(&format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"api\"\n{}[upstreams.api.retry]\nconfig = {{ on = [\"eror\"] }}\n",
        api([&Upstream::refusing()])
    ));

    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("staunch.toml:8:") && said.contains("did you mean `error`?"), "{said}");
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let (code, said) = check("[server]\nworkers = = 2\n");

    assert_eq!(code, Some(1));
    assert!(said.starts_with("staunch.toml:2:11: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_file_that_is_not_there_is_a_bad_configuration() {
    for command in ["check", "run"] {
        let output = staunch(&[command, "-c", "nowhere.toml"]);

        assert_eq!(output.status.code(), Some(1), "for {command}");
        assert!(said(&output).contains("nowhere.toml"), "{}", said(&output));
    }
}

#[test]
fn nothing_starts_with_a_bad_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.toml");
    fs::write(&file, "[[routes]]\nupstream = \"api\"\n").expect("a file");

    let output = staunch(&["run", "-c", file.to_str().expect("UTF-8")]);

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("there is no upstream `api`"), "{}", said(&output));
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();

    let output = staunch(&["proxy", "--listen", &address, "--to", "127.0.0.1:1"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("cannot listen on {address}")), "{}", said(&output));
}

#[test]
fn bad_arguments_end_with_2() {
    for arguments in [
        &["walk"][..],
        &[],
        &["run", "--fast"],
        &["proxy"],
        &["proxy", "--to", "http://a"],
        &["proxy", "--to", "127.0.0.1:1", "--listen", "nowhere"],
        &["proxy", "--to", "127.0.0.1:1", "--balance", "round-robbin"],
        &["plugin", "inspect"],
    ] {
        let output = staunch(arguments);
        assert_eq!(output.status.code(), Some(2), "for {arguments:?}: {}", said(&output));
    }
}

#[test]
fn it_tells_its_version_and_its_commands() {
    let version = staunch(&["--version"]);
    assert_eq!((version.status.code(), said(&version).starts_with("staunch 0.")), (Some(0), true));

    let help = said(&staunch(&["--help"]));
    for command in ["run", "demo", "proxy", "check", "plugin"] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn a_plugin_is_inspected() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("own.wat");
    fs::write(&plugin, super::plugins::FIRST_ENDPOINT.as_str()).expect("a file");

    let output = staunch(&["plugin", "inspect", plugin.to_str().expect("UTF-8")]);

    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for what in ["own", "balancer", "staunch:plugin@0.1.0", "bytes"] {
        assert!(said(&output).contains(what), "{}", said(&output));
    }
}

#[test]
fn what_is_no_plugin_is_not_inspected() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text.wasm");
    fs::write(&text, "plain text").expect("a file");

    let output = staunch(&["plugin", "inspect", text.to_str().expect("UTF-8")]);

    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is not WebAssembly"), "{}", said(&output));
}

#[test]
fn a_proxy_needs_no_file() {
    let (a, b) = (Upstream::replying("A"), Upstream::replying("B"));
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("proxy");
    let mut command = binary();
    command.args(["proxy", "--listen", &format!("unix:{}", socket.display())]);
    command.args(["--to", &a.to_string(), "--to", &b.to_string()]);
    let mut child = command.stdin(Stdio::null()).spawn().expect("the binary");
    eventually(|| Client::over(&socket).is_ok());

    let mut client = Client::over(&socket).expect("it listens");
    let order: String = (0..4).map(|_| client.get("/").text().to_owned()).collect();

    // It may have been killed by nobody else.
    child.kill().expect("a child");
    child.wait().expect("a child");
    assert_eq!(order, "ABAB");
}

#[test]
fn the_demo_answers_and_is_seen_by_its_admin_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (proxy, admin) = (folder.path().join("proxy"), folder.path().join("admin"));
    let mut command = binary();
    command.arg("demo").args(["--listen", &format!("unix:{}", proxy.display())]);
    command.args(["--admin", &format!("unix:{}", admin.display())]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the binary");
    eventually(|| Client::over(&proxy).is_ok() && Client::over(&admin).is_ok());

    let mut client = Client::over(&proxy).expect("it listens");
    let order: String = (0..7).map(|_| client.get("/name").text().trim().to_owned()).collect();
    let metrics = Client::over(&admin).expect("it listens").get("/metrics");

    child.kill().expect("a child");
    child.wait().expect("a child");
    assert_eq!(order.to_lowercase(), "aabacaa");
    assert_eq!(metrics.status, 200);
}
