//! Configurations are numbered, kept, gone back to, and taken back when nobody confirms them or they do worse.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::harness::{ADMIN, Client, Proxy, Response, Service, Upstream, api, eventually, ok};

/// A configuration that answers with this text, on the listener and with the admin server of the others.
fn answering(body: &str) -> String {
    format!(
        "{ADMIN}[server]\nworkers = 1\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nrespond = {{ status = 200, body = \"{body}\" }}\n"
    )
}

/// Sends something to the admin server.
fn post(proxy: &Proxy, path: &str, body: &str) -> Response {
    Client::connect(proxy.admin_address()).post(path, body)
}

/// What an answer says under a key, as it is written.
#[track_caller]
fn said(answer: &Response, key: &str) -> String {
    let text = answer.text();
    let (_, rest) = text.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {text}"));
    rest.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
}

fn config(proxy: &Proxy) -> Response {
    proxy.admin("/api/config", "")
}

#[test]
fn configurations_are_numbered_and_gone_back_to() {
    let proxy = Proxy::with(&answering("one"));

    for (number, body) in [(2, "two"), (3, "three")] {
        let applied = post(&proxy, "/api/config", &answering(body));
        assert_eq!((applied.status, said(&applied, "generation")), (200, number.to_string()));
        assert_eq!(proxy.get("/").text(), body);
    }
    for body in ["two", "one"] {
        assert_eq!(post(&proxy, "/api/config/rollback", "").status, 200);
        assert_eq!(proxy.get("/").text(), body);
    }
    let none = post(&proxy, "/api/config/rollback", "");
    let chosen = post(&proxy, "/api/config/rollback?to=3", "");

    assert_eq!(none.status, 404, "nothing is before the first");
    assert_eq!((chosen.status, said(&chosen, "generation").as_str()), (200, "6"));
    assert_eq!(proxy.get("/").text(), "three");
    let told = config(&proxy);
    assert_eq!((said(&told, "serving").as_str(), said(&told, "source").as_str()), ("6", "rollback"));
    assert_eq!(told.text().matches("\"digest\":").count(), 1 + 6, "the shown one and all of the history");
    assert_eq!(proxy.metric("staunch_config_generation"), 6.0);
}

#[test]
fn a_faulty_configuration_changes_nothing_and_every_fault_has_its_place() {
    let proxy = Proxy::with(&answering("one"));

    let refused = post(&proxy, "/api/config", &format!("{}balanse = 1\n[servr]\n", answering("two")));

    assert_eq!(refused.status, 422);
    for words in ["2 faults", "\"line\":9,\"column\":1", "unknown key `balanse`", "unknown key `servr`"] {
        assert!(refused.text().contains(words), "{words} in {}", refused.text());
    }
    assert_eq!(proxy.get("/").text(), "one");
    assert_eq!(said(&config(&proxy), "serving"), "1");
    assert_eq!(proxy.metric("staunch_config_refused_total"), 1.0);
}

#[test]
fn what_is_not_confirmed_goes_back() {
    let proxy = Proxy::with(&answering("one"));

    let applied = post(&proxy, "/api/config?confirm=700ms", &answering("two"));

    assert_eq!((said(&applied, "back_to").as_str(), said(&applied, "seconds_left").as_str()), ("1", "1"));
    eventually(|| proxy.get("/").text() == "one");
    eventually(|| said(&config(&proxy), "source") == "taken_back");
    assert!(config(&proxy).text().contains("it was not confirmed within 700ms"), "{}", config(&proxy).text());
    assert_eq!(proxy.metric("staunch_config_taken_back_total"), 1.0);
    assert_eq!(post(&proxy, "/api/config/confirm", "").status, 409);
}

#[test]
fn what_is_confirmed_stays() {
    let proxy = Proxy::with(&answering("one"));
    post(&proxy, "/api/config?confirm=1h", &answering("two"));
    assert_eq!(proxy.metric("staunch_config_pending"), 1.0);

    let confirmed = post(&proxy, "/api/config/confirm", "");

    assert_eq!((confirmed.status, said(&confirmed, "generation").as_str()), (200, "2"));
    assert_eq!(proxy.metric("staunch_config_pending"), 0.0);
    assert_eq!(said(&config(&proxy), "pending"), "null");
    assert_eq!(proxy.get("/").text(), "two");
}

#[test]
fn of_several_that_wait_the_last_confirmed_one_comes_back() {
    let proxy = Proxy::with(&answering("one"));

    post(&proxy, "/api/config?confirm=1h", &answering("two"));
    let third = post(&proxy, "/api/config?confirm=200ms", &answering("three"));

    assert_eq!(said(&third, "back_to"), "1");
    eventually(|| proxy.get("/").text() == "one");
}

#[test]
fn a_route_that_does_worse_takes_its_configuration_back() {
    let (good, bad) = (Upstream::replying("fine"), Upstream::status(503));
    let text = |origin: &Upstream| {
        format!("{ADMIN}[[listeners]]\naddress = \"127.0.0.1:0\"\n[[routes]]\nupstream = \"api\"\n{}", api([origin]))
    };
    let proxy = Arc::new(Proxy::with(&text(&good)));
    let leave = Arc::new(AtomicBool::new(false));
    let asking = thread::spawn({
        let (proxy, leave) = (proxy.clone(), leave.clone());
        move || {
            let mut client = Client::to(&proxy);
            while !leave.load(SeqCst) {
                let response = client.get("/");
                assert!(matches!(response.status, 200 | 503), "nothing else happens to requests");
            }
        }
    });
    eventually(|| good.requests() > 300);

    let applied = post(&proxy, "/api/config?confirm=1h", &text(&bad));

    assert_eq!(applied.status, 200, "{}", applied.text());
    eventually(|| bad.requests() > 0);
    eventually(|| said(&config(&proxy), "source") == "taken_back");
    let told = config(&proxy).text().to_owned();
    // A request that was under way when it took over may count as well.
    let why = "instead of generation 2: the route `/` does worse: ";
    assert!(told.contains(why) && told.contains("% of its requests are errors, and 0.0% were before"), "{told}");
    leave.store(true, SeqCst);
    asking.join().expect("every request was answered");
    assert_eq!(proxy.get("/").text(), "fine");
}

#[test]
fn secrets_are_not_shown() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send(ok("fine"));
    });
    let proxy = Proxy::with(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"hunter2\"\n{}# hunter2 is not to be told\n",
        api([&origin])
    ));

    let unknown = config(&proxy);
    let told = proxy.admin("/api/config", "Authorization: Bearer hunter2\r\n");

    assert_eq!((unknown.status, told.status), (401, 200));
    assert!(!told.text().contains("hunter2") && told.text().contains("token = \\\"…\\\""), "{}", told.text());
}

#[test]
fn the_commands_do_it_and_a_restart_does_not_forget() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = format!("[server]\nworkers = 1\nstate = \"{}\"\n", folder.path().display());
    let text = |body: &str| answering(body).replace("[server]\nworkers = 1\n", &state);
    let mut service = Service::start(&text("one"));
    let file = service.folder().join("staunch.toml");
    let [two, bad] = ["two.toml", "bad.toml"].map(|name| service.folder().join(name));
    fs::write(&two, text("two")).expect("a file");
    fs::write(&bad, "[server]\n").expect("a file");
    let run = |service: &Service, arguments: &[&str]| {
        let output = service.command(arguments);
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        (output.status.code(), said)
    };
    let [two, bad] = [&two, &bad].map(|file| file.to_str().expect("UTF-8"));

    let (code, said) = run(&service, &["apply", two, "--confirm", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("generation 2 serves") && said.contains("back to generation 1 in 3600 s"), "{said}");
    assert_eq!(service.client().get("/").text(), "two");
    assert_eq!(run(&service, &["confirm"]), (Some(0), "generation 2 stays\n".to_owned()));
    let (code, said) = run(&service, &["apply", bad]);
    assert!(code == Some(1) && said.contains("nothing was changed") && said.contains("no listener"), "{said}");
    assert_eq!(run(&service, &["rollback"]), (Some(0), "generation 3 serves\n".to_owned()));
    assert_eq!(service.client().get("/").text(), "one");
    fs::write(&file, text("three")).expect("a file");
    assert_eq!(run(&service, &["reload"]), (Some(0), "generation 4 serves\n".to_owned()));
    assert_eq!((service.told().as_str(), service.told().as_str()), ("RELOADING=1", "READY=1"));

    let old = service.process;
    service.signal("USR2");
    service.replaced();
    service.ended(old);

    assert_eq!(service.client().get("/").text(), "three");
    assert_eq!(run(&service, &["rollback", "2"]), (Some(0), "generation 5 serves\n".to_owned()));
    assert_eq!(service.client().get("/").text(), "two");
    assert_eq!(run(&service, &["drain"]), (Some(0), "it drains\n".to_owned()));
    service.ended(service.process);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_no_outage() {
    let proxy = Proxy::with(&answering("one").replace("[server]\n", "[server]\nstate = \"/nowhere/at/all\"\n"));

    let applied = post(&proxy, "/api/config", &answering("two"));

    assert_eq!(applied.status, 200);
    assert_eq!(proxy.get("/").text(), "two");
}
