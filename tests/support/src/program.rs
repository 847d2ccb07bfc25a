//! The product's programs, as they are shipped: the static release build of this source.

use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Builds a package's program of the same name where its source is newer, and says where it is.
///
/// Cargo gives a test the path of its own package's programs only, so Cargo is asked.
///
/// # Errors
/// With what Cargo said.
pub fn release(package: &str) -> Result<PathBuf, String> {
    let mut built = BUILT.lock().unwrap();
    if let Some(path) = built.get(package) {
        return Ok(path.clone());
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // what Cargo tells a test of its package (CARGO_PKG_NAME and the like) makes build
    // scripts that look at it run anew, and with them everything that depends on them
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let own = ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL"].contains(&&*name);
        if name.starts_with("CARGO_") && !own {
            cargo.env_remove(&*name);
        }
    }
    let output = cargo
        .current_dir(top)
        .args(["build", "--release", "--locked", "--offline", "--package", package])
        .args(["--bin", package, "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo could not build {package}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let path = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .ok_or_else(|| format!("cargo built {package} but named no executable"))?;
    built.insert(package.to_owned(), path.clone());
    Ok(path)
}

/// The agent.
///
/// # Panics
/// Where Cargo cannot build it.
pub fn pointsman() -> PathBuf {
    release("pointsman").unwrap()
}
