//! File descriptors: as many as this process may have.

/// Raises the soft limit to the hard one, and answers what there is then; `None` when nobody knows or there is none.
///
/// The soft limit is low for the sake of old programs that use `select`, and is meant to be raised by others.
#[expect(unsafe_code, reason = "the standard library has no resource limits")]
pub(super) fn raise() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to a struct of the right kind, which lives longer than the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return None;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the call reads a struct of the right kind, which lives longer than the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit = raised;
        }
    }
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_stays() {
        assert_eq!(raise(), raise());
    }
}
