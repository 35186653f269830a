//! File descriptors: as many as this process may have.

/// Raises the soft limit to the hard one, and answers what there is then; `None` when nobody knows or there is none.
///
/// The soft limit is low for the sake of old programs that use `select`, and is meant to be raised by others.
pub(super) fn raise() -> Option<u64> {
    let raised = rlimit::increase_nofile_limit(rlimit::INFINITY);
    let limit = raised.or_else(|_| rlimit::Resource::NOFILE.get_soft()).ok()?;
    (limit != rlimit::INFINITY).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_stays() {
        assert_eq!(raise(), raise());
    }
}
