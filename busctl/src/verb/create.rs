//! `busctl create`: makes an interface.

use std::io::Write as _;

use anyhow::anyhow;
use serde::Serialize;

use crate::context::Context;
use crate::misuse::{OrMisuse as _, misuse};
use crate::output;
use crate::registry::{
    InterfaceName, KeyValue, Kind, PortSettings, Record, Settings, Shmif, format_mac,
};

/// The variable with the default offload flags; the interfaces of a rump kernel read it, too.
const CAPENABLE_VARIABLE: &str = "RUMP_SHMIF_CAPENABLE";

/// Make an interface and print its name
///
/// A new interface is down and has no bus. Without a unit it gets the lowest free one. A shmif
/// interface is a station for other verbs, such as 'busctl host'; 'busctl node' runs all
/// others. shmif and memif interfaces get a random MAC address (b2:a0:...).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "shmif keys: mac=MAC capenable=FLAGS promisc=on|off media=auto|none mtu=N\n  \
                        capenable defaults to $RUMP_SHMIF_CAPENABLE, if that is set\n\
                        memif keys: role=server|client secret=S rsize=LOG2 bsize=BYTES mac=MAC\n  \
                        rx-queues=N tx-queues=N rx-mode=adaptive|polling|interrupt name=S\n  \
                        reconnect=MS zero-copy=yes|no learn=on|off mode=ethernet|ip; with mode=ip, the\n  \
                        peer on the LAN: ip=ADDR/LEN,... gateway=ADDR,...\n\
                        tap keys: name=S mac=MAC offload=on|off learn=on|off ip=ADDR/LEN,... up=on\n  \
                        netns=NAME pid=PID\n\
                        sock keys: path=PATH|@NAME tcp=ADDRESS:PORT framing=qemu|packet|dgram|vde\n  \
                        role=server|client peer=PATH mac=MAC learn=on|off\n\
                        vxlan keys: vni=N (as in its name unless given) local=ADDR[:PORT] peers=ADDR,...\n  \
                        hosts=NAME,... group=ADDR storm=N suppress=on|off mac=MAC learn=on|off\n\
                        trunk keys: name=S (that of the interface unless given) connect=ENDPOINT,...\n  \
                        listen=ENDPOINT,... via=auto|vxlan|zenoh config=FILE vni=N local=ADDR[:PORT]\n  \
                        host=NAME storm=N suppress=on|off mac=MAC learn=on|off\n\
                        All but shmif take mtu=N vlan=N trunk=LIST native=N, and the impairments of\n  \
                        'busctl attach', such as delay=20ms loss=1%\n\n\
                        Examples:\n  \
                        busctl create\n  \
                        busctl create shmif7\n  \
                        busctl create shmif mac=02:00:00:00:00:01 capenable=tcp4csum,tso4\n  \
                        busctl create memif0/3 role=client\n  \
                        busctl create tap0 offload=off\n  \
                        busctl create sock0 path=./vm.sock\n  \
                        busctl create vxlan42 local=192.0.2.1 peers=192.0.2.2,192.0.2.3"
)]
pub(crate) struct Args {
    /// shmif, tap, sock, vxlan or trunk, or a name such as shmif0, memif0/1 (on socket 0, with id 1), tap0,
    /// sock0 or vxlan42; then settings
    #[arg(value_name = "NAME|KEY=VALUE")]
    words: Vec<String>,

    /// Print the name as JSON
    #[arg(long)]
    json: bool,
}

/// The keys of `create --json`.
#[derive(Debug, Serialize)]
struct Created {
    name: InterfaceName,
}

/// Makes the interface.
///
/// # Errors
/// When the name is taken or its socket does not exist, or a setting is wrong.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let (name, settings) = match args.words.split_first() {
        Some((first, rest)) if !first.contains('=') => (parse_name(first)?, rest),
        _ => (Name::Lowest(InterfaceName::Shmif(0)), args.words.as_slice()),
    };
    let (Name::Lowest(first) | Name::This(first)) = name;
    let mut draft = Record::new(first, first_settings(first)?);
    let settings = KeyValue::parse_all(settings).misuse()?;
    settings.iter().try_for_each(|setting| draft.apply(setting)).misuse()?;
    draft.check().misuse()?;
    let registry = context.registry()?;
    let edit = registry.edit()?;
    let record = match name {
        Name::Lowest(_) => edit.create_lowest(draft)?,
        Name::This(_) => edit.create(draft)?,
    };
    settings.iter().filter_map(|setting| record.warning(setting)).for_each(output::warn);
    if args.json {
        output::print_json(&Created { name: record.name })?;
    } else {
        writeln!(output::stdout(), "{}", record.name)?;
    }
    Ok(())
}

/// The name of the new interface.
enum Name {
    /// The kind of this one, with the lowest free unit.
    Lowest(InterfaceName),
    /// This name.
    This(InterfaceName),
}

fn parse_name(word: &str) -> anyhow::Result<Name> {
    match Kind::ALL.into_iter().find(|kind| kind.word() == word) {
        Some(Kind::Shmif) => Ok(Name::Lowest(InterfaceName::Shmif(0))),
        Some(Kind::Tap) => Ok(Name::Lowest(InterfaceName::Tap(0))),
        Some(Kind::Sock) => Ok(Name::Lowest(InterfaceName::Sock(0))),
        Some(Kind::Vxlan) => Ok(Name::Lowest(InterfaceName::Vxlan(0))),
        Some(Kind::Trunk) => Ok(Name::Lowest(InterfaceName::Trunk(0))),
        Some(Kind::Memif) => Err(misuse(anyhow!(
            "a memif interface is named by its socket and its id, such as memif0/1; 'busctl socket list' shows the sockets"
        ))),
        None => Ok(Name::This(word.parse().misuse()?)),
    }
}

/// Returns the settings of a new interface. Its address is chosen here once, so that it stays the
/// same. The kernel chooses the address of a TAP.
fn first_settings(name: InterfaceName) -> anyhow::Result<Settings> {
    let mut shmif = Shmif::default();
    Ok(match name.kind() {
        Kind::Shmif => {
            if let Some(flags) = std::env::var_os(CAPENABLE_VARIABLE) {
                let flags = flags.to_string_lossy();
                shmif.capenable = flags
                    .parse()
                    .map_err(|error| misuse(anyhow!("${CAPENABLE_VARIABLE}: {error}")))?;
            }
            Settings::Shmif(shmif)
        }
        Kind::Memif => {
            let mut record = Record::new(name, Settings::Port(PortSettings::default()));
            record.apply(&KeyValue { key: "mac".to_owned(), value: format_mac(shmif.mac) })?;
            record.settings
        }
        Kind::Tap | Kind::Sock | Kind::Vxlan | Kind::Trunk => {
            Settings::Port(PortSettings::default())
        }
    })
}
