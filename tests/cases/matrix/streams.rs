//! Connections that many requests share.

use std::cell::Cell;
use std::rc::Rc;

use http::Response;

use super::{Stage, run};
use crate::harness::peer::{Back, Body, Connection, Front};

fn shared_fronts() -> Vec<Front> {
    Front::ALL.iter().copied().filter(|front| front.has_streams()).collect()
}

/// As many as a client of HTTP/2 may ask for at a time.
const AT_ONCE: usize = 128;

#[test]
fn requests_of_one_connection_are_served_at_the_same_time() {
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        let all = path.rsplit_once('/').expect("a slash").0.to_owned();
        notes.add(&path, "came");
        // Nobody is answered before all have come.
        notes.wait(&all, "came", AT_ONCE).await;
        serving.sender.respond(Response::new(()), Body::Stream).await?;
        for _ in 0..4 {
            serving.sender.send(path.clone()).await?;
            tokio::task::yield_now().await;
        }
        serving.sender.finish(None).await
    });

    for &back in Back::ALL {
        stage.over(&shared_fronts(), &[back], async |pair| {
            let mut connection = pair.connect().await?;
            let mut calls = Vec::new();
            for number in 0..AT_ONCE {
                calls.push(connection.call(pair.get(&format!("/all/{number}")), Body::None).await?);
            }
            for (number, call) in calls.iter_mut().enumerate() {
                let body = call.answer().await?.into_body();
                assert_eq!(String::from_utf8_lossy(&body), pair.path(&format!("/all/{number}")).repeat(4));
            }
            Ok(())
        });
    }
}

#[test]
fn further_connections_are_opened_where_one_takes_few_requests() {
    for limit in [1, 2] {
        let stage = Stage::with("", "", Some(limit), async |serving, notes| {
            let path = serving.path();
            notes.add(&path, "came");
            let all = path.rsplit_once('/').expect("a slash").0.to_owned();
            notes.wait(&all, "came", 8).await;
            serving.answer("x").await
        });

        stage.over(&[Front::Http1, Front::Http2], &[Back::Http2, Back::H2c], async |pair| {
            let mut connection = pair.connect().await?;
            let mut calls = Vec::new();
            for number in 0..8 {
                calls.push(connection.call(pair.get(&format!("/all/{number}")), Body::None).await?);
            }
            for call in &mut calls {
                assert_eq!(call.answer().await?.body(), b"x");
            }
            // What was refused was asked again, and nothing twice.
            assert_eq!(pair.stage.notes.count(&pair.path("/all"), "came"), 8);
            let connections = pair.stage.origin(pair.back).connections();
            assert!(connections >= 8 / limit as usize, "{connections} connections");
            Ok(())
        });
    }
}

#[test]
fn nothing_is_lost_or_done_twice_when_an_endpoint_says_goodbye() {
    const REQUESTS: usize = 100;
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        notes.add(&path, "came");
        serving.receiver.body().await?;
        if path.ends_with('7') {
            serving.leave();
        }
        serving.answer("x").await
    });

    stage.over(Front::ALL, &[Back::Http2, Back::H2c], async |pair| {
        let connection = Rc::new(tokio::sync::Mutex::new(pair.connect().await?));
        let next = Rc::new(Cell::new(0));
        let path = |number: usize| pair.path(&format!("/{number}"));
        let work = async || {
            while next.get() < REQUESTS {
                let number = next.replace(next.get() + 1);
                let request = pair.post(&format!("/{number}"));
                let mut call = connection.lock().await.send(request, b"hello").await?;
                assert_eq!(call.answer().await?.status(), 200, "{}", path(number));
            }
            Ok(())
        };
        tokio::try_join!(work(), work(), work(), work(), work(), work(), work(), work())?;
        assert_eq!(pair.stage.notes.count(&pair.path("/"), "came"), REQUESTS);
        Ok(())
    });
}

#[test]
fn a_request_under_way_ends_while_its_connection_takes_no_more() {
    for front in [Front::Http2, Front::H2c] {
        let stage = Stage::new(async |serving, notes| {
            notes.add(&serving.path(), "came");
            notes.wait(&serving.path(), "left", 1).await;
            serving.answer("x").await
        });
        let entry = &stage.entry;

        run(async {
            let mut connection = Connection::open(front, entry).await?;
            let request = http::Request::get("/h2c/drain").body(()).expect("a request");
            let mut call = connection.call(request, Body::None).await?;
            stage.notes.wait("/h2c/drain", "came", 1).await;
            stage.proxy.drain();
            connection.left().await;
            stage.notes.add("/h2c/drain", "left");
            assert_eq!(call.answer().await?.body(), b"x");
            Ok(())
        })
        .expect("nothing breaks");

        assert!(stage.proxy.wait(), "{front:?}: it ended in order");
    }
}
