//! The first with room (HAProxy's `balance first`).

use std::num::NonZeroU32;

use staunch_plugin::EndpointId;

/// An endpoint and the requests it may have; without a bound there is always room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) endpoint: EndpointId,
    pub(crate) max: Option<NonZeroU32>,
}

/// The first endpoint with room for one more request. Counts are asked for only as far as they are needed.
///
/// # Errors
///
/// All are full, and this one is so by the least part of what it may have; `None` when there is no endpoint.
pub(crate) fn fill(
    rooms: impl Iterator<Item = Room>,
    active: impl Fn(EndpointId) -> u32,
) -> Result<EndpointId, Option<EndpointId>> {
    let mut least_full: Option<(u64, u64, EndpointId)> = None;
    for Room { endpoint, max } in rooms {
        let Some(max) = max else { return Ok(endpoint) };
        let (has, max) = (u64::from(active(endpoint)), u64::from(max.get()));
        if has < max {
            return Ok(endpoint);
        }
        if least_full.is_none_or(|(least, of, _)| has * of < least * max) {
            least_full = Some((has, max, endpoint));
        }
    }
    Err(least_full.map(|(_, _, endpoint)| endpoint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(endpoint: EndpointId, max: u32) -> Room {
        Room { endpoint, max: NonZeroU32::new(max) }
    }

    #[test]
    fn the_first_with_room_is_filled() {
        let active = [2, 5, 9, 0];
        let active = |endpoint| active[endpoint as usize];
        for (rooms, expected) in [
            (&[room(0, 3), room(1, 6)][..], Ok(0)),
            (&[room(0, 2), room(1, 6)], Ok(1)),
            (&[room(1, 5), room(2, 9), room(3, 1)], Ok(3)),
            (&[room(0, 2), room(2, 0)], Ok(2)),
            (&[room(0, 1), room(1, 4), room(2, 5)], Err(Some(1))),
            (&[room(0, 2), room(1, 5)], Err(Some(0))),
            (&[], Err(None)),
        ] {
            assert_eq!(fill(rooms.iter().copied(), active), expected, "for {rooms:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_before_the_picked_has_room(rooms in prop::collection::vec((0u32..4, 0u32..5), 0..9)) {
            let room = |(id, &(max, _))| room(id, max);
            let has_room = |(max, active): &(u32, u32)| *max == 0 || active < max;

            let filled = fill((0..).zip(&rooms).map(room), |endpoint| rooms[endpoint as usize].1);

            let first = rooms.iter().position(has_room);
            prop_assert_eq!(filled.ok(), first.map(|first| first as u32));
            if let Err(Some(least)) = filled {
                let part = |&(max, active): &(u32, u32)| f64::from(active) / f64::from(max);
                prop_assert!(rooms.iter().all(|other| part(&rooms[least as usize]) <= part(other)));
            }
        }
    }
}
