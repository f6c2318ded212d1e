//! `busctl extcap`: buses as capture devices of Wireshark.
//!
//! Wireshark runs the programs of a folder and asks each for its devices, their options, and
//! captures into a named pipe. Source of the protocol: Wireshark's `doc/extcap.adoc`.

mod devices;
mod install;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use capture::Filter;
use clap::{Parser as _, ValueHint};

use self::devices::Device;
use crate::context::Context;
use crate::misuse::misuse;
use crate::output;
use crate::process::name::program;
use crate::registry::format_mac;
use crate::verb::dump;

/// Offer buses to Wireshark as capture devices
///
/// 'busctl extcap --install' puts a link to this program where Wireshark looks; from then on
/// Wireshark, tshark and dumpcap list the buses and interfaces of this user. The other flags are
/// Wireshark's own calls.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl extcap --install && tshark -D\n  \
                        tshark -i /dev/shm/lan -f 'tcp port 80'\n  \
                        busctl extcap --uninstall")]
#[allow(clippy::struct_excessive_bools, reason = "each is a call of the protocol")]
pub(crate) struct Args {
    /// Put a link to this program where Wireshark looks
    #[arg(long)]
    install: bool,

    /// Remove the links that --install made
    #[arg(long, conflicts_with = "install")]
    uninstall: bool,

    /// With --install or --uninstall, use this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: Option<PathBuf>,

    /// Print the devices
    #[arg(long, help_heading = CALLS)]
    extcap_interfaces: bool,

    /// The device that the other calls are about
    #[arg(long, value_name = "DEVICE", help_heading = CALLS)]
    extcap_interface: Option<OsString>,

    /// Print the link types of the device
    #[arg(long, help_heading = CALLS)]
    extcap_dlts: bool,

    /// Print the options of the device
    #[arg(long, help_heading = CALLS)]
    extcap_config: bool,

    /// Capture from the device
    #[arg(long, requires = "fifo", help_heading = CALLS)]
    capture: bool,

    /// The pipe to write the capture to
    #[arg(long, value_name = "PATH", help_heading = CALLS)]
    fifo: Option<PathBuf>,

    /// Capture only the frames that match; alone, check the filter
    #[arg(long, value_name = "FILTER", help_heading = CALLS)]
    extcap_capture_filter: Option<String>,

    /// With --capture, begin with the frames that are still on the bus
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = CALLS)]
    history: Option<bool>,

    /// With --capture, all frames of the bus, or those alone that the interface sends or receives
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", help_heading = CALLS)]
    promiscuous: Option<bool>,

    /// With --capture, keep this many bytes of each frame
    #[arg(long, value_name = "BYTES", help_heading = CALLS)]
    snaplen: Option<u32>,

    /// With --capture, the bus of the device without one
    #[arg(long, value_name = "BUS", value_hint = ValueHint::FilePath, help_heading = CALLS)]
    bus: Option<OsString>,
}

/// The heading of the flags that Wireshark uses.
const CALLS: &str = "Wireshark's calls";

/// What every flag of the protocol begins with.
const PREFIX: &str = "--extcap-";

/// The flags of the protocol that matter here; a later Wireshark may have more.
const KNOWN: [&str; 5] = ["interfaces", "interface", "dlts", "config", "capture-filter"];

/// Returns the command line as the verb takes it: with the verb, when the program is called by the
/// name of the [link](install); without flags of the protocol that only a later Wireshark knows.
pub(crate) fn command_line(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    if words.first().is_some_and(|program| install::is_link(program)) {
        words.insert(1, "extcap".into());
    }
    if words.get(1).is_none_or(|verb| verb != "extcap") {
        return words;
    }
    let mut known = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if is_unknown(&word) {
            let has_value = word.as_bytes().contains(&b'=');
            let value = |next: &OsString| !has_value && !next.as_bytes().starts_with(b"--");
            let _ = words.next_if(value);
        } else {
            known.push(word);
        }
    }
    known
}

/// Returns whether the word is a flag of the protocol that changes nothing here.
fn is_unknown(word: &OsStr) -> bool {
    let Some(flag) = word.as_bytes().strip_prefix(PREFIX.as_bytes()) else { return false };
    let name = flag.split(|byte| *byte == b'=').next().unwrap_or(flag);
    KNOWN.iter().all(|known| known.as_bytes() != name)
}

/// Answers a call.
///
/// # Errors
/// When there is no such device; when a link cannot be made; those of a dump.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    if args.install {
        return install::install(args.folder.as_deref());
    }
    if args.uninstall {
        return install::uninstall(args.folder.as_deref());
    }
    if args.extcap_interfaces {
        return print_devices(context);
    }
    let about = "say --install, --uninstall, or one of Wireshark's calls";
    let device = args.extcap_interface.as_ref().context(about).map_err(misuse)?;
    if args.extcap_dlts {
        writeln!(output::stdout(), "dlt {{number=1}}{{name=EN10MB}}{{display=Ethernet}}")?;
        return Ok(());
    }
    if args.extcap_config {
        return print_options(&Device::find(device, context)?);
    }
    if args.capture {
        return capture(args, &Device::find(device, context)?, context);
    }
    // Wireshark asks while the user types; no answer says that the filter is right.
    if let Some(filter) = &args.extcap_capture_filter {
        if let Err(error) = Filter::compile(filter) {
            writeln!(output::stdout(), "{error}")?;
        }
        return Ok(());
    }
    Err(misuse(anyhow::anyhow!(about)))
}

fn print_devices(context: &Context) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "extcap {{version={version}}}{{display={}}}", program())?;
    for device in devices::all(&context.registry()?)? {
        let Device { value, display, .. } = device;
        writeln!(out, "interface {{value={value}}}{{display={display}}}")?;
    }
    Ok(())
}

fn print_options(device: &Device) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let mut number = 0;
    let mut print = |call: &str, display: &str, rest: &str| {
        let line = format!("arg {{number={number}}}{{call=--{call}}}{{display={display}}}{rest}");
        number += 1;
        writeln!(out, "{line}")
    };
    if device.bus.is_none() {
        let rest = "{type=fileselect}{mustexist=true}{required=true}\
                    {tooltip=A bus of this machine that no process of yours is on}";
        print("bus", "Bus file", rest)?;
    }
    let rest = "{type=boolflag}{default=false}{tooltip=Begin with the oldest frame of the ring, not with the next one}";
    print("history", "Frames that are still on the bus", rest)?;
    if device.mac.is_some() {
        let rest = "{type=boolean}{default=true}{tooltip=All frames of the bus, not only those of this interface}";
        print("promiscuous", "Promiscuous", rest)?;
    }
    let rest = "{type=unsigned}{range=1,262144}{default=262144}{tooltip=Longer frames are cut}";
    print("snaplen", "Bytes kept of each frame", rest)?;
    Ok(())
}

/// Writes a capture to the pipe until the process is asked to stop.
fn capture(args: &Args, device: &Device, context: &Context) -> anyhow::Result<()> {
    let bus = device.bus.as_ref().or(args.bus.as_ref());
    let bus = bus.context("no bus: give the device its --bus").map_err(misuse)?;
    let mut words: Vec<OsString> = ["dump", "-f", "-q", "--format", "pcap"].map(Into::into).into();
    if args.history != Some(true) {
        words.push("--now".into());
    }
    if let Some(snaplen) = args.snaplen {
        words.extend(["-s".into(), snaplen.to_string().into()]);
    }
    let fifo = args.fifo.clone().context("no --fifo").map_err(misuse)?;
    words.extend(["-w".into(), fifo.into(), bus.clone()]);
    words.extend(filter(args, device).map(Into::into));
    let dump = Dump::try_parse_from(words).context("cannot capture").map_err(misuse)?;
    dump::run(&dump.args, context)
}

/// Returns the filter of the user, and that of a device that hears only its own frames.
fn filter(args: &Args, device: &Device) -> Option<String> {
    let own = device.mac.filter(|_| args.promiscuous == Some(false));
    let own = own.map(|mac| format!("ether host {} or ether multicast", format_mac(mac)));
    let wanted = args.extcap_capture_filter.clone().filter(|filter| !filter.trim().is_empty());
    match (own, wanted) {
        (Some(own), Some(wanted)) => Some(format!("({own}) and ({wanted})")),
        (own, wanted) => own.or(wanted),
    }
}

/// The command line of a dump.
#[derive(Debug, clap::Parser)]
struct Dump {
    #[command(flatten)]
    args: dump::Args,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Vec<OsString> {
        command_line(words.iter().map(OsString::from))
    }

    #[test]
    fn the_link_is_the_verb_and_unknown_calls_are_passed_over() {
        let words = ["/home/ann/.config/wireshark/extcap/busctl-extcap", "--extcap-interfaces"];
        assert_eq!(line(&words)[1..], ["extcap", "--extcap-interfaces"]);
        let unknown = [
            "busctl",
            "extcap",
            "--extcap-control-in",
            "/tmp/in",
            "--extcap-interface=lan",
            "--extcap-later=1",
            "--extcap-flag",
            "--capture",
            "--fifo",
            "/tmp/fifo",
        ];
        let known = ["extcap", "--extcap-interface=lan", "--capture", "--fifo", "/tmp/fifo"];
        assert_eq!(line(&unknown)[1..], known);
        let other = ["busctl", "show", "--extcap-later"];
        assert_eq!(line(&other), other);
    }
}
