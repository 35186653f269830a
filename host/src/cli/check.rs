//! `staunch check`: everything that `run` would load, and nothing that listens.

use std::path::Path;

use staunch::config::Config;
use staunch::plugins::usual_folder;
use staunch::proxy;

use super::{Failure, complain, say};

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(Failure::bad)?;
    for warning in &config.warnings {
        complain(format_args!("{}:{warning} (a warning)", file.display()));
    }
    proxy::check(&config, usual_folder().as_deref()).map_err(Failure::bad)?;
    say(format_args!("{}: fine", file.display()));
    Ok(())
}
