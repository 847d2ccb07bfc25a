//! What went wrong with a VM, with the end of its console.

use std::fmt;
use std::path::Path;

/// How much of the console an error shows, in bytes.
const TAIL: usize = 20_000;

/// A failure of the bed or of what a test ran in it. Its `Debug` form, which is
/// what the test harness prints, is the whole story in plain lines.
pub struct VmError {
    what: String,
    console: Option<String>,
}

/// What this module's functions return.
pub type Result<T> = std::result::Result<T, VmError>;

impl VmError {
    /// A failure outside any VM.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), console: None }
    }

    /// Adds the end of what the VM wrote to its console and QEMU to its log.
    #[must_use]
    pub fn with_console(mut self, vm_dir: &Path) -> Self {
        if self.console.is_none() {
            let tail = |name: &str| {
                let text = std::fs::read(vm_dir.join(name)).unwrap_or_default();
                String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned()
            };
            self.console = Some(format!("{}{}", tail("console.log"), tail("qemu.log")));
        }
        self
    }
}

impl fmt::Display for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match self.console.as_deref().map(str::trim) {
            None => Ok(()),
            Some("") => write!(f, "\n(the console is empty)"),
            Some(console) => {
                write!(f, "\n--- end of the console ---\n{console}\n--------------------------")
            }
        }
    }
}

impl std::error::Error for VmError {}
