//! Arguments, as they are written. What they mean is decided where they are used.

use crate::telemetry::LogFormat;
use lexopt::prelude::{Long, Value};
use lexopt::{Parser, ValueExt};
use pointsman_core::config::Activate;
use pointsman_core::plan::cni::{Consent, Toward};
use pointsman_core::plan::handover::{Owner, coexistence};
use pointsman_core::plan::modules::Target;
use std::ffi::OsString;
use std::path::PathBuf;

pub(super) const USAGE: &str = "\
usage: pointsman [OPTION...] COMMAND

  run                                   watch this node's own Node object and follow it
  observe                               print what the host is, as JSON
  status                                print the open or last transaction
  kernels                               print which module sets each installed kernel is ready
                                        for, and which boots next
  plan | apply --profile P              a whole switch, with or without a cluster
  handover plan | apply --to bridge|uplink [--delete-bridge]
  modules  plan | apply --to in-tree|payload [--kernel K] [--activate live|reboot]
  cni      plan | apply [--to payload|absent] [--allow-downgrade] [--replace-loopback]
  undo [--force]                        the CNI files as they were before Pointsman's first
                                        installation: cni apply --to absent
  restore                               take the way back of the open or last transaction
  restore --boot                        after a boot: make the node reachable, as the last
                                        transaction left it; for the unit before kubelet

options:
  --config FILE      the configuration; without it the options below suffice for single chores
  --uplink IF  --bridge BR  --ovsdb unix:PATH
  --accept REASON    go to the bridge in spite of it, as `node.accept`; may be given again
  --root DIR         where the host's root is mounted; /
  --state-dir DIR    on the host; /var/lib/pointsman
  --payload DIR      what the image brings; /payload
  --observed FILE    plan from a saved `observe` instead of this host
  --json             machine-readable output
  --log-format F     plain (default) or json, to standard error

`plan` changes nothing and exits 0 when nothing is to be done, 2 when changes are
pending, 1 on an error, 3 when the request is refused. `apply` exits 0 when done, 3 when refused,
4 when it failed and was taken back, 5 when a person is needed.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Version,
    Run,
    Observe,
    Status,
    Kernels,
    Plan(Subject),
    Apply(Subject),
    Restore,
    EnterHost(Vec<OsString>),
    /// As [`Self::EnterHost`], from where it is.
    EndWithAgent(Vec<OsString>),
    /// As [`Self::EnterHost`], and left alone.
    Detach(Vec<OsString>),
    /// The word of its arming.
    Deadman(String),
}

/// What is planned or applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Profile,
    Handover,
    Modules,
    Cni,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) command: Command,
    pub(super) config: Option<PathBuf>,
    pub(super) uplink: Option<String>,
    pub(super) bridge: Option<String>,
    pub(super) ovsdb: Option<String>,
    pub(super) accept: Vec<String>,
    pub(super) root: PathBuf,
    pub(super) state_dir: String,
    pub(super) payload: Option<String>,
    pub(super) observed: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) to: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) activate: Option<Activate>,
    pub(super) delete_bridge: bool,
    /// Of `cni` and `undo`.
    pub(super) consent: Consent,
    pub(super) boot: bool,
    pub(super) json: bool,
    pub(super) log_format: LogFormat,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command: Command::Help,
            config: None,
            uplink: None,
            bridge: None,
            ovsdb: None,
            accept: Vec::new(),
            root: "/".into(),
            state_dir: "/var/lib/pointsman".into(),
            payload: None,
            observed: None,
            profile: None,
            to: None,
            kernel: None,
            activate: None,
            delete_bridge: false,
            consent: Consent::default(),
            boot: false,
            json: false,
            log_format: LogFormat::Plain,
        }
    }
}

pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, lexopt::Error> {
    let mut args = args.into_iter().peekable();
    let program = args.next();
    // what follows belongs to the tool that is run, options included
    for (name, of) in [
        ("enter-host", Command::EnterHost as fn(_) -> _),
        ("end-with-agent", Command::EndWithAgent),
        ("detach", Command::Detach),
    ] {
        if args.peek().is_some_and(|word| word == name) {
            let command = of(args.skip(1).collect());
            return Ok(Options { command, ..Options::default() });
        }
    }
    let mut parser = Parser::from_iter(program.into_iter().chain(args));
    let mut options = Options::default();
    let mut words = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Value(word) => words.push(word.string()?),
            Long("help") | lexopt::Arg::Short('h') => words = vec!["help".into()],
            Long("version") => words = vec!["version".into()],
            Long(name) => {
                let name = name.to_owned();
                read_option(&mut options, &name, &mut parser)?;
            }
            lexopt::Arg::Short(_) => return Err(arg.unexpected()),
        }
    }
    if let ["undo"] | ["cni", "undo"] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        words = vec!["cni".into(), "apply".into()];
        options.to = Some("absent".into());
    }
    options.command = command(&words)?;
    Ok(options)
}

fn read_option(
    options: &mut Options,
    name: &str,
    parser: &mut Parser,
) -> Result<(), lexopt::Error> {
    match name {
        "config" => options.config = Some(parser.value()?.into()),
        "uplink" => options.uplink = Some(parser.value()?.string()?),
        "bridge" => options.bridge = Some(parser.value()?.string()?),
        "accept" => options.accept.push(reason(&parser.value()?.string()?)?),
        "ovsdb" => options.ovsdb = Some(parser.value()?.string()?),
        "root" => options.root = parser.value()?.into(),
        "state-dir" => options.state_dir = parser.value()?.string()?,
        "payload" => options.payload = Some(parser.value()?.string()?),
        "observed" => options.observed = Some(parser.value()?.into()),
        "profile" => options.profile = Some(parser.value()?.string()?),
        "to" => options.to = Some(parser.value()?.string()?),
        "kernel" => options.kernel = Some(parser.value()?.string()?),
        "activate" => {
            options.activate = Some(match parser.value()?.string()?.as_str() {
                "live" => Activate::Live,
                "reboot" => Activate::Reboot,
                other => {
                    return Err(
                        format!("--activate is `{other}`: `live` or `reboot` is expected").into()
                    );
                }
            });
        }
        "delete-bridge" => options.delete_bridge = true,
        "allow-downgrade" => options.consent.downgrade = true,
        "replace-loopback" => options.consent.loopback = true,
        "force" => options.consent.force = true,
        "boot" => options.boot = true,
        "json" => options.json = true,
        "log-format" => {
            options.log_format = match parser.value()?.string()?.as_str() {
                "plain" => LogFormat::Plain,
                "json" => LogFormat::Json,
                other => {
                    return Err(format!(
                        "--log-format is `{other}`: `plain` or `json` is expected"
                    )
                    .into());
                }
            };
        }
        other => return Err(format!("the option `--{other}` is unknown").into()),
    }
    Ok(())
}

fn reason(word: &str) -> Result<String, lexopt::Error> {
    let known = coexistence::acceptable();
    if known.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("--accept is `{word}`: one of `{}` is expected", known.join("`, `")).into())
}

fn command(words: &[String]) -> Result<Command, lexopt::Error> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let subject = |name: &str| match name {
        "handover" => Some(Subject::Handover),
        "modules" => Some(Subject::Modules),
        "cni" => Some(Subject::Cni),
        _ => None,
    };
    match *words.as_slice() {
        ["help"] => Ok(Command::Help),
        ["version"] => Ok(Command::Version),
        ["run"] => Ok(Command::Run),
        ["observe"] => Ok(Command::Observe),
        ["status"] => Ok(Command::Status),
        ["kernels"] => Ok(Command::Kernels),
        ["restore"] => Ok(Command::Restore),
        ["deadman", token] => Ok(Command::Deadman(token.to_owned())),
        ["plan"] => Ok(Command::Plan(Subject::Profile)),
        ["apply"] => Ok(Command::Apply(Subject::Profile)),
        [name, verb @ ("plan" | "apply")] => match (subject(name), verb) {
            (Some(subject), "plan") => Ok(Command::Plan(subject)),
            (Some(subject), _) => Ok(Command::Apply(subject)),
            (None, _) => Err(format!("the command `{name} {verb}` is unknown").into()),
        },
        [] => Err("a command is missing".into()),
        _ => Err(format!("the command `{}` is unknown", words.join(" ")).into()),
    }
}

impl Options {
    /// `--to` of `handover`.
    pub(super) fn owner(&self) -> Result<Owner, String> {
        match self.to.as_deref() {
            Some("bridge") => Ok(Owner::Bridge),
            Some("uplink") => Ok(Owner::Uplink),
            other => Err(wrong_to(other, "`bridge` or `uplink`")),
        }
    }

    /// `--to` of `modules`.
    pub(super) fn module_target(&self) -> Result<Target, String> {
        match self.to.as_deref() {
            Some("payload") => Ok(Target::Payload),
            Some("in-tree") => Ok(Target::InTree),
            other => Err(wrong_to(other, "`in-tree` or `payload`")),
        }
    }
}

impl Options {
    /// `--to` of `cni`; the payload's where nothing is said.
    pub(super) fn toward(&self) -> Result<Toward, String> {
        match self.to.as_deref() {
            None | Some("payload") => Ok(Toward::Payload),
            Some("absent") => Ok(Toward::Absent),
            other => Err(wrong_to(other, "`payload` or `absent`")),
        }
    }
}

fn wrong_to(found: Option<&str>, expected: &str) -> String {
    found.map_or_else(
        || format!("--to is missing: {expected} is expected"),
        |found| format!("--to is `{found}`: {expected} is expected"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        let words = std::iter::once("pointsman").chain(line.split_whitespace());
        parse(words.map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_and_options_may_come_in_any_order() {
        let options = parsed("handover --to bridge plan --uplink eth1 --json").unwrap();
        assert_eq!(options.command, Command::Plan(Subject::Handover));
        assert_eq!(options.owner(), Ok(Owner::Bridge));
        assert!(options.json);
    }

    #[test]
    fn what_is_run_in_the_host_keeps_its_options() {
        let options = parsed("enter-host depmod --help").unwrap();
        assert_eq!(options.command, Command::EnterHost(vec!["depmod".into(), "--help".into()]));
    }

    #[test]
    fn undo_is_the_way_to_absent() {
        for line in ["undo --force", "cni undo --force", "cni apply --to absent --force"] {
            let options = parsed(line).unwrap();
            assert_eq!(options.command, Command::Apply(Subject::Cni), "{line}");
            assert_eq!((options.toward(), options.consent.force), (Ok(Toward::Absent), true));
        }
        assert_eq!(parsed("cni plan").unwrap().toward(), Ok(Toward::Payload));
        let error = parsed("cni plan --to bridge").unwrap().toward().unwrap_err();
        assert_eq!(error, "--to is `bridge`: `payload` or `absent` is expected");
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed("").unwrap_err(), "a command is missing");
        assert_eq!(parsed("fly").unwrap_err(), "the command `fly` is unknown");
        assert_eq!(parsed("modules undo").unwrap_err(), "the command `modules undo` is unknown");
        assert_eq!(parsed("--colour run").unwrap_err(), "the option `--colour` is unknown");
        let error = parsed("modules plan --activate now").unwrap_err();
        assert_eq!(error, "--activate is `now`: `live` or `reboot` is expected");
        let error = parsed("handover plan --accept Rain").unwrap_err();
        assert!(error.starts_with("--accept is `Rain`: one of `BondMode`, `"), "{error}");
        let error = parsed("handover plan --to mars").unwrap().owner().unwrap_err();
        assert_eq!(error, "--to is `mars`: `bridge` or `uplink` is expected");
    }
}
