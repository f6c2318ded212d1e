//! `busctl lab`: networks of many nodes, from one file.

mod chosen;
mod host;
mod inside;
mod logs;
mod meeting;
mod products;
mod stage;
mod table;
mod test;
mod totals;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::lab::{Client, Folder, LabError};
use anyhow::{anyhow, bail};

use self::chosen::Chosen;
use self::host::Host;
use self::stage::Stage;
use crate::context::Context;
use crate::denied;
use crate::detached::{Detach, Request};
use crate::misuse::misuse;
use crate::output;

/// The longest time that a lab may take to end.
const LONGEST_END: Duration = Duration::from_mins(1);

/// Run a lab: LANs, namespaces, hosts, memif peers and machines from one file
///
/// A lab file says which LANs there are, and which nodes with which addresses and commands. 'up'
/// starts all of it, without root and without a trace outside of the lab: it ends with 'down', with
/// ^C, or with the process, however that ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl lab up two-routers.toml\n  \
                        busctl lab up -d two-routers.toml; busctl lab show; busctl lab down\n  \
                        busctl lab exec r1 -- ping -c 1 r2\n  \
                        busctl lab shell r1\n  \
                        busctl lab test two-routers.toml\n  \
                        busctl lab up three-hosts.toml --host left    (and so on each host)")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start the lab of a file; ^C takes it down
    Up(UpArgs),
    /// Take a lab down, also what a killed one has left
    Down(DownArgs),
    /// Show the nodes of a lab, their state and addresses
    Show(ShowArgs),
    /// Run a command in a node, and exit with its exit code
    Exec(ExecArgs),
    /// Start a shell in a node
    Shell(ShellArgs),
    /// Print what the commands of a node have printed
    Logs(LogsArgs),
    /// Print the frames of a LAN, or write them to a file: 'busctl dump' on its bus
    Capture(CaptureArgs),
    /// Change what a LAN or an interface does to frames
    Set(SetArgs),
    /// End the processes of a node, and start it again
    Restart(RestartArgs),
    /// Make a lab that is up that of a changed file: what differs is started again
    Apply(ApplyArgs),
    /// Start a lab, do its checks, and take it down; exit with 1 when one fails
    Test(TestArgs),
    /// Draw a lab: as a tree, or for other programs
    Graph(GraphArgs),
    /// Print the JSON schema of lab files, for editors
    Schema,
    /// Print a lab file made of one of containerlab
    Import(ImportArgs),
    /// Set in the processes that 'up' starts
    #[command(hide = true)]
    Stage(StageArgs),
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    /// The lab file
    file: PathBuf,

    #[command(flatten)]
    host: Host,

    #[command(flatten)]
    detach: Detach,

    /// Print JSON only: the lab when it is ready
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DownArgs {
    /// The name of the lab [default: the one that is up]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The name of the lab [default: all that are up]
    name: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExecArgs {
    /// The name of the node
    node: String,

    #[command(flatten)]
    lab: Chosen,

    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct ShellArgs {
    /// The name of the node
    node: String,

    #[command(flatten)]
    lab: Chosen,
}

#[derive(Debug, clap::Args)]
struct LogsArgs {
    /// The name of the node; 'lab' for what concerns no single node
    node: String,

    /// Continue with what is printed from now on
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    lab: Chosen,
}

#[derive(Debug, clap::Args)]
struct CaptureArgs {
    /// The name of the LAN or link
    lan: String,

    #[command(flatten)]
    lab: Chosen,

    /// Further arguments of 'busctl dump', such as -f or -w FILE
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// A LAN or link, or NODE:INTERFACE
    link: String,

    #[command(flatten)]
    lab: Chosen,

    /// Impairments, as 'busctl attach' takes them: delay=20ms, loss=1%, partition=on
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RestartArgs {
    /// The name of the node
    node: String,

    #[command(flatten)]
    lab: Chosen,
}

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    /// The lab file
    file: PathBuf,

    #[command(flatten)]
    host: Host,
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// The lab file
    file: PathBuf,

    #[command(flatten)]
    host: Host,

    /// Print JSON
    #[arg(long, conflicts_with = "junit")]
    json: bool,

    /// Print a report as XML in the form of `JUnit`
    #[arg(long)]
    junit: bool,

    /// Where the logs, and captures of the LANs, are kept when a check fails [default: NAME-failed
    /// in this folder]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct GraphArgs {
    /// The lab file [default: the lab that is up]
    file: Option<PathBuf>,

    #[command(flatten)]
    lab: Chosen,

    /// Draw for Mermaid, which documents embed
    #[arg(long, group = "form")]
    mermaid: bool,

    /// Draw for Graphviz
    #[arg(long, group = "form")]
    dot: bool,

    /// Draw as a picture
    #[arg(long, group = "form")]
    svg: bool,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The file, as NAME.clab.yml
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct StageArgs {
    stage: Stage,
    folder: PathBuf,
}

impl Args {
    /// Returns whether this process is to make or enter a user namespace.
    pub(crate) fn has_one_thread(&self) -> bool {
        matches!(self.action, Action::Stage(_) | Action::Exec(_) | Action::Shell(_))
    }

    /// Returns what is to run detached, if that is asked for.
    pub(crate) fn detached(&self) -> Option<Request> {
        let Action::Up(args) = &self.action else { return None };
        let file = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(args.detach.request("lab", Some(file))?.json(args.json))
    }
}

/// Runs the verb, and returns its exit code: that of the command for `exec` and `shell`.
///
/// # Errors
/// When the file is wrong, a lab cannot be started, or none of that name is up.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let done = match &args.action {
        Action::Up(args) => up::run(args, context),
        Action::Test(args) => test::run(args, context),
        Action::Exec(args) => {
            inside::run(&args.lab.folder(context)?, &args.node, args.command.clone())
        }
        Action::Shell(args) => {
            inside::run(&args.lab.folder(context)?, &args.node, vec![inside::shell()])
        }
        Action::Down(args) => down(args, context).map(|()| ExitCode::SUCCESS),
        Action::Show(args) => show(args, context).map(|()| ExitCode::SUCCESS),
        Action::Logs(args) => {
            let log = args.lab.folder(context)?.log(&args.node);
            logs::print(&log, args.follow).map(|()| ExitCode::SUCCESS)
        }
        Action::Capture(args) => {
            let folder = args.lab.folder(context)?;
            inside::dump(&folder.bus(&args.lan), &args.arguments)
        }
        Action::Set(args) => {
            let folder = args.lab.folder(context)?;
            Client::connect(&folder)
                .and_then(|mut client| client.set(&args.link, &args.settings.join(",")))
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
        Action::Apply(args) => apply(args, context).map(|()| ExitCode::SUCCESS),
        Action::Restart(args) => {
            let folder = args.lab.folder(context)?;
            Client::connect(&folder)
                .and_then(|mut client| client.restart(&args.node))
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
        Action::Graph(args) => products::draw(args, context).map(|()| ExitCode::SUCCESS),
        Action::Schema => products::schema().map(|()| ExitCode::SUCCESS),
        Action::Import(args) => products::import(&args.file).map(|()| ExitCode::SUCCESS),
        Action::Stage(args) => stage::run(args.stage, &Folder::at(args.folder.clone())),
    };
    done.map_err(explained)
}

/// Adds what an administrator can do about namespaces that are denied, and marks what cannot work
/// like this.
fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<LabError>() {
        Some(LabError::Namespaces { source }) => {
            let how = denied::explain(source.raw_os_error());
            misuse(anyhow!("{error}: {how}"))
        }
        Some(LabError::BadName(_) | LabError::NotUp(_) | LabError::IsUp(_) | LabError::Host(_)) => {
            misuse(error)
        }
        _ => error,
    }
}

fn down(args: &DownArgs, context: &Context) -> anyhow::Result<()> {
    let chosen = Chosen::named(args.name.clone());
    let folder = chosen.folder(context)?;
    let client = Client::connect(&folder).and_then(|mut client| {
        totals::say(&client.state()?);
        Ok(client)
    });
    match client.and_then(Client::down) {
        // It is ending already, perhaps because it was killed: the kernel takes a while to remove
        // many interfaces.
        Err(LabError::NotUp(_) | LabError::Unreachable { .. }) if folder.is_up()? => {}
        ended => ended?,
    }
    if !folder.wait_until_down(LONGEST_END)? {
        bail!("the lab {} does not end", folder.name());
    }
    output::note(&format!("the lab {} is down", folder.name()));
    Ok(())
}

fn apply(args: &ApplyArgs, context: &Context) -> anyhow::Result<()> {
    let state = context.state_folder()?;
    let running = |name: &str| Folder::new(&state, name).ok()?.read_plan().ok()?.here;
    let plan = args.host.read_as(&args.file, running)?;
    let folder = Folder::new(&state, &plan.name)?;
    Ok(Client::connect(&folder)?.apply(&plan)?)
}

fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<()> {
    let state = context.state_folder()?;
    let folders = match &args.name {
        Some(name) => vec![Folder::new(&state, name)?],
        None => Folder::all(&state)?,
    };
    let mut labs = Vec::new();
    for folder in folders {
        match Client::connect(&folder).and_then(|mut client| client.state()) {
            // One that ends at this moment.
            Err(LabError::NotUp(_) | LabError::Unreachable { .. }) if args.name.is_none() => {}
            state => labs.push(state?),
        }
    }
    if args.json {
        output::print_json(&labs)?;
        return Ok(());
    }
    labs.iter().try_for_each(table::print)
}
