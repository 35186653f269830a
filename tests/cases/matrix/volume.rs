//! Bodies longer than any buffer.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use xxhash_rust::xxh64::Xxh64;

use super::{Pair, Stage};
use crate::harness::pattern;
use crate::harness::peer::{Body, Receiver, Result, Sender};

const VOLUME: usize = 64 * 1024 * 1024;
const PIECE: usize = 256 * 1024;

/// Sends that much and answers its checksum.
async fn pour(sender: &mut Sender, piece: &Bytes) -> Result<u64> {
    let mut sum = Xxh64::new(0);
    for _ in 0..VOLUME / PIECE {
        sum.update(piece);
        sender.send(piece.clone()).await?;
    }
    sender.finish(None).await?;
    Ok(sum.digest())
}

/// Reads all there is and answers how much that was, and its checksum.
async fn drink(receiver: &mut Receiver) -> Result<(usize, u64)> {
    let (mut length, mut sum) = (0, Xxh64::new(0));
    while let Some(data) = receiver.data().await? {
        length += data.len();
        sum.update(&data);
    }
    Ok((length, sum.digest()))
}

#[test]
fn long_bodies_arrive_whole_in_both_directions() {
    let piece = Bytes::from(pattern(PIECE));
    let own = piece.clone();
    let stage = Stage::new(async move |serving, _| {
        if serving.path().ends_with("/down") {
            serving.sender.respond(Response::new(()), Body::Length(VOLUME)).await?;
            return pour(&mut serving.sender, &own).await.map(drop);
        }
        let (length, sum) = drink(&mut serving.receiver).await?;
        serving.answer(format!("{length} {sum}")).await
    });

    stage.everywhere(async |pair| {
        let mut connection = pair.connect().await?;
        let mut call = connection.call(pair.post("/up"), Body::Length(VOLUME)).await?;
        let sum = pour(&mut call.sender, &piece).await?;
        let answer = call.answer().await?;
        assert_eq!(String::from_utf8_lossy(answer.body()), format!("{VOLUME} {sum}"));

        let mut call = connection.call(pair.get("/down"), Body::None).await?;
        assert_eq!(call.receiver.response().await?.status(), 200);
        assert_eq!(drink(&mut call.receiver).await?, (VOLUME, sum));
        Ok(())
    });
}

/// Bytes that may be on the way when nobody takes them: windows and buffers of both sides.
fn bound(pair: &Pair<'_>) -> usize {
    // Sockets hold up to 4 MiB to be sent and 6 MiB to be read (Linux: `tcp_wmem`, `tcp_rmem`).
    let side = |has_streams| if has_streams { 1 } else { 12 } * 1024 * 1024;
    side(pair.front.has_streams()) + side(pair.back.has_streams())
}

/// Sends until nobody takes more, and answers how much that was.
async fn fill(sender: &mut Sender, piece: &Bytes) -> Result<usize> {
    let mut sent = 0;
    // A piece that is broken off is never gone on with: the request is given up then.
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(700), sender.send_patiently(piece.clone())).await
    {
        result?;
        sent += piece.len();
        if sent > VOLUME {
            break;
        }
    }
    Ok(sent)
}

#[test]
fn who_does_not_read_stops_who_sends() {
    let piece = Bytes::from(pattern(16 * 1024));
    let own = piece.clone();
    let stage = Stage::new(async move |serving, notes| {
        let path = serving.path();
        if path.ends_with("/down") {
            serving.sender.respond(Response::new(()), Body::Stream).await?;
            let sent = fill(&mut serving.sender, &own).await?;
            notes.add(&path, &format!("{sent}"));
            notes.add(&path, "full");
            return Ok(());
        }
        // Nothing is read.
        notes.wait(&path, "full", 1).await;
        Ok(())
    });

    stage.everywhere(async |pair| {
        let (notes, mut connection) = (&pair.stage.notes, pair.connect().await?);
        let mut call = connection.call(pair.get("/down"), Body::None).await?;
        assert_eq!(call.receiver.response().await?.status(), 200);
        notes.wait(&pair.path("/down"), "full", 1).await;
        let sent = notes.first(&pair.path("/down")).parse::<usize>().expect("a number");
        assert!(sent <= bound(&pair), "{sent} bytes down");
        call.reset();

        let mut call = connection.call(pair.post("/up"), Body::Stream).await?;
        let sent = fill(&mut call.sender, &piece).await?;
        assert!(sent <= bound(&pair), "{sent} bytes up");
        notes.add(&pair.path("/up"), "full");
        Ok(())
    });
}
