//! Messages that are whole: heads, small bodies, what stands behind them and what is said before them.

use http::{Method, Response, StatusCode};

use super::{Stage, fields};
use crate::harness::pattern;
use crate::harness::peer::{Body, Front};

#[test]
fn heads_and_bodies_arrive_as_they_were_sent() {
    let stage = Stage::new(async |serving, _| {
        let body = serving.receiver.body().await?;
        let mut response = Response::new(());
        for name in ["x-sent", "cookie", "content-length"] {
            if let Some(value) = serving.request.headers().get(name) {
                response
                    .headers_mut()
                    .insert(http::HeaderName::try_from(format!("x-got-{name}")).expect("a name"), value.clone());
            }
        }
        response.headers_mut().append("set-cookie", "a=1".parse().expect("a value"));
        response.headers_mut().append("set-cookie", "b=2".parse().expect("a value"));
        let method = serving.request.method().as_str().parse().expect("a value");
        response.headers_mut().insert("x-got-method", method);
        serving.sender.respond(response, Body::Length(body.len())).await?;
        serving.sender.send(body).await?;
        serving.sender.finish(None).await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        let body = pattern(5000);
        let cookies: &[_] = match pair.front.has_streams() {
            true => &[("x-sent", "a, b"), ("cookie", "a=b"), ("cookie", "c=d")],
            false => &[("x-sent", "a, b"), ("cookie", "a=b; c=d")],
        };
        for (method, body) in [(Method::GET, &[][..]), (Method::POST, &body), (Method::PUT, &body)] {
            let request = pair.request(method.clone(), "/a/b?c=d", cookies);
            let response = connection.ask(request, body).await?;

            assert_eq!(response.status(), 200);
            assert_eq!(response.body(), body);
            let field = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(field("x-got-x-sent").as_deref(), Some("a, b"));
            assert_eq!(field("x-got-cookie").as_deref(), Some("a=b; c=d"));
            assert_eq!(field("x-got-method").as_deref(), Some(method.as_str()));
            let length = body.len().to_string();
            assert_eq!(field("content-length").as_ref(), Some(&length));
            let expected = (!body.is_empty()).then_some(length);
            assert_eq!(field("x-got-content-length"), expected);
            let set: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
            assert_eq!(set, ["a=1", "b=2"]);
        }
        Ok(())
    });
}

#[test]
fn responses_that_have_no_body_have_none() {
    let stage = Stage::new(async |serving, _| {
        let mut response = Response::new(());
        let (status, length) = match serving.path().rsplit('/').next() {
            Some("204") => (204, None),
            Some("304") => (304, None),
            Some("head") => (200, Some("1234")),
            _ => return serving.answer("x").await,
        };
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        response.headers_mut().insert("etag", "\"e\"".parse().expect("a value"));
        if let Some(length) = length {
            response.headers_mut().insert("content-length", length.parse().expect("a value"));
        }
        serving.sender.respond(response, Body::None).await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for (method, path, status, length) in [
            (Method::GET, "/204", 204, None),
            (Method::GET, "/304", 304, None),
            (Method::HEAD, "/head", 200, Some("1234")),
            (Method::GET, "/", 200, Some("1")),
        ] {
            let response = connection.ask(pair.request(method, path, &[]), b"").await?;

            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.body().len(), usize::from(path == "/"), "{path}");
            let said = response.headers().get("content-length").map(|value| value.to_str().expect("text"));
            assert_eq!(said, length, "{path}");
        }
        Ok(())
    });
}

#[test]
fn what_stands_behind_bodies_arrives() {
    let stage = Stage::new(async |serving, _| {
        let body = serving.receiver.body().await?;
        let sent = serving.receiver.trailers.take();
        let mut trailers = fields(&[("x-after", "said behind")]);
        let got = sent.as_ref().and_then(|sent| sent.get("x-sum")).cloned();
        trailers.insert("x-got", got.unwrap_or_else(|| "nothing".parse().expect("a value")));
        serving.sender.respond(Response::new(()), Body::Stream).await?;
        if !body.is_empty() {
            serving.sender.send(body).await?;
        }
        serving.sender.finish(Some(trailers)).await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        for length in [0, 1, 5000] {
            let body = pattern(length);
            let request = pair.request(Method::POST, "/", &[("te", "trailers"), ("trailer", "x-sum")]);
            let mut call = connection.call(request, Body::Stream).await?;
            if length > 0 {
                call.sender.send(body.clone()).await?;
            }
            call.sender.finish(Some(fields(&[("x-sum", "123")]))).await?;
            let response = call.answer().await?;

            assert_eq!((response.status().as_u16(), response.body()), (200, &body));
            let trailers = call.trailers().expect("there are some");
            assert_eq!(trailers.get("x-after").map(|value| value.as_bytes()), Some(&b"said behind"[..]));
            assert_eq!(trailers.get("x-got").map(|value| value.as_bytes()), Some(&b"123"[..]), "{length} bytes");
        }
        Ok(())
    });
}

#[test]
fn a_body_that_waits_to_be_asked_for_is() {
    let stage = Stage::new(async |serving, _| {
        let expects = serving.field("expect").is_some();
        if expects {
            serving.sender.inform(100, fields(&[])).await?;
        }
        let body = serving.receiver.body().await?;
        serving.answer(body).await
    });

    stage.over(
        &[Front::Http1, Front::Http1Tls, Front::Http2, Front::H2c],
        crate::harness::peer::Back::ALL,
        async |pair| {
            let mut connection = pair.connect().await?;
            let request = pair.request(Method::POST, "/", &[("expect", "100-continue")]);
            let mut call = connection.call(request, Body::Length(5)).await?;

            let go_on = call.receiver.some_response().await?;
            assert_eq!(go_on.status(), 100);
            call.sender.send("hello").await?;
            call.sender.finish(None).await?;
            assert_eq!(call.answer().await?.body(), b"hello");
            Ok(())
        },
    );
}

#[test]
fn what_is_said_before_a_response_arrives_before_it() {
    let stage = Stage::new(async |serving, notes| {
        serving.sender.inform(103, fields(&[("link", "</a.css>; rel=preload")])).await?;
        // It is not said together with the response, but before.
        notes.wait(&serving.path(), "informed", 1).await;
        serving.answer("x").await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        let mut call = connection.call(pair.get("/"), Body::None).await?;
        if !pair.front.is_http3() {
            let early = call.receiver.some_response().await?;
            assert_eq!(early.status(), 103);
            assert_eq!(early.headers().get("link").expect("it is there"), "</a.css>; rel=preload");
        }
        pair.stage.notes.add(&pair.path("/"), "informed");
        assert_eq!(call.answer().await?.body(), b"x");
        Ok(())
    });
}
