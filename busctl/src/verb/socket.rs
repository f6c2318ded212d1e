//! `busctl socket`: the sockets of memif interfaces.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use anyhow::anyhow;
use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::misuse::misuse;
use crate::output;
use crate::registry::{InterfaceName, Registry, RegistryError, Socket};

/// Add, remove and list the sockets of memif interfaces
///
/// A memif interface is named by its socket and its id on it: memif1/0 is interface 0 on socket 1.
/// Socket 0 is always /run/vpp/memif.sock. A socket in use cannot be changed or removed, and all
/// interfaces on a socket have the same role.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl socket add 1 ./memif.sock\n  \
                        busctl socket add 2 @lan\n  \
                        busctl socket list\n  \
                        busctl socket del 2")]
pub(crate) struct Args {
    /// What to do
    #[command(subcommand)]
    action: Action,
}

/// What to do with sockets.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Give a socket a number
    #[command(
        after_help = "Examples:\n  busctl socket add 1 ./memif.sock\n  busctl socket add 2 @lan"
    )]
    Add {
        /// Its number, above 0
        #[arg(value_parser = parse_id)]
        id: u32,
        /// Its address: a path, or @ and an abstract name
        path: OsString,
    },
    /// Remove a socket that no interface uses
    #[command(after_help = "Examples:\n  busctl socket del 1")]
    Del {
        /// Its number
        #[arg(value_parser = parse_id)]
        id: u32,
    },
    /// List the sockets and the interfaces on them
    #[command(
        after_help = "Examples:\n  busctl socket list\n  busctl socket list --json | jq '.sockets[].path'"
    )]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Adds, removes or lists sockets.
///
/// # Errors
/// When a socket is in use or its number taken, or a record cannot be read or written.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    match &args.action {
        Action::Add { id, path } => {
            let socket = Socket::new(*id, Path::new(path))
                .map_err(|error| misuse(anyhow!("cannot add socket {id}: {error}")))?;
            Ok(registry.edit()?.add_socket(&socket)?)
        }
        Action::Del { id } => Ok(registry.edit()?.del_socket(*id)?),
        Action::List { json } => list(&registry, *json),
    }
}

/// A socket and its interfaces. The fields are keys of `socket list --json`.
#[derive(Debug, Serialize)]
struct SocketView {
    id: u32,
    path: String,
    /// The role of its interfaces, if there are any.
    role: Option<String>,
    interfaces: Vec<InterfaceName>,
}

/// The keys of `socket list --json`.
#[derive(Debug, Serialize)]
struct Listing {
    sockets: Vec<SocketView>,
    /// An error for each record that could not be read.
    damaged: Vec<String>,
}

impl SocketView {
    fn new(registry: &Registry, socket: Socket) -> Result<Self, RegistryError> {
        let Socket { id, path } = socket;
        let interfaces = registry.on_socket(id)?;
        let role = interfaces.iter().find_map(|name| registry.load(*name).ok()?.role());
        Ok(Self { id, path, role: role.map(|role| role.to_string()), interfaces })
    }
}

fn list(registry: &Registry, json: bool) -> anyhow::Result<()> {
    let (sockets, damaged) = registry.sockets()?;
    let sockets: Vec<_> = sockets
        .into_iter()
        .map(|socket| SocketView::new(registry, socket))
        .collect::<Result<_, _>>()?;
    damaged.iter().for_each(output::warn);
    if json {
        let damaged = damaged.iter().map(ToString::to_string).collect();
        return Ok(output::print_json(&Listing { sockets, damaged })?);
    }
    let mut out = output::stdout();
    writeln!(out, "{:>10}  {:6}  {:30}  interfaces", "id", "role", "path")?;
    for SocketView { id, path, role, interfaces } in sockets {
        let users: Vec<_> = interfaces.iter().map(ToString::to_string).collect();
        let line =
            format!("{id:>10}  {:6}  {path:30}  {}", role.unwrap_or_default(), users.join(" "));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn parse_id(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("a socket's number is from 0 to {}", u32::MAX))
}
