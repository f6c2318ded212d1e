//! Address learning (`learn=on`): a wrapper around any port that forwards to the peer only what the
//! peer needs, as a switch does. The port's station learns; its stations on one bus and in one
//! thread learn together.

use shmbus::Station;

use crate::forwarding::forward;
use crate::port::Port;

/// A port around a port whose peer receives only what it needs: frames to itself, to groups, and to
/// unknown addresses.
///
/// The wrapper makes each station that the port is [attached](Port::attach) to
/// [learn](Station::set_learning), and forwards everything else.
#[derive(Debug)]
pub struct Learning<P> {
    port: P,
}

impl<P: Port> Learning<P> {
    /// Wraps `port`.
    #[must_use]
    pub fn new(port: P) -> Self {
        Self { port }
    }
}

impl<P: Port> Port for Learning<P> {
    /// The new station begins without addresses: it may be on another bus than the one before.
    fn attach(&mut self, station: &mut Station) {
        self.port.attach(station);
        station.set_learning(true);
    }

    forward! {
        name is_up link_state wants_service service refusals closed ingress egress put put_burst take
        dropped rx_mode arm disarm max_sleep first_poll due impair_handle remotes peer_details descriptors
    }
}

#[cfg(test)]
mod tests {
    use shmbus::{Bus, StationOptions};

    use super::*;
    use crate::recorder::Recorder;

    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0xc];

    fn frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
        [&destination[..], &source, &[0x88, 0xb5], &[0; 46]].concat()
    }

    #[test]
    fn the_station_learns() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let join = || {
            let bus = Bus::open_or_create(&path, 0o600).expect("a bus");
            Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined")
        };
        let (mut station, mut host) = (join(), join());
        let mut port = Learning::new(Recorder::new(&frame(HOST, PEER)));
        port.attach(&mut station);
        assert!(station.is_learning());
        assert_eq!(port.ingress(&mut station).expect("sent").frames, 1);
        // The station learns where OTHER is. Then the peer needs what is for itself, and not what is
        // for OTHER.
        host.send(&frame([0xff; 6], OTHER)).expect("sent");
        assert_eq!(port.egress(&mut station).frames, 1);
        for destination in [OTHER, PEER] {
            host.send(&frame(destination, HOST)).expect("sent");
        }
        assert_eq!(port.egress(&mut station).frames, 1);
    }
}
