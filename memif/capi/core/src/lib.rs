//! What the two C libraries share: `libmemif` 4.0 (crate `memif-capi`) and 3.1 (crate
//! `memif-capi3`).
//!
//! Both are thin: they turn C arguments into calls of this crate, which does the work with the crate
//! `memif`. A handle is a number and no address: one that has outlived its object is recognized, and
//! its call returns [`Code::NoConn`]. No panic leaves a call ([`guard`]).
//!
//! | module | holds |
//! |---|---|
//! | `abi`, `code` | C's types and error numbers |
//! | `allocator` | memory from the program's own functions |
//! | `slots` | the queues of all interfaces, found by handle without a lock that is shared |
//! | `queues` | the data path |
//! | `context` | descriptors to watch, the connection timer, and who watches: the program or the library |
//! | `socket`, `interface` | the control path |
//! | `details` | `memif_get_details` |
//!
//! # Threads
//! Any thread may make any call. Each queue has a lock of its own: two threads that use one queue
//! take turns. Callbacks run on the thread that makes the call, and without any lock held, but for
//! those of external regions.

pub mod abi;
mod allocator;
mod code;
mod context;
mod details;
mod ends;
mod external;
mod guard;
mod interface;
pub mod queues;
mod registry;
mod slots;
mod socket;

pub use allocator::Allocator;
pub use code::{Code, message};
pub use context::{Api, Context, FdUpdate, event_ready};
pub use details::details;
pub use external::ExternalRegions;
pub use guard::guard;
pub use interface::{Callbacks, queue_event_fd, set_rx_mode, socket_of};
pub use socket::{SharedExternal, Socket, connect, create, delete, request_connection};
