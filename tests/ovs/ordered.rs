//! A whole handover in a process of its own, which takes a daemon of Open vSwitch along at one
//! moment. The hook is the one by which the agent tells of its steps.

use crate::bed::{Bed, THERE, configuration};
use crate::executor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman::apply::Executor;
use pointsman::deadman::DeadMan;
use pointsman::journal::Journal;
use pointsman::transaction::{Progress, Site};
use pointsman_core::config::Settings;
use pointsman_core::phase::Phase;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where a process of this test binary finds its orders.
const ORDERS: &str = "POINTSMAN_TEST_ORDERS";

/// What a process is to do when it begins the step with these words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub step: String,
    pub daemon: i32,
    /// It hangs then, and is not ended.
    pub hangs: bool,
}

impl Progress for Order {
    fn tell(&self, phase: Phase, words: &str) {
        if phase == Phase::Applying && words.starts_with(&self.step) {
            let signal = if self.hangs { Signal::SIGSTOP } else { Signal::SIGKILL };
            kill(Pid::from_raw(self.daemon), signal).unwrap();
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    state: PathBuf,
    socket: PathBuf,
    order: Order,
}

/// A process that takes the bed to the bridge. `test` begins with [`obey`].
pub fn give(order: &Order, test: &str, bed: &Bed) -> Child {
    let (state, socket) = (bed.state.path().to_owned(), bed.ovs.socket());
    let sealed = Sealed { state, socket, order: order.clone() };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(ORDERS, serde_json::to_string(&sealed).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Where this process has orders it obeys them, and ends.
pub fn obey() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let Sealed { state, socket, order } = serde_json::from_str(&orders).unwrap();
    carry_out(&state, &socket, &order);
}

fn carry_out(state: &Path, socket: &Path, progress: &Order) -> ! {
    let settings = Settings::parse(&configuration(socket, "", &[])).unwrap();
    let executor = Executor { store: state.join("store"), ..executor(socket) };
    let site = Site {
        settings: &settings,
        executor: &executor,
        journal: &Journal::open(state).unwrap(),
        progress,
        deadman: &DeadMan::of_program(support::program::release("pointsman").unwrap()),
        api: None,
    };
    let ended = site.carry_out(&THERE, None);
    println!("ended: {ended:?}");
    std::process::exit(0)
}
