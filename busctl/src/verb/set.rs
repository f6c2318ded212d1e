//! `busctl set`: changes the settings of an interface.

use anyhow::{anyhow, bail};
use port::Impairments;
use shmbus::{Bus, MAX_BIG_FRAME, MIN_FRAME};

use crate::context::Context;
use crate::misuse::{OrMisuse as _, misuse};
use crate::output;
use crate::registry::{InterfaceName, KeyValue, Record, apply};

/// Change settings of an interface
///
/// shmif interfaces, at any time: mac=ADDRESS (unicast); capenable=FLAGS, the offload flags, as a
/// number or as names such as tso4,tcp4csum-tx (all, none); promisc=on|off; media=auto|none, where
/// none takes the link down as if the cable were pulled; mtu=N, the largest payload of its frames.
///
/// All others, at any time: the impairments of 'busctl attach', such as delay=20ms
/// loss=1% partition=on, which hold from the next frame on; delay=0 takes the delay away. While they
/// are down: the other keys of 'busctl create'. KEY= with an empty value restores the default.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl set shmif0 promisc=on\n  \
                        busctl set shmif0 mac=02:00:00:00:00:01 capenable=0x880\n  \
                        busctl set shmif0 media=none\n  \
                        busctl set memif0/1 delay=20ms jitter=5ms out.loss=1%\n  \
                        busctl set memif0/1 rsize=11 secret=")]
pub(crate) struct Args {
    /// The interface
    #[arg(value_name = "IFNAME")]
    interface: InterfaceName,

    /// Settings, such as promisc=on
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<String>,
}

/// Checks that the bus of the interface carries its MTU.
fn check_mtu(record: &Record) -> anyhow::Result<()> {
    let bus = record.linkstr.as_deref().and_then(|path| Bus::open_read_only(path).ok());
    let (Some(mtu), Some(bus)) = (record.set_mtu(), bus) else { return Ok(()) };
    let carried = record.mtu(bus.max_frame());
    if mtu > carried {
        bail!(
            "{} cannot have an MTU of {mtu}: {} carries {carried}; a larger bus carries {}: create \
             it with --size 4M",
            record.name,
            bus.path().display(),
            MAX_BIG_FRAME - MIN_FRAME,
        );
    }
    Ok(())
}

/// Makes the settings, all or none.
///
/// # Errors
/// When the interface does not exist, a setting is wrong, or the process that runs the interface
/// does not follow.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let settings = KeyValue::parse_all(&args.settings).misuse()?;
    apply::change(&context.registry()?, &[args.interface], |record| {
        let name = record.name;
        let is_live = |setting: &KeyValue| Impairments::is_key(&setting.key);
        let is_unknown = |setting: &KeyValue| record.clone().apply(setting).is_err();
        let down = settings.iter().find(|setting| !is_live(setting) && !is_unknown(setting));
        if let Some(KeyValue { key, .. }) = down.filter(|_| record.up && record.port().is_some()) {
            return Err(misuse(anyhow!(
                "{name} is up: take it down before changing its {key}, with 'busctl down {name}'"
            )));
        }
        settings.iter().try_for_each(|setting| record.apply(setting)).misuse()?;
        record.check().misuse()?;
        check_mtu(record).misuse()?;
        settings.iter().filter_map(|setting| record.warning(setting)).for_each(output::warn);
        Ok(())
    })
}
