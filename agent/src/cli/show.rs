//! `observe`, `status`, and what the other commands share of reading options.

use super::Exit;
use super::options::Options;
use crate::apply::Executor;
use crate::boot::{self, BootNote};
use crate::disk::HostRoot;
use crate::host_command::HostTools;
use crate::{journal, observe};
use pointsman_core::config::{BRIDGE, BadConfig, Node, OVSDB, Settings};
use pointsman_core::error::Reasoned;
use pointsman_core::model::Observed;
use pointsman_core::plan::Refusal;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

type Result<T> = std::result::Result<T, Box<dyn Reasoned>>;

/// A command line that asks for what cannot be.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

impl Reasoned for UsageError {
    fn reason(&self) -> &'static str {
        "BadUsage"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

#[derive(Debug, Error)]
#[error("read {}", path.display())]
struct ReadError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Reasoned for ReadError {
    fn reason(&self) -> &'static str {
        "FileUnreadable"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

#[derive(Debug, Error)]
#[error("use {}", path.display())]
struct ConfigError {
    path: PathBuf,
    #[source]
    source: BadConfig,
}

impl Reasoned for ConfigError {
    fn reason(&self) -> &'static str {
        self.source.reason()
    }

    fn is_transient(&self) -> bool {
        false
    }
}

pub(super) fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| boxed(ReadError { path: path.to_owned(), source }))
}

/// Of the file, or of the options where none is named; options win over the file.
pub(super) fn settings(options: &Options) -> Result<Settings> {
    let mut settings = match &options.config {
        Some(path) => Settings::parse(&read(path)?)
            .map_err(|source| boxed(ConfigError { path: path.clone(), source }))?,
        None => Settings::bare(Node {
            uplink: options.uplink.clone().unwrap_or_default(),
            bridge: BRIDGE.into(),
            ovsdb: OVSDB.into(),
            accept: Vec::new(),
            companions: Vec::new(),
        }),
    };
    if let Some(uplink) = &options.uplink {
        settings.node.uplink.clone_from(uplink);
    }
    if let Some(bridge) = &options.bridge {
        settings.node.bridge.clone_from(bridge);
    }
    if let Some(ovsdb) = &options.ovsdb {
        settings.node.ovsdb.clone_from(ovsdb);
    }
    settings.node.accept.extend(options.accept.iter().cloned());
    settings.paths.state.clone_from(&options.state_dir);
    if let Some(payload) = &options.payload {
        settings.payload.clone_from(payload);
    }
    if let Some(activate) = options.activate {
        settings.switch.activate = activate;
    }
    Ok(settings)
}

/// The state directory, as this process sees it.
pub(super) fn state_dir(options: &Options) -> PathBuf {
    below(&options.root, &options.state_dir)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

pub(super) fn executor(options: &Options, settings: &Settings) -> Result<Executor> {
    if settings.node.ovsdb_path().is_none() {
        let message = format!(
            "--ovsdb is `{}`: `unix:` and an absolute path are expected",
            settings.node.ovsdb
        );
        return Err(boxed(UsageError(message)));
    }
    Ok(host(options, settings))
}

/// [`executor`] for settings that were checked before.
pub(super) fn host(options: &Options, settings: &Settings) -> Executor {
    let root = HostRoot::new(&options.root);
    let tools = HostTools::for_root(&root, in_pod());
    Executor::new(root, tools, state_dir(options).join("store"), settings)
}

/// Whether process 1 lives in another mount namespace than this process.
fn in_pod() -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let (own, init) = (namespace("self"), namespace("1"));
    own.is_some() && init.is_some() && own != init
}

pub(super) fn saved_observation(path: &Path) -> Result<Observed> {
    let text = read(path)?;
    serde_json::from_str(&text).map_err(|error| {
        boxed(UsageError(format!("{} is no saved observation: {error}", path.display())))
    })
}

pub(super) fn refusal(options: &Options, refusal: &Refusal) {
    if options.json {
        println!("{}", serde_json::json!({ "refused": refusal }));
    } else {
        println!("Refused: {}: {refusal}", refusal.reason);
    }
}

pub(super) fn observe(options: &Options) -> Result<Exit> {
    let settings = settings(options)?;
    let executor = executor(options, &settings)?;
    let observed = observe::observe(&executor, &settings).map_err(boxed)?;
    println!("{}", json(&observed));
    Ok(Exit::Done)
}

pub(super) fn status(options: &Options) -> Result<Exit> {
    let record = journal::read(&state_dir(options)).map_err(boxed)?;
    if options.json {
        println!("{}", json(&record));
        return Ok(Exit::Done);
    }
    let Some(record) = record else {
        println!("no transaction yet");
        return Ok(Exit::Done);
    };
    let state = if record.is_open() { "open" } else { "ended" };
    println!("{}: {state}, {}", record.goal, record.phase);
    if let Some(request) = &record.request {
        println!("request: {request}");
    }
    if let Some(failure) = &record.failure {
        println!("{}: {}", failure.reason, failure.message);
    }
    println!("transaction: {}", record.checkpoint.transaction);
    if let Some(note) = journal::read_note::<BootNote>(&state_dir(options), boot::NOTE) {
        println!("boot {}: {:?}: {}", note.boot_id, note.did, note.message);
    }
    Ok(Exit::Done)
}
