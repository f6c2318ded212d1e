//! A TAP interface of the kernel as a port: the kernel's own stack, and all it routes and bridges,
//! on a bus.
//!
//! With `offload=on` each frame has a virtio-net header. The kernel then sends frames without
//! checksums, and TCP in super-frames of up to 64 KiB (GSO), which the station segments on their
//! way to the ring: one copy, and one system call for some 45 frames. In the other direction the
//! station verifies the checksums, and the port hands runs of TCP segments to the kernel as one
//! super-frame (GRO), because a TAP spends most of its time in one system call a frame.
//!
//! The port is up while the interface is up. The descriptor is writable exactly then.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod gro;
mod kernel_mtu;
mod rx_batch;
mod spec;

use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use memif::RxMode;
use netif::{Interfaces, NetifError};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use shmbus::offload::{Capabilities, TxRequest, Verdict};
use shmbus::{Burst, MAX_FRAME, SendError, Station, Stats};
use tapdev::header::{self, Header};
use tapdev::{Form, TapDevice};

use self::gro::{Run, Segment};
use self::kernel_mtu::KernelMtu;
use self::rx_batch::{RxBatch, Unusable};
pub use self::spec::{Namespace, TapSpec};
use crate::error::PortError;
use crate::port::{Moved, NotSent, Port};

/// The most frames taken from the bus in one call: the segments of three super-frames.
const EGRESS_BURST: usize = 135;

/// One TAP interface as a port.
pub struct TapPort {
    name: String,
    /// `None` once the interface was deleted.
    tap: Option<TapDevice>,
    up: bool,
    /// Whether the state of the interface has changed since the last service.
    changed: bool,
    /// Readable when the interface has a frame or, while it is down, when it was set up.
    epoll: Epoll,
    /// The offloads that the station does for the kernel.
    capabilities: Capabilities,
    rx_batch: RxBatch,
    /// The longest frame that the bus carries.
    longest: usize,
    /// The MTU of the interface, if the port sets it.
    mtu: Option<KernelMtu>,
    /// Frames that were [taken](Port::take) and could not be used, until they are counted.
    unusable: Unusable,
    burst: Burst,
}

/// Opens the port that `spec` describes, and makes the interface unless it exists.
///
/// # Errors
/// [`PortError`] when the interface cannot be opened or set up, or its network namespace cannot be
/// entered.
pub fn open(spec: &TapSpec) -> Result<TapPort, PortError> {
    let form = if spec.offload { Form::Virtio } else { Form::Plain };
    let (tap, interfaces) = match &spec.namespace {
        None => make(spec, form)?,
        Some(namespace) => namespace.open()?.run(|| make(spec, form))??,
    };
    let mut port = serve(tap, format!("tap {}", spec.name), form)?;
    port.mtu = Some(KernelMtu::new(interfaces, spec.name.clone()));
    Ok(port)
}

/// Opens the interface in the network namespace of this thread, and sets it up.
fn make(spec: &TapSpec, form: Form) -> Result<(TapDevice, Interfaces), PortError> {
    let name = &spec.name;
    let tap = TapDevice::open(name, form)?;
    if let Some(mac) = spec.mac {
        tap.set_mac(mac.into_array()).map_err(|source| PortError::TapAddress {
            name: name.clone(),
            mac,
            source,
        })?;
    }
    let mut interfaces = Interfaces::open()?;
    for address in &spec.addresses {
        match interfaces.add_address(name, *address) {
            // An interface that persists keeps its addresses.
            Err(NetifError::Refused { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
    }
    if spec.up {
        interfaces.set_up(name)?;
    }
    Ok((tap, interfaces))
}

/// Makes a port of a TAP interface that is open in this form, here or in another network namespace.
/// `name` is the port's.
///
/// # Errors
/// When the system has no descriptor left.
pub fn serve(tap: TapDevice, name: String, form: Form) -> Result<TapPort, PortError> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .and_then(|epoll| epoll.add(&tap, interest(false)).map(|()| epoll))
        .map_err(|error| PortError::system(format!("cannot watch {}", tap.name()), error))?;
    let offload = form == Form::Virtio;
    Ok(TapPort {
        name,
        tap: Some(tap),
        up: false,
        changed: false,
        epoll,
        capabilities: if offload { Capabilities::ALL } else { Capabilities::NONE },
        rx_batch: RxBatch::new(form),
        longest: MAX_FRAME,
        mtu: None,
        unusable: Unusable::default(),
        burst: Burst::new(EGRESS_BURST),
    })
}

/// Returns the event to wait for: a frame, or the interface being set up.
fn interest(up: bool) -> EpollEvent {
    EpollEvent::new(if up { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT }, 0)
}

/// Returns whether the interface is up, or `None` when it was deleted.
fn state(tap: &TapDevice) -> Option<bool> {
    let mut asked = [PollFd::new(tap.as_fd(), PollFlags::POLLOUT)];
    // Without a timeout it is not interrupted. If it fails, the next call finds the state.
    let _ = poll(&mut asked, PollTimeout::ZERO);
    let events = asked[0].revents().unwrap_or(PollFlags::empty());
    (!events.intersects(PollFlags::POLLERR)).then_some(events.contains(PollFlags::POLLOUT))
}

impl TapPort {
    fn set_up(&mut self, up: bool) {
        let Some(tap) = &self.tap else { return };
        if up == self.up {
            return;
        }
        tracing::info!(port = self.name, up, "link state");
        if let Err(error) = self.epoll.modify(tap, &mut interest(up)) {
            tracing::warn!(port = self.name, %error, "cannot be watched, so it is polled now and then");
        }
        if !up {
            // Frames that the kernel has queued are out of date by the time the interface is set up
            // again.
            self.rx_batch.drain(tap);
        }
        self.up = up;
    }
}

/// Returns frames that are of no use as dropped ones.
fn dropped(unusable: Unusable) -> Moved {
    Moved {
        dropped: unusable.too_long + unusable.others,
        too_long: unusable.too_long,
        tagged: unusable.tagged,
        ..Moved::default()
    }
}

impl Port for TapPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        self.up
    }

    fn wants_service(&self) -> bool {
        let Some(tap) = &self.tap else { return false };
        self.changed
            || !self.up && state(tap) != Some(false)
            || self.mtu.as_ref().is_some_and(KernelMtu::has_report)
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.changed = false;
        if let Some(line) = self.mtu.as_mut().and_then(KernelMtu::take_report) {
            report(&format!("{}: {line}", self.name));
        }
        let Some(tap) = &self.tap else { return };
        if let Some(up) = state(tap) {
            self.set_up(up);
        } else {
            (self.tap, self.up) = (None, false);
        }
    }

    fn closed(&self) -> Option<String> {
        self.tap.is_none().then(|| "the interface was deleted".to_owned())
    }

    fn attach(&mut self, station: &mut Station) {
        self.longest = station.max_frame();
        if let Some(mtu) = &mut self.mtu {
            mtu.follow(station);
        }
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let Some(tap) = &self.tap else { return Ok(Moved::default()) };
        let unusable = self.rx_batch.fill(tap, self.longest);
        let lost = dropped(unusable.plus(std::mem::take(&mut self.unusable)));
        if self.rx_batch.is_empty() {
            // No event says that the interface was set down or deleted.
            self.changed |= state(tap) != Some(true);
            return Ok(lost);
        }
        station.set_capabilities(self.capabilities);
        let before = station.stats();
        let sent = station.send_offload_burst(self.rx_batch.requests());
        let moved = lost.plus(sent_since(&before, &station.stats()));
        match sent {
            Ok(_sent) => Ok(moved),
            Err(SendError::Offload { source, .. }) => {
                tracing::debug!(port = self.name, %source, "frame dropped");
                Ok(moved)
            }
            Err(source) => Err(NotSent { moved, source }),
        }
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let Some(tap) = &self.tap else { return Moved::default() };
        self.burst.clear();
        if station.recv_into(&mut self.burst, EGRESS_BURST) == 0 {
            return Moved::default();
        }
        let mut kernel = Kernel { tap, moved: Moved::default(), down: false };
        if self.capabilities == Capabilities::NONE {
            for frame in &self.burst {
                kernel.receive(&[IoSlice::new(frame.bytes)], 1);
            }
        } else {
            station.set_capabilities(self.capabilities);
            kernel.receive_verified(&self.burst, station);
        }
        let Kernel { moved, down, .. } = kernel;
        self.changed |= down;
        moved
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        let Some(tap) = &self.tap else { return false };
        let mut kernel = Kernel { tap, moved: Moved::default(), down: false };
        if self.capabilities == Capabilities::NONE {
            kernel.receive(&[IoSlice::new(frame)], 1);
        } else {
            kernel.receive_one(frame, false);
        }
        kernel.moved.frames > 0
    }

    /// The kernel drops what it has no room for.
    fn put_burst<'f>(&mut self, frames: &mut dyn Iterator<Item = &'f [u8]>) -> usize {
        frames
            .map(|frame| {
                self.put(frame);
            })
            .count()
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        let Some(tap) = &self.tap else { return 0 };
        let unusable = self.rx_batch.fill(tap, self.longest);
        self.unusable = std::mem::take(&mut self.unusable).plus(unusable);
        if self.rx_batch.is_empty() {
            self.changed |= state(tap) != Some(true);
        }
        self.rx_batch.requests().map(frame).count()
    }

    fn dropped(&mut self) -> Moved {
        dropped(std::mem::take(&mut self.unusable))
    }

    fn rx_mode(&self) -> RxMode {
        RxMode::Adaptive
    }

    fn arm(&mut self) -> bool {
        // The descriptor stays readable while there are frames.
        false
    }

    fn disarm(&mut self) {}

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.epoll.0.as_fd());
    }
}

/// Returns what became of the frames of a burst, by the station's counters before and after it.
fn sent_since(before: &Stats, after: &Stats) -> Moved {
    let taken = |stats: &Stats| stats.tx_packets + stats.tx_link_down;
    let dropped = |stats: &Stats| stats.tx_refused + stats.tx_offload_refused + stats.tx_busy;
    let difference =
        |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
    Moved {
        frames: difference(taken(after), taken(before)),
        dropped: difference(dropped(after), dropped(before)),
        ..Moved::default()
    }
}

/// The kernel's end of a TAP interface.
struct Kernel<'t> {
    tap: &'t TapDevice,
    moved: Moved,
    down: bool,
}

impl Kernel<'_> {
    /// Hands frames to the kernel, marked with what the station verified, and runs of TCP segments
    /// as one super-frame.
    fn receive_verified(&mut self, frames: &Burst, station: &Station) {
        let mut run: Option<Run<'_>> = None;
        for frame in frames {
            let verdict = station.verify(frame.bytes);
            let segment = Some(frame.bytes)
                .filter(|_| verdict.l4 == Verdict::Good && !verdict.is_bad())
                .and_then(Segment::parse);
            if let (Some(run), Some(segment)) = (&mut run, &segment)
                && run.append(segment)
            {
                continue;
            }
            if let Some(run) = run.take() {
                self.receive_run(&run);
            }
            match segment {
                Some(segment) => run = Some(Run::new(segment)),
                None => {
                    self.receive_one(frame.bytes, verdict.l4 == Verdict::Good && !verdict.is_bad());
                }
            }
        }
        if let Some(run) = run {
            self.receive_run(&run);
        }
    }

    fn receive_run(&mut self, run: &Run<'_>) {
        if run.segments() == 1 {
            return self.receive_one(run.first(), true);
        }
        run.with_frame(|header, parts| {
            let mut slices = [IoSlice::new(&[]); gro::MAX_SEGMENTS + 2];
            let header = header.to_bytes();
            slices[0] = IoSlice::new(&header);
            for (slice, part) in slices[1..].iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            self.receive(&slices[..=parts.len()], run.segments());
        });
    }

    fn receive_one(&mut self, frame: &[u8], good: bool) {
        let flags = if good { header::DATA_VALID } else { 0 };
        let header = Header { flags, ..Header::default() }.to_bytes();
        self.receive(&[IoSlice::new(&header), IoSlice::new(frame)], 1);
    }

    /// Hands the parts of one packet to the kernel. It stands for `frames` frames of the bus.
    fn receive(&mut self, parts: &[IoSlice<'_>], frames: usize) {
        let written = if self.down {
            Err(io::ErrorKind::NetworkDown.into())
        } else {
            self.tap.write_vectored(parts)
        };
        match written {
            Ok(_) => self.moved.frames += frames,
            Err(error) => {
                // The interface is down or deleted; the next service finds which. Otherwise the
                // kernel rejects the frame, or is short of memory.
                self.down |= matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADFD));
                self.moved.dropped += frames;
            }
        }
    }
}
