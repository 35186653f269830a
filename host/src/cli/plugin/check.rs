//! `staunch plugin check`: the judge's findings, and what they mean.

use staunch::author::check::{Claims, check as judge};
use staunch::plugins::PluginHost;

use super::arguments::CheckArguments;
use super::{Failure, keeping, say, subject};

pub(super) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let host = keeping(PluginHost::metered())?;
    let subject = subject(&host, &arguments.file, &arguments.settings)?;
    let claims =
        Claims { made: arguments.claim.clone(), denied: arguments.no_claim.clone(), only: arguments.only.clone() };
    let mut broken = Vec::new();
    for kind in subject.plugin().exports().kinds() {
        subject.try_out(kind).map_err(Failure::bad)?;
        let mut report = judge(&subject, kind, arguments.seed, &claims);
        report.lines.retain(|(property, _)| claims.only.is_empty() || claims.only.contains(property));
        say(format_args!("{} as a {kind}\n{report}", subject.plugin().name()));
        broken.extend(report.broken().map(|property| property.name()));
    }
    match &broken[..] {
        [] => Ok(()),
        [one] => Err(Failure::bad(format_args!("{}: `{one}` does not hold", subject.plugin().name()))),
        several => Err(Failure::bad(format_args!(
            "{}: {} properties do not hold: {}",
            subject.plugin().name(),
            several.len(),
            several.join(", ")
        ))),
    }
}
