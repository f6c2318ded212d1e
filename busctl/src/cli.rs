//! The command line: its verbs and global flags. The flags of each verb are in its module under
//! [`verb`].

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::context::Context;
use crate::detached::{DetachedName, Request};
use crate::process::name::{OWN, program, with_name};
use crate::{exit, habits, output, verb};

/// Create, wire and watch virtual Ethernet LANs in shared memory.
///
/// A LAN is a file: a process that may open it is on the LAN. No daemon and no privilege is needed.
#[derive(Debug, Parser)]
#[command(
    name = "busctl",
    version = env!("BUSCTL_VERSION"),
    arg_required_else_help = true,
    after_help = "BUS is an interface name, or the path of a bus file with a '/' in it (./lan.bus).\n\
                  Exit codes: 0 done; 1 it did not work; 2 wrong use or configuration, and nothing was changed.",
    after_long_help = "BUS is an interface name (then its MAC address, flags and bus are used), or the path of a bus file with \
                       a '/' in it, such as ./lan.bus (then a temporary station is made).\n\n\
                       Exit codes: 0 done; 1 it did not work; 2 wrong use or configuration, and nothing was changed.\n\n\
                       Examples:\n  \
                       busctl demo\n  \
                       busctl create shmif0 && busctl linkstr shmif0 ./lan.bus && busctl up shmif0\n  \
                       busctl host shmif0 10.0.0.1/24 &\n  \
                       busctl ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 3"
)]
pub(crate) struct Cli {
    /// The folder with the records of interfaces.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help = "Keep the records of interfaces in DIR [default: $BUSCTL_STATE, else $XDG_RUNTIME_DIR/busctl, \
                else a folder of your own under /tmp]"
    )]
    pub(crate) state: Option<PathBuf>,

    /// How much to log. Not global: a verb may have its own `-v`, see [`command`].
    #[arg(
        short,
        long,
        action = clap::ArgAction::Count,
        help = "Log to stderr; repeat for more. $BUSCTL_LOG takes a filter such as memif=debug. ('dump' has its own -v: there, \
                write this one before the verb)"
    )]
    pub(crate) verbose: u8,

    /// The name of the detached process that this one is. [`detached`](crate::detached) sets it.
    #[arg(long, hide = true)]
    pub(crate) detached_as: Option<DetachedName>,

    /// The verb.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs. The first line of each module's `Args` is what `--help` lists.
#[allow(
    missing_docs,
    reason = "a doc comment on a variant would replace the help text of the verb's own Args"
)]
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Create(verb::create::Args),
    Destroy(verb::destroy::Args),
    Linkstr(verb::linkstr::Args),
    Up(verb::up::Args),
    Down(verb::down::Args),
    Set(verb::set::Args),
    Show(verb::show::Args),
    Socket(verb::socket::Args),
    Node(verb::node::Args),
    Attach(verb::attach::Args),
    Host(verb::host::Args),
    List(verb::list::Args),
    Top(verb::top::Args),
    Metrics(verb::metrics::Args),
    Stop(verb::stop::Args),
    Ping(verb::ping::Args),
    Dump(verb::dump::Args),
    Replay(verb::replay::Args),
    Extcap(verb::extcap::Args),
    Run(verb::run::Args),
    Lab(verb::lab::Args),
    Repair(verb::repair::Args),
    Bench(verb::bench::Args),
    Demo(verb::demo::Args),
    Completions(verb::completions::Args),
    Man(verb::man::Args),
}

/// The name of `-v`.
const VERBOSE: &str = "verbose";

/// Returns the whole command line, from which help, completions and man pages are generated, with
/// the name that the program was called by.
#[must_use]
pub(crate) fn command() -> Command {
    named(program())
}

/// Returns the command line of the program under one of its names.
///
/// `-v` may also follow the verb, where people append it, unless the verb has its own `-v`.
fn named(name: &'static str) -> Command {
    let command = Cli::command();
    // In the help of these verbs, files have the name, too.
    let in_files = |verb| renamed(verb, &|text| text.replace(OWN, name));
    let of_files = if name == OWN { &[][..] } else { &["completions", "man"] };
    let command =
        of_files.iter().fold(command, |command, verb| command.mut_subcommand(verb, in_files));
    let command = renamed(command, &|text| with_name(text, name).into_owned());
    let command = command.name(name).bin_name(name);
    let verbose = command.get_arguments().find(|arg| arg.get_id() == VERBOSE).cloned();
    command.mut_subcommands(|verb| {
        let taken = verb.get_arguments().any(|arg| arg.get_short() == Some('v'));
        verb.args(
            verbose
                .clone()
                .filter(|_| !taken)
                .map(|verbose| verbose.help("Log to stderr; repeat for more")),
        )
    })
}

/// Returns a command with all texts of its help as `rename` has them.
fn renamed(command: Command, rename: &dyn Fn(&str) -> String) -> Command {
    let text = |styled: &StyledStr| StyledStr::from(rename(&styled.to_string()));
    let (about, long_about) = (command.get_about().map(text), command.get_long_about().map(text));
    let after = (command.get_after_help().map(text), command.get_after_long_help().map(text));
    command
        .about(Resettable::from(about))
        .long_about(Resettable::from(long_about))
        .after_help(Resettable::from(after.0))
        .after_long_help(Resettable::from(after.1))
        .mut_args(|arg| {
            let (help, long) = (arg.get_help().map(text), arg.get_long_help().map(text));
            arg.help(Resettable::from(help)).long_help(Resettable::from(long))
        })
        .mut_subcommands(|verb| renamed(verb, rename))
}

/// Reads the command line this process was started with.
///
/// # Errors
/// When it is wrong; and when help or the version was asked for, which is then the text of the
/// error.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(verb::extcap::command_line(env::args_os()))?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let behind =
        |(_, verb): (&str, &ArgMatches)| verb.try_get_one::<u8>(VERBOSE).ok().flatten().copied();
    cli.verbose = cli.verbose.saturating_add(matches.subcommand().and_then(behind).unwrap_or(0));
    Ok(cli)
}

impl Verb {
    /// Returns whether this process is to make or enter a user namespace, which the kernel allows
    /// only while it has one thread.
    pub(crate) fn has_one_thread(&self) -> bool {
        match self {
            Self::Run(args) => args.is_stage(),
            Self::Lab(args) => args.has_one_thread(),
            _ => false,
        }
    }

    /// Returns what is to run detached, if the verb was given `--detach`.
    ///
    /// # Errors
    /// When the verb cannot run detached.
    pub(crate) fn detached(&self) -> anyhow::Result<Option<Request>> {
        match self {
            Self::Node(args) => Ok(args.detached()),
            Self::Attach(args) => args.detached(),
            Self::Host(args) => Ok(args.detached()),
            Self::Run(args) => args.detached(),
            Self::Lab(args) => Ok(args.detached()),
            _ => Ok(None),
        }
    }

    /// Runs the verb, and returns the exit code.
    ///
    /// # Errors
    /// The error of the verb, which [`exit`](crate::exit) reports.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        let done = match self {
            Self::Run(args) => return verb::run::run(args, context),
            Self::Lab(args) => return verb::lab::run(args, context),
            Self::Create(args) => verb::create::run(args, context),
            Self::Destroy(args) => verb::destroy::run(args, context),
            Self::Linkstr(args) => verb::linkstr::run(args, context),
            Self::Up(args) => verb::up::run(args, context),
            Self::Down(args) => verb::down::run(args, context),
            Self::Set(args) => verb::set::run(args, context),
            Self::Show(args) => verb::show::run(args, context),
            Self::Socket(args) => verb::socket::run(args, context),
            Self::Node(args) => verb::node::run(args, context),
            Self::Attach(args) => verb::attach::run(args, context),
            Self::Host(args) => verb::host::run(args, context),
            Self::List(args) => verb::list::run(args, context),
            Self::Top(args) => verb::top::run(args, context),
            Self::Metrics(args) => verb::metrics::run(args, context),
            Self::Stop(args) => verb::stop::run(args, context),
            Self::Ping(args) => verb::ping::run(args, context),
            Self::Dump(args) => verb::dump::run(args, context),
            Self::Replay(args) => verb::replay::run(args, context),
            Self::Extcap(args) => verb::extcap::run(args, context),
            Self::Repair(args) => verb::repair::run(args, context),
            Self::Bench(args) => verb::bench::run(args, context),
            Self::Demo(args) => verb::demo::run(args, context),
            Self::Completions(args) => verb::completions::run(args, command()),
            Self::Man(args) => verb::man::run(args, command()),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Prints `--help` and `--version`, and reports a wrong command line in the form of every other
/// error.
#[must_use]
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let printed = error.print().map_err(|cause| output::mark(&cause));
        if let Err(cause) = printed.and_then(|()| output::stdout().flush()) {
            return exit::report(&cause.into());
        }
    } else {
        let line = match meant(error) {
            Some(meant) => meant,
            None => usage_line(&error.to_string(), called()),
        };
        output::error(&line);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Returns the line for a word of another program where a verb should be, with what it means here.
fn meant(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let ContextValue::String(wrong) = error.get(ContextKind::InvalidSubcommand)? else {
        return None;
    };
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let at = words.iter().position(|word| word == wrong)?;
    // Below a verb the words are those of its own.
    if words[..at].iter().any(|word| command().find_subcommand(word).is_some()) {
        return None;
    }
    let meant = habits::meant(&words[at..])?;
    Some(format!("unrecognized subcommand '{wrong}'; did you mean {meant}?; see '{OWN} --help'"))
}

/// Returns the program with the verb of the command line, if there is one.
fn called() -> String {
    let mut command = command();
    let mut called = command.get_name().to_owned();
    for word in std::env::args_os().skip(1) {
        if let Some(verb) = command.find_subcommand(&word).cloned() {
            called = format!("{called} {}", verb.get_name());
            command = verb;
        }
    }
    called
}

/// Makes one line of clap's paragraph: keeps the error and the tips, and refers to `--help` for the
/// usage. `program` names the verb when the paragraph does not.
fn usage_line(paragraph: &str, mut program: String) -> String {
    let mut what = Vec::new();
    let mut tips = Vec::new();
    for line in paragraph.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage
                .split(' ')
                .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
            program = words.collect::<Vec<_>>().join(" ");
        }
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => tips.push(tip),
            None => what.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    let help = format!("see '{program} --help'");
    tips.push(&help);
    format!("{}; {}", what.join(" "), tips.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::name::{NAMES, PACKAGED};

    #[test]
    fn the_command_line_is_consistent() {
        for name in NAMES {
            named(name).debug_assert();
        }
    }

    /// Checks the help of a command and of those below it.
    fn check_help(command: &mut Command, known: &[&str]) {
        let help = command.render_long_help().to_string() + &command.render_help().to_string();
        let help = known.iter().fold(help, |help, known| help.replace(known, ""));
        let is_other = |line: &str| {
            let rest = line.replace(PACKAGED, "");
            rest.contains(OWN) || line.contains(&format!("shm{PACKAGED}"))
        };
        let others: Vec<&str> = help.lines().filter(|line| is_other(line)).collect();
        assert!(others.is_empty(), "{}: {others:?}", command.get_name());
        assert!(help.contains(&format!("Usage: {PACKAGED}")), "{help}");
        for verb in command.get_subcommands_mut() {
            check_help(verb, known);
        }
    }

    #[test]
    fn the_packaged_name_is_in_all_help() {
        let mut command = named(PACKAGED);
        command.build();
        check_help(&mut command, &["$XDG_RUNTIME_DIR/busctl", "busctl=info"]);
        let mut own = named(OWN);
        own.build();
        assert!(!own.render_long_help().to_string().contains(PACKAGED));
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let paragraph = "error: unrecognized subcommand 'creat'\n\n  tip: a similar subcommand exists: 'create'\n\n\
                         Usage: busctl [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(paragraph, "busctl".to_owned()),
            "unrecognized subcommand 'creat'; a similar subcommand exists: 'create'; see 'busctl --help'"
        );
        let of_a_verb = "error: unexpected argument '--jsn' found\n\nUsage: busctl show --json <IFNAME|BUSPATH>\n";
        assert_eq!(
            usage_line(of_a_verb, "busctl".to_owned()),
            "unexpected argument '--jsn' found; see 'busctl show --help'"
        );
        let of_a_value =
            "error: invalid value 'x' for '<IFNAME>': no\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(of_a_value, "busctl show".to_owned()),
            "invalid value 'x' for '<IFNAME>': no; see 'busctl show --help'"
        );
    }
}
