//! What an operator has said of an endpoint at run time, over what its configuration says.

use std::time::SystemTime;

/// A change that an operator asks for. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndpointOrder {
    pub(crate) down: Option<Said<bool>>,
    pub(crate) drain: Option<Said<bool>>,
    /// 1 to 65535.
    pub(crate) weight: Option<Said<u32>>,
    /// For whoever wonders later.
    pub(crate) reason: Option<String>,
}

/// A value in place of the configuration's, or the configuration's again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<T> {
    This(T),
    AsConfigured,
}

/// What an operator has said of one endpoint so far. Outlives configurations, and ends with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Sayings {
    pub(super) down: Option<Saying<bool>>,
    pub(super) drain: Option<Saying<bool>>,
    pub(super) weight: Option<Saying<u32>>,
}

/// One value in place of the configuration's.
#[derive(Clone, Debug)]
pub(super) struct Saying<T> {
    pub(super) value: T,
    pub(super) reason: Option<String>,
    pub(super) since: SystemTime,
}

impl Sayings {
    pub(super) fn take(&mut self, order: EndpointOrder, now: SystemTime) {
        let EndpointOrder { down, drain, weight, reason } = order;
        say(&mut self.down, down, &reason, now);
        say(&mut self.drain, drain, &reason, now);
        say(&mut self.weight, weight, &reason, now);
    }
}

fn say<T: PartialEq>(known: &mut Option<Saying<T>>, said: Option<Said<T>>, reason: &Option<String>, now: SystemTime) {
    let reason = reason.clone();
    match (said, known.as_mut()) {
        (None, _) => {}
        (Some(Said::AsConfigured), _) => *known = None,
        // Said again: since when stays true.
        (Some(Said::This(value)), Some(known)) if known.value == value => {
            known.reason = reason.or_else(|| known.reason.take());
        }
        (Some(Said::This(value)), _) => *known = Some(Saying { value, reason, since: now }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drain(value: Said<bool>, reason: Option<&str>) -> EndpointOrder {
        EndpointOrder { drain: Some(value), reason: reason.map(str::to_owned), ..EndpointOrder::default() }
    }

    #[test]
    fn what_is_said_again_keeps_its_moment_and_its_reason() {
        let mut sayings = Sayings::default();
        let began = SystemTime::UNIX_EPOCH;

        sayings.take(drain(Said::This(true), Some("new disks")), began);
        sayings.take(drain(Said::This(true), None), began + Duration::from_secs(9));

        let said = sayings.drain.as_ref().expect("it was said");
        assert_eq!((said.value, said.reason.as_deref(), said.since), (true, Some("new disks"), began));
        assert!(sayings.down.is_none());
    }

    #[test]
    fn what_is_taken_back_leaves_the_word_to_the_configuration() {
        let mut sayings = Sayings::default();
        sayings.take(drain(Said::This(false), None), SystemTime::UNIX_EPOCH);

        sayings.take(drain(Said::AsConfigured, None), SystemTime::UNIX_EPOCH);

        assert!(sayings.drain.is_none());
    }
}
