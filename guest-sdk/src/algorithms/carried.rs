//! What a balancer knows of its endpoints, written for its successor.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Endpoints;

/// What the host takes.
const MOST_BYTES: usize = 1 << 20;

/// Writes what is known of each endpoint by its position, for [`crate::Handover::save`]: numbers, beside the address,
/// because positions may be others in the membership to come. `kind` says what the numbers are and is a single word;
/// a new word is for a new meaning. Endpoints past the most that can be carried are left out.
pub fn save<const N: usize>(kind: &str, endpoints: &Endpoints, known: impl Fn(usize) -> Option<[u64; N]>) -> Vec<u8> {
    let mut state = format!("{kind} {N}\n");
    for (position, endpoint) in endpoints.iter().enumerate() {
        let Some(numbers) = known(position) else { continue };
        let before = state.len();
        for number in numbers {
            // Writing to a string cannot fail.
            let _ = write!(state, "{number:x} ");
        }
        state += &endpoint.address;
        state.push('\n');
        if state.len() > MOST_BYTES {
            state.truncate(before);
            break;
        }
    }
    state.into_bytes()
}

/// Reads what [`save`] wrote with the same `kind`, for [`crate::Handover::restore`], and hands over what is about an
/// endpoint that there is, with its position. Anything else is passed by.
pub fn restore<const N: usize>(kind: &str, endpoints: &Endpoints, state: &[u8], mut take: impl FnMut(usize, [u64; N])) {
    let Ok(state) = str::from_utf8(state) else { return };
    let mut lines = state.lines();
    if lines.next() != Some(&*format!("{kind} {N}")) {
        return;
    }
    let positions: BTreeMap<&str, usize> = endpoints.iter().map(|endpoint| &*endpoint.address).zip(0..).collect();
    for line in lines {
        let mut words = line.splitn(N + 1, ' ');
        let numbers = [(); N].map(|()| words.next().and_then(|word| u64::from_str_radix(word, 16).ok()));
        let position = words.next().and_then(|address| positions.get(address));
        if let Some(&position) = position
            && numbers.iter().all(Option::is_some)
        {
            take(position, numbers.map(Option::unwrap_or_default));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Endpoint;
    use crate::testing::{endpoint, endpoints};

    fn restored(endpoints: &Endpoints, state: &[u8]) -> Vec<(usize, [u64; 2])> {
        let mut restored = Vec::new();
        restore("times", endpoints, state, |position, numbers| restored.push((position, numbers)));
        restored
    }

    #[test]
    fn what_is_known_follows_the_address() {
        let before: Endpoints = [4, 7, 9].map(endpoint).to_vec().into();
        let state = save("times", &before, |position| (position != 1).then_some([position as u64, u64::MAX]));
        assert_eq!(state, b"times 2\n0 ffffffffffffffff endpoint-4:80\n2 ffffffffffffffff endpoint-9:80\n");

        let after: Endpoints = [9, 1, 7, 4].map(endpoint).to_vec().into();

        assert_eq!(restored(&after, &state), [(3, [0, u64::MAX]), (0, [2, u64::MAX])]);
    }

    #[test]
    fn what_is_not_understood_is_passed_by() {
        let endpoints = endpoints(2);
        for state in [
            &b""[..],
            b"\xff",
            b"other 2\n1 2 endpoint-0:80\n",
            b"times 3\n1 2 3 endpoint-0:80\n",
            b"times 2\n1 endpoint-0:80\n",
            b"times 2\nx 2 endpoint-0:80\n1 2\n\n1 2 elsewhere:80\n",
        ] {
            assert_eq!(restored(&endpoints, state), []);
        }
        assert_eq!(restored(&endpoints, b"times 2\n1\n1 2 endpoint-1:80"), [(1, [1, 2])]);
    }

    #[test]
    fn more_than_can_be_carried_is_left_out() {
        let list = (0..3000).map(|id| Endpoint { address: format!("{id}{}", "x".repeat(1000)), ..endpoint(id) });
        let endpoints: Endpoints = list.collect::<Vec<_>>().into();

        let state = save("times", &endpoints, |position| Some([position as u64, 0]));

        assert!(state.len() <= MOST_BYTES);
        assert!(restored(&endpoints, &state).len() > 1000);
    }

    proptest! {
        #[test]
        fn no_state_is_too_strange(state in prop::collection::vec(any::<u8>(), 0..200), text in "times 2\n.{0,80}") {
            restored(&endpoints(3), &state);
            restored(&endpoints(3), text.as_bytes());
        }
    }
}
