//! `busctl create`: makes an interface.

use std::io::Write as _;

use anyhow::anyhow;

use crate::context::Context;
use crate::exit::{OrMisuse as _, misuse};
use crate::output;
use crate::registry::{InterfaceName, KeyValue, Kind, Shmif};

/// The variable from which a rump kernel's interfaces, too, take their first offload flags.
const CAPENABLE_VARIABLE: &str = "RUMP_SHMIF_CAPENABLE";

/// Make an interface and print its name
///
/// Without a unit it gets the lowest free one. It has a random MAC address (b2:a0:...), is down, and has no bus.
#[derive(Debug, clap::Args)]
#[command(after_help = "The first offload flags are those in $RUMP_SHMIF_CAPENABLE, if it is set.\n\n\
                        Examples:\n  \
                        busctl create\n  \
                        busctl create shmif7\n  \
                        busctl create shmif mac=02:00:00:00:00:01 capenable=tcp4csum,tso4")]
pub struct Args {
    /// shmif, or a name such as shmif0; then settings, as 'busctl set' takes them
    #[arg(value_name = "NAME|KEY=VALUE")]
    pub words: Vec<String>,
}

/// Makes the interface.
///
/// # Errors
/// When the name is taken or of a kind that cannot be made, or a setting is wrong.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let (name, settings) = match args.words.split_first() {
        Some((first, rest)) if !first.contains('=') => (parse_name(first)?, rest),
        _ => (None, args.words.as_slice()),
    };
    let mut shmif = Shmif::default();
    if let Some(flags) = std::env::var_os(CAPENABLE_VARIABLE) {
        let flags = flags.to_string_lossy();
        shmif.capenable = flags.parse().map_err(|error| misuse(anyhow!("${CAPENABLE_VARIABLE}: {error}")))?;
    }
    for setting in settings {
        let setting: KeyValue = setting.parse().misuse()?;
        shmif.apply(&setting).misuse()?;
    }
    let record = context.registry()?.edit()?.create_shmif(name, shmif)?;
    writeln!(output::stdout(), "{}", record.name)?;
    Ok(())
}

/// None is the lowest free unit.
fn parse_name(word: &str) -> anyhow::Result<Option<InterfaceName>> {
    if word == Kind::Shmif.word() {
        return Ok(None);
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
    match word.parse::<InterfaceName>() {
        Ok(name @ InterfaceName::Shmif(_)) => Ok(Some(name)),
        Ok(InterfaceName::Memif { .. } | InterfaceName::Tap(_)) => Err(only_shmif(word)),
        Err(_) if kind.is_some() => Err(only_shmif(word)),
        Err(error) => Err(misuse(error)),
    }
}

fn only_shmif(word: &str) -> anyhow::Error {
    misuse(anyhow!(
        "cannot create {word}: only shmif interfaces are kept; 'busctl attach' joins other ports to a bus"
    ))
}
