//! Bodies that come in pieces, in both directions at once.

use http::Response;

use super::Stage;
use crate::harness::pattern;
use crate::harness::peer::Body;

#[test]
fn each_piece_arrives_before_the_next_is_sent() {
    let stage = Stage::new(async |serving, _| {
        serving.sender.respond(Response::new(()), Body::Stream).await?;
        while let Some(data) = serving.receiver.data().await? {
            serving.sender.send(data).await?;
        }
        serving.sender.finish(None).await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        let mut call = connection.call(pair.post("/"), Body::Stream).await?;
        let mut is_answered = false;
        for length in (1..20).chain([500, 5000, 20_000]) {
            let piece = pattern(length);
            call.sender.send(piece.clone()).await?;
            if !std::mem::replace(&mut is_answered, true) {
                assert_eq!(call.receiver.response().await?.status(), 200);
            }
            assert_eq!(call.receiver.take(length).await?, piece);
        }
        call.sender.finish(None).await?;
        assert_eq!(call.receiver.data().await?, None);
        Ok(())
    });
}

#[test]
fn a_response_may_come_before_its_request_is_whole() {
    let stage = Stage::new(async |serving, notes| {
        let path = serving.path();
        serving.answer("early").await?;
        // What comes then is read, so that nobody is cut off.
        if serving.receiver.body().await.is_ok() {
            notes.add(&path, "whole");
        }
        Ok(())
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for goes_on in [true, false] {
            let mut call = connection.call(pair.post("/"), Body::Stream).await?;
            call.sender.send("first").await?;
            let response = call.answer().await?;
            assert_eq!((response.status().as_u16(), response.body().as_slice()), (200, &b"early"[..]));
            if goes_on {
                // The proxy may not want it any more. The library for HTTP/3 ends its connection when it is asked to send
                // after that.
                if call.sender.send("second").await.is_ok() {
                    let _ = call.sender.finish(None).await;
                }
            } else {
                call.reset();
            }
            for _ in 0..3 {
                assert_eq!(connection.ask(pair.post("/"), b"whole").await?.body(), b"early");
            }
        }
        Ok(())
    });
}
