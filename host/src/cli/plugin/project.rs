//! `staunch plugin new` and `build`: a project, and what comes of it.

use std::path::Path;

use staunch::author::{scaffold, toolchain};
use staunch::plugins::{Kind, PluginHost};

use super::arguments::NewArguments;
use super::{Failure, keeping, load, say};
use crate::cli::complain;

pub(super) fn new(arguments: &NewArguments) -> Result<(), Failure> {
    let NewArguments { name, kind, lang } = arguments;
    let files = scaffold::create(Path::new(""), name, *kind, *lang).map_err(Failure::bad)?;
    let own = files.iter().filter(|path| !["sdk/", "wit/", "staunch/"].iter().any(|folder| path.starts_with(folder)));
    own.for_each(|path| say(format_args!("{name}/{path}")));
    say(format_args!("now: cd {name} && staunch plugin build && staunch plugin test"));
    Ok(())
}

pub(super) fn build(folder: &Path) -> Result<(), Failure> {
    let file = toolchain::build(folder, &mut |command| complain(command)).map_err(Failure::bad)?;
    let host = keeping(PluginHost::new())?;
    let plugin = load(&host, &file)?;
    let kinds: Vec<_> = plugin.exports().kinds().map(|kind: Kind| format!("a {kind}")).collect();
    say(format_args!(
        "{}: {}, staunch:plugin@{}, {} bytes",
        file.display(),
        kinds.join(" and "),
        plugin.contract(),
        plugin.size()
    ));
    Ok(())
}
