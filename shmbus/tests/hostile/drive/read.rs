//! Readers on a bus of arbitrary bytes, while another process scribbles on it: between their looks,
//! or all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use shmbus::{Burst, Bus, MIN_FRAME, Station, Tap};

use super::bus_file::BusFile;
use super::input::{Input, Recipe};
use super::invariants::{BURST, check_text, make_joinable, sound, still_works};
use super::script::{self, Step};

/// How often a vandal repeats itself.
const ROUNDS: usize = 50;

pub(crate) fn read(bytes: &[u8]) {
    shmbus::survive_truncation().expect("a handler");
    let recipe = Recipe::read(&mut Input::new(bytes));
    let mut rest = Input::new(&recipe.script);
    let at_once = rest.u8() % 2 == 1;
    let steps = script::read(&mut rest);
    let file = BusFile::new(&recipe.bake());
    let readers = Readers::open(&file);

    if let Some(mut readers) = readers {
        if at_once {
            readers.beside(&steps, &file);
        } else {
            readers.between(&steps, &file);
        }
        if !steps.iter().any(Step::is_cut) {
            readers.find_their_way_back(&file);
        }
    }
}

struct Readers {
    station: Option<Station>,
    tap: Option<Tap>,
    burst: Burst,
}

impl Readers {
    /// Those that can be had on this file; `None` when it is no bus.
    fn open(file: &BusFile) -> Option<Self> {
        let bus = Bus::open_read_only(file.path()).inspect_err(|error| check_text(error)).ok()?;
        let tap = Tap::oldest(bus).inspect_err(|error| check_text(error)).ok();
        let station = file.station().inspect_err(|error| check_text(error)).ok();
        Some(Self { station, tap, burst: Burst::new(BURST) })
    }

    fn receive(&mut self) {
        if let Some(station) = &mut self.station {
            station.recv_burst(&mut self.burst);
            sound(&self.burst, station.bus(), MIN_FRAME);
            if let Err(error) = station.wait(Some(Duration::ZERO)) {
                check_text(&error);
            }
        }
        if let Some(tap) = &mut self.tap {
            tap.recv_burst(&mut self.burst);
            sound(&self.burst, tap.bus(), MIN_FRAME);
        }
    }

    fn between(&mut self, steps: &[Step<'_>], file: &BusFile) {
        for step in steps {
            step.vandalise(file);
            self.receive();
        }
    }

    fn beside(&mut self, steps: &[Step<'_>], file: &BusFile) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    for step in steps {
                        step.vandalise(file);
                    }
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                self.receive();
            }
        });
        self.receive();
    }

    fn find_their_way_back(&mut self, file: &BusFile) {
        make_joinable(file);
        let mut sender = file.station().expect("a bus that can be joined");
        if let Some(station) = &mut self.station {
            still_works(&mut sender, &mut |burst| station.recv_burst(burst));
        }
        if let Some(tap) = &mut self.tap {
            still_works(&mut sender, &mut |burst| tap.recv_burst(burst));
        }
    }
}
