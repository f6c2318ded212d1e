//! `libvdeplug_shmif.so`: programs that speak VDE on a bus in shared memory.
//!
//! `libvdeplug` is the library by which QEMU, `vde_plug`, `vdens`, `VirtualBox` and others join a
//! virtual Ethernet. It loads a plug-in for each kind of network, by the scheme of a URL. This one
//! is for `shmif://`:
//!
//! ```text
//! export VDEPLUGIN_PATH=target/release:/usr/lib/x86_64-linux-gnu/vdeplug
//! vde_plug shmif:///dev/shm/lan tap://tap0
//! qemu-system-x86_64 ... -netdev vde,id=n0,sock=shmif:///dev/shm/lan -device virtio-net-pci,netdev=n0
//! vdens shmif:///dev/shm/lan
//! ```
//!
//! A bus is made if there is none. Options follow the path in brackets, as in VDE's other plug-ins
//! for paths: `shmif:///dev/shm/lan[size=16M/mode=0660]`. `url` has the list.
//!
//! What goes wrong is a line on stderr, because VDE has only `errno` for it.
//!
//! # How it is built
//!
//! - `abi`: the structures that are shared with `libvdeplug`.
//! - `url`: the path and its options.
//! - `plug`: a station, the frames read ahead, and the descriptors that a program polls.
//! - `receiver`: the thread that sleeps for the program.
//! - `ops`: the functions that `libvdeplug` calls.

mod abi;
mod ops;
mod plug;
mod receiver;
mod report;
mod url;

pub use abi::{Connection, Module, OpenArgs};
pub use ops::MODULE;
