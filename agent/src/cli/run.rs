//! `run`: the DaemonSet's main.

use super::Exit;
use super::options::Options;
use pointsman_core::error::Reasoned;

pub(super) fn run(options: &Options) -> Result<Exit, Box<dyn Reasoned>> {
    let _ = options;
    Ok(Exit::Failed)
}
