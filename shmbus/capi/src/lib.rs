//! `libshmbus`: the buses of [`shmbus`], for programs in C.
//!
//! `include/shmbus.h` is the documentation for its users, and the contract that every function here
//! keeps. In C a first program is this; `examples/reflector.c` is a whole one:
//!
//! ```c
//! shmbus_t *bus;
//! if (shmbus_join("/dev/shm/lan", NULL, &bus) < 0)
//!     errx(1, "%s", shmbus_last_error());
//! shmbus_send(bus, frame, sizeof frame);
//! ```
//!
//! - `handles`: what a C program holds is a number, and never an address. So a call with a
//!   closed or made-up handle is an error, and reads no memory.
//! - `failure`: codes, `errno`, and the line that says what to do.
//! - `endpoint`: a station or a tap behind one handle.
//! - `frames`, `options`, `stats`: the structures of the header.
//! - `calls`: the exported functions. Each checks its pointers, and none lets a panic out.
//!
//! Frames go between the caller's buffers and the ring in one copy. A send or receive that succeeds
//! allocates nothing.

mod calls;
mod endpoint;
mod failure;
mod frames;
mod handles;
mod options;
mod stats;

pub use calls::describe::{shmbus_mac, shmbus_max_frame, shmbus_set_promiscuous, shmbus_stats};
pub use calls::library::{
    shmbus_last_error, shmbus_strerror, shmbus_survive_truncation, shmbus_version,
};
pub use calls::open::{shmbus_close, shmbus_join, shmbus_shmif_create, shmbus_tap};
pub use calls::sleep::{shmbus_arm, shmbus_disarm, shmbus_fd, shmbus_wait};
pub use calls::transfer::{
    shmbus_flush, shmbus_recv, shmbus_recv_burst, shmbus_send, shmbus_send_burst,
};
pub use failure::Code;
pub use frames::Frame;
pub use handles::Handle;
pub use options::Options;
pub use stats::Stats;
