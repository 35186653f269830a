//! `staunch plugin bench`: what calls cost.

use staunch::author::bench::bench as measure;
use staunch::plugins::PluginHost;

use super::arguments::BenchArguments;
use super::{Failure, keeping, say, subject};

pub(super) fn bench(arguments: &BenchArguments) -> Result<(), Failure> {
    let hosts = [keeping(PluginHost::new())?, keeping(PluginHost::metered())?];
    let [timed, metered] = &hosts;
    let timed = subject(timed, &arguments.file, &arguments.settings)?;
    let metered = subject(metered, &arguments.file, &arguments.settings)?;
    if cfg!(debug_assertions) {
        say("this is a debug build of staunch: the host's part of each call takes several times as long");
    }
    for kind in timed.plugin().exports().kinds() {
        timed.try_out(kind).map_err(Failure::bad)?;
        say(measure(&timed, &metered, kind).map_err(Failure::Bad)?);
    }
    Ok(())
}
