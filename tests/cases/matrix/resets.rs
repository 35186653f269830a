//! Messages that are broken off, by either end.

use h2::Reason;
use http::Response;

use super::Stage;
use crate::harness::pattern;
use crate::harness::peer::{Body, Serving};

#[test]
fn a_request_that_its_client_breaks_off_is_broken_for_the_endpoint() {
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        serving.receiver.take(5).await?;
        notes.add(&path, "begun");
        let ended = serving.receiver.data().await;
        notes.add(&path, if ended.is_err() { "broken" } else { "whole" });
        serving.answer("x").await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for (rest, body) in [("/length", Body::Length(10)), ("/stream", Body::Stream)] {
            let mut call = connection.call(pair.post(rest), body).await?;
            call.sender.send("first").await?;
            pair.stage.notes.wait(&pair.path(rest), "begun", 1).await;
            call.reset();

            pair.stage.notes.wait(&pair.path(rest), "broken", 1).await;
            assert_eq!(pair.stage.notes.count(&pair.path(rest), "whole"), 0);
        }
        Ok(())
    });
}

#[test]
fn a_client_that_does_not_wait_for_its_response_is_noticed() {
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        if path.ends_with("/within") {
            serving.sender.respond(Response::new(()), Body::Stream).await?;
            serving.sender.send("first").await?;
        }
        notes.add(&path, "begun");
        serving.gone().await;
        notes.add(&path, "gone");
        Ok(())
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for rest in ["/before", "/within"] {
            let call = connection.call(pair.get(rest), Body::None).await?;
            pair.stage.notes.wait(&pair.path(rest), "begun", 1).await;
            call.reset();

            pair.stage.notes.wait(&pair.path(rest), "gone", 1).await;
        }
        Ok(())
    });
}

#[test]
fn an_endpoint_that_breaks_off_before_its_response_costs_the_request_only() {
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        notes.add(&path, "came");
        if path.ends_with("/broken") {
            serving.receiver.body().await?;
            serving.reset(Reason::INTERNAL_ERROR);
            return Ok(());
        }
        serving.answer("x").await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for _ in 0..2 {
            assert_eq!(connection.ask(pair.post("/broken"), b"hello").await?.status(), 502);
            assert_eq!(connection.ask(pair.post("/"), b"hello").await?.body(), b"x");
        }
        // What may have been done is not done again.
        assert_eq!(pair.stage.notes.count(&pair.path("/broken"), "came"), 2);
        Ok(())
    });
}

#[test]
fn a_response_that_is_broken_off_is_never_whole() {
    let stage = Stage::new(async |serving, _| {
        let path = serving.path();
        if path.ends_with("/whole") {
            return serving.answer("x").await;
        }
        let body = if path.ends_with("/length") { Body::Length(100_000) } else { Body::Stream };
        serving.sender.respond(Response::new(()), body).await?;
        serving.sender.send(pattern(20_000)).await?;
        // A reset may overtake what was sent; the client says when it has that.
        once_read(serving).await;
        serving.reset(Reason::INTERNAL_ERROR);
        Ok(())
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for rest in ["/length", "/stream"] {
            let mut call = connection.call(pair.post(rest), Body::Stream).await?;
            call.sender.send("go").await?;
            assert_eq!(call.receiver.response().await?.status(), 200);
            assert_eq!(call.receiver.take(20_000).await?, pattern(20_000));
            call.sender.send("on").await?;

            assert!(call.receiver.body().await.is_err(), "{rest}: it looked like a whole one");
            assert_eq!(connection.ask(pair.get("/whole"), b"").await?.body(), b"x");
        }
        Ok(())
    });
}

/// Waits until the client has said twice that it goes on.
async fn once_read(serving: &mut Serving) {
    let mut said = 0;
    while said < 4
        && let Ok(Some(data)) = serving.receiver.data().await
    {
        said += data.len();
    }
}
