//! Who sleeps on which file: each file is watched once, however many sleep on it.
//!
//! Whoever may sleep has a *seat*. It is armed for a sleep, and no longer when the file was written: then everybody with an
//! armed seat on that file is told, and the watch is gone. So one instance serves any number of seats, and none depends on
//! what the owner of another does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use super::FileId;

/// What tells of writes to files: inotify, or a model of it.
pub(crate) trait Notify {
    /// What can be watched.
    type File: ?Sized;
    /// A watch. None is like one that was before.
    type Watch: Copy + Eq + Debug;

    /// Watches a file until it is written for the first time. A file has one watch, however often this is called.
    fn watch(&self, file: &Self::File) -> io::Result<Self::Watch>;

    /// Ends a watch, if it has not ended.
    fn unwatch(&self, watch: Self::Watch);

    /// Hands over what happened, without waiting: the watches that have ended, and more. `None`: some of it was lost.
    fn told(&self, each: &mut dyn FnMut(Option<Self::Watch>));

    /// Sleeps until there is something to hand over, for a time at most. It may end early.
    fn sleep(&self, time: Duration) -> io::Result<()>;
}

/// Names a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatId(usize);

#[derive(Debug)]
struct Seat<T> {
    file: FileId,
    whose: T,
    armed: bool,
}

#[derive(Debug)]
struct Watched<W> {
    /// While somebody sleeps on the file, unless no watch was to be had.
    watch: Option<W>,
    seats: Vec<SeatId>,
    armed: usize,
}

/// The seats of one instance. `T` says whose they are.
#[derive(Debug)]
pub(crate) struct Watches<W, T> {
    seats: Vec<Option<Seat<T>>>,
    files: BTreeMap<FileId, Watched<W>>,
    armed: usize,
}

impl<W: Copy + Eq + Debug, T> Watches<W, T> {
    pub(crate) fn new() -> Self {
        Self { seats: Vec::new(), files: BTreeMap::new(), armed: 0 }
    }

    /// Gives a seat to somebody who will sleep on a file. It is valid until [`leave`](Self::leave).
    pub(crate) fn join(&mut self, file: FileId, whose: T) -> SeatId {
        let free = self.seats.iter().position(Option::is_none).unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        self.seats[free] = Some(Seat { file, whose, armed: false });
        let watched =
            self.files.entry(file).or_insert_with(|| Watched { watch: None, seats: Vec::new(), armed: 0 });
        watched.seats.push(SeatId(free));
        SeatId(free)
    }

    pub(crate) fn leave(&mut self, notify: &impl Notify<Watch = W>, seat: SeatId) {
        self.disarm(notify, seat);
        if let Some(left) = self.seats[seat.0].take()
            && let Some(watched) = self.files.get_mut(&left.file)
        {
            watched.seats.retain(|other| *other != seat);
            if watched.seats.is_empty() {
                self.files.remove(&left.file);
            }
        }
    }

    pub(crate) fn is_armed(&self, seat: SeatId) -> bool {
        self.seats[seat.0].as_ref().is_some_and(|seat| seat.armed)
    }

    /// Whoever it is that has an armed seat.
    pub(crate) fn any_armed(&self) -> Option<&T> {
        self.seats.iter().flatten().find(|seat| seat.armed).map(|seat| &seat.whose)
    }

    /// Whether somebody sleeps.
    pub(crate) fn is_idle(&self) -> bool {
        self.armed == 0
    }

    /// Watches the file for a seat. The caller must look at the ring after this and before it sleeps.
    ///
    /// The file may have been written already, with nobody having been told yet: then that will still wake this seat,
    /// because [`told`](Self::told) goes by who is armed when it is called.
    pub(crate) fn arm<N: Notify<Watch = W>>(
        &mut self,
        notify: &N,
        seat: SeatId,
        file: &N::File,
    ) -> io::Result<()> {
        if let Some(seat) = &self.seats[seat.0]
            && let Some(watched) = self.files.get_mut(&seat.file)
            && watched.watch.is_none()
        {
            watched.watch = Some(notify.watch(file)?);
        }
        self.arm_unwatched(seat);
        Ok(())
    }

    /// As [`arm`](Self::arm), but only [`wake`](Self::wake) wakes it, or what wakes others on the file.
    pub(crate) fn arm_unwatched(&mut self, seat: SeatId) {
        if let Some(seat) = &mut self.seats[seat.0]
            && let Some(watched) = self.files.get_mut(&seat.file)
            && !seat.armed
        {
            seat.armed = true;
            watched.armed += 1;
            self.armed += 1;
        }
    }

    pub(crate) fn disarm(&mut self, notify: &impl Notify<Watch = W>, seat: SeatId) {
        let Some(seat) = &mut self.seats[seat.0] else { return };
        let Some(watched) = self.files.get_mut(&seat.file) else { return };
        if !seat.armed {
            return;
        }
        seat.armed = false;
        watched.armed -= 1;
        self.armed -= 1;
        if watched.armed == 0
            && let Some(watch) = watched.watch.take()
        {
            notify.unwatch(watch);
        }
        self.forget_old_news(notify);
    }

    /// Takes in what happened, and calls `each` for those whose file was written. They are armed no longer.
    pub(crate) fn told(&mut self, notify: &impl Notify<Watch = W>, mut each: impl FnMut(&T)) {
        let Self { seats, files, armed } = self;
        let mut lost = false;
        notify.told(&mut |watch| {
            lost |= watch.is_none();
            // One that is not found has ended by our own doing.
            if let Some(watched) =
                files.values_mut().find(|watched| watch.is_some() && watched.watch == watch)
            {
                watched.watch = None;
                *armed -= watched.armed;
                watched.wake(seats, &mut each);
            }
        });
        if lost {
            self.wake(notify, each);
        }
    }

    /// Calls `each` for everybody who is armed, and disarms them.
    pub(crate) fn wake(&mut self, notify: &impl Notify<Watch = W>, mut each: impl FnMut(&T)) {
        for watched in self.files.values_mut() {
            if let Some(watch) = watched.watch.take() {
                notify.unwatch(watch);
            }
            watched.wake(&mut self.seats, &mut each);
        }
        self.armed = 0;
        self.forget_old_news(notify);
    }

    /// While nobody is armed, nothing that happened is news to anybody, and it must not wake the next wait set.
    fn forget_old_news(&self, notify: &impl Notify<Watch = W>) {
        if self.is_idle() {
            notify.told(&mut |_| {});
        }
    }
}

impl<W> Watched<W> {
    fn wake<T>(&mut self, seats: &mut [Option<Seat<T>>], each: &mut impl FnMut(&T)) {
        for id in &self.seats {
            if let Some(seat) = &mut seats[id.0]
                && seat.armed
            {
                seat.armed = false;
                each(&seat.whose);
            }
        }
        self.armed = 0;
    }
}
