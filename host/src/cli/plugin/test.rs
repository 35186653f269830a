//! `staunch plugin test`: recorded cases against the component itself.

use std::path::{Path, PathBuf};

use staunch::author::cases::Cases;
use staunch::plugins::PluginHost;

use super::arguments::TestArguments;
use super::{Failure, keeping, say};

pub(super) fn test(arguments: &TestArguments) -> Result<(), Failure> {
    let host = keeping(PluginHost::new())?;
    let (mut passed, mut failed) = (0, 0);
    for file in files(&arguments.file)? {
        let cases = Cases::load(&host, &file, arguments.plugin.as_deref()).map_err(Failure::bad)?;
        for outcome in cases.run(arguments.name.as_deref().unwrap_or_default()).map_err(Failure::bad)? {
            let Some(failure) = outcome.failure else {
                passed += 1;
                say(format_args!("ok      {}", outcome.name));
                continue;
            };
            failed += 1;
            say(format_args!("FAILED  {}\n          {}:{}:", outcome.name, file.display(), failure.line));
            failure.message.lines().for_each(|line| say(format_args!("          {line}")));
        }
    }
    match (passed, failed) {
        (0, 0) => Err(Failure::bad(format_args!("{}: no case has such a name", arguments.file.display()))),
        (_, 0) => {
            say(format_args!("{passed} passed"));
            Ok(())
        }
        _ => Err(Failure::bad(format_args!("{passed} passed, {failed} failed"))),
    }
}

/// A file, or every file of cases in a folder: `cases.toml`, `*.cases.toml`, and all of `cases/`.
fn files(place: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut found = listed(place, |name| name == "cases.toml" || name.ends_with(".cases.toml"))?;
    if place.join("cases").is_dir() {
        found.extend(listed(&place.join("cases"), |name| name.ends_with(".toml"))?);
    }
    if found.is_empty() {
        let message = format!("{}: there is no `cases.toml`, `*.cases.toml` or `cases/*.toml`", place.display());
        return Err(Failure::Bad(message));
    }
    Ok(found)
}

fn listed(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Failure> {
    let bad = |error| Failure::bad(format_args!("{}: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(bad)?;
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&fits));
    found.sort();
    Ok(found)
}
