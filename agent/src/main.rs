//! `pointsman`: changes the track a Kubernetes node's network runs on while the
//! node keeps running, proves that the points are set, and can set them back.

use std::process::ExitCode;

fn main() -> ExitCode {
    pointsman::cli::main()
}
