//! The other end of a wire: a network namespace of its own, without a name anywhere.

use crate::ovs::command;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getpid, gettid};
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

type Task = Box<dyn FnOnce() + Send>;

/// A thread in a namespace of its own, which lives as long as this.
#[derive(Debug)]
pub struct Peer {
    namespace: String,
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// With the loopback up and nothing else.
    pub fn start() -> Self {
        let (tasks, queue) = channel::<Task>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: tests run as root");
            command(&["ip", "link", "set", "lo", "up"]);
            tell.send(format!("/proc/{}/task/{}/ns/net", getpid(), gettid())).unwrap();
            for task in queue {
                task();
            }
        });
        let namespace = told.recv().unwrap();
        Self { namespace, tasks: Some(tasks), thread: Some(thread) }
    }

    /// Does something in the namespace and waits for it.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let task = move || drop(tell.send(task()));
        self.tasks.as_ref().unwrap().send(Box::new(task)).unwrap();
        told.recv().expect("the peer's task failed: see above")
    }

    /// Moves a device of the caller's namespace over, and sets it up there.
    pub fn takes(&self, device: &str) {
        command(&["ip", "link", "set", device, "netns", &self.namespace]);
        self.ip(&format!("link set {device} up"));
    }

    /// `ip` there; gives what it printed.
    pub fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || {
            let mut argv = vec!["ip"];
            argv.extend(arguments.split_whitespace());
            command(&argv)
        })
    }

    /// The MAC of a device there.
    pub fn mac(&self, device: &str) -> String {
        let text = self.ip(&format!("-j link show {device}"));
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        links[0]["address"].as_str().unwrap().to_owned()
    }

    /// Whether a ping from there is answered.
    pub fn pings(&self, target: &str) -> bool {
        let target = target.to_owned();
        self.run(move || {
            let ping = Command::new("ping")
                .args(["-n", "-q", "-c", "3", "-i", "0.2", "-W", "1", &target])
                .output();
            ping.unwrap().status.success()
        })
    }

    /// Starts a program there.
    pub fn spawn(&self, argv: &[&str]) -> Child {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        self.run(move || Command::new(&argv[0]).args(&argv[1..]).spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
