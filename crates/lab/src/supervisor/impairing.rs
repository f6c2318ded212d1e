//! What a LAN does to frames, as impairments of the interfaces on it.
//!
//! A frame suffers once on its way through a LAN: where it enters. So the words of a LAN without a
//! direction hold for what its interfaces bring onto it (`in.`). On a link whose other end cannot be
//! impaired, such as that of a rump kernel, the one interface does both directions.

use port::{ImpairHandle, Impairments, ParsePortError};

use crate::error::LabError;

/// The impairments of one interface on a LAN.
#[derive(Clone, Debug)]
pub(super) struct InterfaceImpairments {
    pub(super) handle: ImpairHandle,
    /// What the interface itself says, in place of the LAN.
    own: Option<Impairments>,
    /// Whether the other end of its link cannot be impaired.
    is_alone: bool,
    /// Its Ethernet address as a number. It makes its own seed of that of the LAN, the same each
    /// time that the lab is started.
    address: u64,
}

impl InterfaceImpairments {
    pub(super) fn new(
        own: Option<&str>,
        lan: &Impairments,
        is_alone: bool,
        mac: [u8; 6],
    ) -> Result<Self, LabError> {
        let own = own.map(parse).transpose()?;
        let address = mac.iter().fold(0, |address, byte| address << 8 | u64::from(*byte));
        let new = Self { handle: ImpairHandle::default(), own, is_alone, address };
        new.follow(lan);
        Ok(new)
    }

    /// Does what the LAN says, unless the interface says something else.
    pub(super) fn follow(&self, lan: &Impairments) {
        self.handle.set(match &self.own {
            Some(own) => own.clone(),
            None if self.is_alone => lan.clone().vary_seed(self.address),
            None => entering(lan).vary_seed(self.address),
        });
    }

    /// Changes what the interface does; the LAN no longer matters to it.
    pub(super) fn change(&mut self, change: &str) -> Result<(), LabError> {
        let mut own = self.handle.get();
        set(&mut own, change)?;
        self.handle.set(own.clone());
        self.own = Some(own);
        Ok(())
    }

    /// Does what its interface says in a new version of the plan, or what the LAN says.
    pub(super) fn replace(&mut self, own: Option<&str>, lan: &Impairments) -> Result<(), LabError> {
        self.own = own.map(parse).transpose()?;
        self.follow(lan);
        Ok(())
    }

    /// Continues with another port: that port has its own handle.
    pub(super) fn hand_over(&mut self, handle: ImpairHandle) {
        handle.set(self.handle.get());
        self.handle = handle;
    }
}

/// Reads words such as `delay=20ms,loss=1%`; an empty text is none.
pub(super) fn parse(text: &str) -> Result<Impairments, LabError> {
    if text.is_empty() {
        return Ok(Impairments::new());
    }
    text.parse().map_err(|error| refused(&error))
}

/// Changes impairments by words such as `delay=0,partition=on`.
pub(super) fn set(impairments: &mut Impairments, change: &str) -> Result<(), LabError> {
    let mut changed = impairments.clone();
    for pair in change.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        changed.set(key, value).map_err(|error| refused(&error))?;
    }
    changed.check().map_err(|error| refused(&error))?;
    *impairments = changed;
    Ok(())
}

fn refused(error: &ParsePortError) -> LabError {
    LabError::Refused(error.to_string())
}

/// Returns what an interface does for a LAN with these impairments.
fn entering(lan: &Impairments) -> Impairments {
    let text = lan.to_string();
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let has_way = ["in.", "out.", "seed="].iter().any(|begin| pair.starts_with(begin));
        // What follows a comma without a key is the rest of a list.
        if has_way || !pair.contains('=') { pair.to_owned() } else { format!("in.{pair}") }
    });
    let text: Vec<_> = pairs.collect();
    // It was read before, and each of its words may have a direction.
    parse(&text.join(",")).unwrap_or_else(|_| lan.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_suffers_where_it_enters() {
        let lan = parse("delay=20ms,loss=1%,seed=7").unwrap();
        assert_eq!(entering(&lan), parse("in.delay=20ms,in.loss=1%,seed=7").unwrap());
        let lan = parse("loss-state=1%,2%,3%,4%,5%").unwrap();
        assert_eq!(entering(&lan), parse("in.loss-state=1%,2%,3%,4%,5%").unwrap());
        assert!(entering(&Impairments::new()).is_none());
        let mut port = InterfaceImpairments::new(None, &lan, false, [0; 6]).unwrap();
        port.change("delay=5ms").unwrap();
        let all = parse("delay=5ms,in.loss-state=1%,2%,3%,4%,5%").unwrap();
        assert_eq!(port.handle.get(), all);
        // From now on the LAN no longer matters.
        port.follow(&Impairments::new());
        assert_eq!(port.handle.get(), all);
        // Both ends of a link have their own luck, the same each time.
        let seed = |mac| {
            let lan = parse("loss=1%,seed=7").unwrap();
            InterfaceImpairments::new(None, &lan, false, mac).unwrap().handle.get().seed
        };
        assert_eq!(seed([2, 0, 0, 0, 0, 1]), seed([2, 0, 0, 0, 0, 1]));
        assert_ne!(seed([2, 0, 0, 0, 0, 1]), seed([2, 0, 0, 0, 0, 2]));
        assert!(port.change("delya=5ms").unwrap_err().to_string().contains("delay"));
    }
}
