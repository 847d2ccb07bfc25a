//! `kernels`: what each installed kernel would load, and which sets it is ready for.

use super::Exit;
use super::options::Options;
use super::show;
use crate::observe;
use pointsman_core::error::Reasoned;
use pointsman_core::kernels::Kernels;

pub(super) fn kernels(options: &Options) -> Result<Exit, Box<dyn Reasoned>> {
    let settings = show::settings(options)?;
    let executor = show::executor(options, &settings)?;
    let observed = match &options.observed {
        Some(file) => show::saved_observation(file)?,
        None => observe::observe(&executor, &settings).map_err(show::boxed)?,
    };
    let kernels = Kernels::of(&observed, &settings.paths);
    if options.json {
        println!("{}", show::json(&kernels));
    } else {
        print!("{kernels}");
    }
    Ok(Exit::Done)
}
