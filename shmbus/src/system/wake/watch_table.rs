//! Which stations sleep on which file. Each file is watched once, however many stations sleep on
//! it.
//!
//! A station that may sleep is a *waiter*. It is armed for a sleep, and disarmed when the file is
//! written: then every armed waiter on that file is woken, and the watch is gone. So one instance
//! serves any number of waiters, and none depends on what the owner of another does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// Tells open files apart: two with the same id share a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The numbers of the device and of the file on it.
    pub(crate) fn numbers(self) -> [u64; 2] {
        [self.device, self.inode]
    }
}

/// Reports writes to files: inotify, or a model of it.
pub(crate) trait Notify {
    /// What can be watched.
    type File: ?Sized;
    /// A watch. Each new one differs from all before.
    type Watch: Copy + Eq + Debug;

    /// Watches a file until its first write. A file has one watch, however often this is called.
    fn watch(&self, file: &Self::File) -> io::Result<Self::Watch>;

    /// Ends a watch, if it has not ended.
    fn unwatch(&self, watch: Self::Watch);

    /// Hands over the events, without waiting: the watches that have ended, and more. `None`: some
    /// events were lost.
    fn drain(&self, each: &mut dyn FnMut(Option<Self::Watch>));

    /// Sleeps until there is an event, for `time` at most. It may end early.
    fn sleep(&self, time: Duration) -> io::Result<()>;
}

/// Names a waiter in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterId(usize);

#[derive(Debug)]
struct Waiter<T> {
    file: FileId,
    owner: T,
    armed: bool,
}

#[derive(Debug)]
struct WatchedFile<W> {
    /// There is one while a waiter is armed, unless no watch was available.
    watch: Option<W>,
    waiters: Vec<WaiterId>,
    armed: usize,
}

/// The waiters of one instance. `T` is what the owner of a waiter is known by.
#[derive(Debug)]
pub(crate) struct WatchTable<W, T> {
    waiters: Vec<Option<Waiter<T>>>,
    files: BTreeMap<FileId, WatchedFile<W>>,
    armed: usize,
}

impl<W: Copy + Eq + Debug, T> WatchTable<W, T> {
    pub(crate) fn new() -> Self {
        Self { waiters: Vec::new(), files: BTreeMap::new(), armed: 0 }
    }

    /// Adds a waiter for a file. Its id is valid until [`leave`](Self::leave).
    pub(crate) fn join(&mut self, file: FileId, owner: T) -> WaiterId {
        let free = self.waiters.iter().position(Option::is_none).unwrap_or_else(|| {
            self.waiters.push(None);
            self.waiters.len() - 1
        });
        self.waiters[free] = Some(Waiter { file, owner, armed: false });
        let watched = self.files.entry(file).or_insert_with(|| WatchedFile {
            watch: None,
            waiters: Vec::new(),
            armed: 0,
        });
        watched.waiters.push(WaiterId(free));
        WaiterId(free)
    }

    pub(crate) fn leave(&mut self, notify: &impl Notify<Watch = W>, id: WaiterId) {
        self.disarm(notify, id);
        if let Some(left) = self.waiters[id.0].take()
            && let Some(watched) = self.files.get_mut(&left.file)
        {
            watched.waiters.retain(|other| *other != id);
            if watched.waiters.is_empty() {
                self.files.remove(&left.file);
            }
        }
    }

    pub(crate) fn is_armed(&self, id: WaiterId) -> bool {
        self.waiters[id.0].as_ref().is_some_and(|waiter| waiter.armed)
    }

    /// The owner of an armed waiter, if there is one.
    pub(crate) fn any_armed(&self) -> Option<&T> {
        self.waiters.iter().flatten().find(|waiter| waiter.armed).map(|waiter| &waiter.owner)
    }

    /// Whether no waiter is armed.
    pub(crate) fn is_idle(&self) -> bool {
        self.armed == 0
    }

    /// Watches the file for a waiter. The caller must look at the ring after this and before it
    /// sleeps.
    ///
    /// Perhaps the file was written before, and no waiter was woken yet. That event still wakes
    /// this waiter, because [`dispatch`](Self::dispatch) wakes those that are armed when it is
    /// called.
    pub(crate) fn arm<N: Notify<Watch = W>>(
        &mut self,
        notify: &N,
        id: WaiterId,
        file: &N::File,
    ) -> io::Result<()> {
        if let Some(waiter) = &self.waiters[id.0]
            && let Some(watched) = self.files.get_mut(&waiter.file)
            && watched.watch.is_none()
        {
            watched.watch = Some(notify.watch(file)?);
        }
        self.arm_unwatched(id);
        Ok(())
    }

    /// As [`arm`](Self::arm), but without a watch: only [`wake_all`](Self::wake_all) wakes it, or
    /// an event for another waiter on the file.
    pub(crate) fn arm_unwatched(&mut self, id: WaiterId) {
        if let Some(waiter) = &mut self.waiters[id.0]
            && let Some(watched) = self.files.get_mut(&waiter.file)
            && !waiter.armed
        {
            waiter.armed = true;
            watched.armed += 1;
            self.armed += 1;
        }
    }

    pub(crate) fn disarm(&mut self, notify: &impl Notify<Watch = W>, id: WaiterId) {
        let Some(waiter) = &mut self.waiters[id.0] else { return };
        let Some(watched) = self.files.get_mut(&waiter.file) else { return };
        if !waiter.armed {
            return;
        }
        waiter.armed = false;
        watched.armed -= 1;
        self.armed -= 1;
        if watched.armed == 0
            && let Some(watch) = watched.watch.take()
        {
            notify.unwatch(watch);
        }
        self.discard_stale_events(notify);
    }

    /// Takes in the events, and calls `each` for the armed waiters whose file was written. They are
    /// disarmed.
    pub(crate) fn dispatch(&mut self, notify: &impl Notify<Watch = W>, mut each: impl FnMut(&T)) {
        let Self { waiters, files, armed } = self;
        let mut lost = false;
        notify.drain(&mut |watch| {
            lost |= watch.is_none();
            // A watch that is not found was ended by this table.
            if let Some(watched) =
                files.values_mut().find(|watched| watch.is_some() && watched.watch == watch)
            {
                watched.watch = None;
                *armed -= watched.armed;
                watched.wake(waiters, &mut each);
            }
        });
        if lost {
            self.wake_all(notify, each);
        }
    }

    /// Calls `each` for every armed waiter, and disarms it.
    pub(crate) fn wake_all(&mut self, notify: &impl Notify<Watch = W>, mut each: impl FnMut(&T)) {
        for watched in self.files.values_mut() {
            if let Some(watch) = watched.watch.take() {
                notify.unwatch(watch);
            }
            watched.wake(&mut self.waiters, &mut each);
        }
        self.armed = 0;
        self.discard_stale_events(notify);
    }

    /// While no waiter is armed, no event concerns any of them, and none may end the next sleep.
    fn discard_stale_events(&self, notify: &impl Notify<Watch = W>) {
        if self.is_idle() {
            notify.drain(&mut |_| {});
        }
    }
}

impl<W> WatchedFile<W> {
    fn wake<T>(&mut self, waiters: &mut [Option<Waiter<T>>], each: &mut impl FnMut(&T)) {
        for id in &self.waiters {
            if let Some(waiter) = &mut waiters[id.0]
                && waiter.armed
            {
                waiter.armed = false;
                each(&waiter.owner);
            }
        }
        self.armed = 0;
    }
}
