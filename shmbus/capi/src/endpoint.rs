//! A station or a tap behind one handle.

use std::ffi::c_int;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use shmbus::{Bus, FrameSink, Station, Stats, Tap, WaitError};

use crate::failure::{Code, Failure};

/// What a handle leads to.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Station(Box<Station>),
    Tap(Box<Tap>),
}

/// Calls a method that stations and taps both have.
macro_rules! both {
    ($endpoint:expr, $either:ident => $call:expr) => {
        match $endpoint {
            Endpoint::Station($either) => $call,
            Endpoint::Tap($either) => $call,
        }
    };
}

impl Endpoint {
    /// Returns the station.
    ///
    /// # Errors
    /// When it is a tap.
    #[inline]
    pub(crate) fn station(&mut self) -> Result<&mut Station, Failure> {
        match self {
            Self::Station(station) => Ok(station),
            Self::Tap(_) => Err(only_stations()),
        }
    }

    pub(crate) fn bus(&self) -> &Bus {
        both!(self, either => either.bus())
    }

    pub(crate) fn stats(&self) -> Stats {
        both!(self, either => either.stats())
    }

    /// Fills `sink` with frames, at most `max`; returns how many.
    ///
    /// # Errors
    /// When there are none any more, because the bus is gone.
    #[inline]
    pub(crate) fn recv(&mut self, sink: &mut impl FrameSink, max: usize) -> Result<usize, Failure> {
        let received = both!(self, either => either.recv_into(sink, max));
        if received == 0 && self.bus().is_lost() {
            let path = self.bus().path().to_owned();
            return Err(WaitError::Lost { path }.into());
        }
        Ok(received)
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Failure> {
        Ok(both!(self, either => either.wait(timeout))?)
    }

    pub(crate) fn arm(&mut self) -> Result<bool, Failure> {
        Ok(both!(self, either => either.arm())?)
    }

    pub(crate) fn disarm(&mut self) {
        both!(self, either => either.disarm());
    }

    /// Returns the descriptor to poll; it is made when it is first asked for.
    ///
    /// # Errors
    /// When none is available, or the bus is gone.
    pub(crate) fn descriptor(&mut self) -> Result<c_int, Failure> {
        if self.existing_descriptor().is_none() {
            self.arm()?;
            self.disarm();
        }
        self.existing_descriptor().ok_or_else(|| {
            Failure::new(Code::System, "the system has no descriptor left for this handle")
        })
    }

    fn existing_descriptor(&self) -> Option<c_int> {
        both!(self, either => either.poll_fd()).map(|descriptor| descriptor.as_raw_fd())
    }
}

#[cold]
fn only_stations() -> Failure {
    Failure::new(Code::Tap, "a tap only receives; join the bus as a station for that")
}
