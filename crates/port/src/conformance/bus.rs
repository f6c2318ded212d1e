//! `bus:` ports. The peer is a station on another, larger bus; its death is that of its bus.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use shmbus::{Burst, BusOptions, Station, StationOptions};

use super::{Cable, Peer, conforms, here};

struct Other {
    path: PathBuf,
    station: Station,
    burst: Burst,
}

impl Peer for Other {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.station.send(frame).is_ok()
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        while self.station.recv_burst(&mut self.burst) > 0 {
            frames.extend(self.burst.iter().map(|frame| frame.bytes.to_vec()));
        }
    }

    fn vanish(&mut self) {
        let file = OpenOptions::new().write(true).open(&self.path).expect("the bus");
        file.set_len(0).expect("cut short");
    }

    fn come_back(&mut self) -> bool {
        false
    }
}

fn kind(folder: &Path) -> Cable {
    let path = folder.join("other.bus");
    let bus = BusOptions::new().size(4 << 20).open_or_create(&path).expect("a bus");
    let station = Station::join(bus, StationOptions::new().promiscuous(true)).expect("joined");
    let other = Other { path: path.clone(), station, burst: Burst::new(512) };
    (format!("bus:{}", path.display()), Box::new(|| Box::new(other)))
}

conforms!(kind, here);
