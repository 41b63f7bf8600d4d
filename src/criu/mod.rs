//! criu, which writes a container's processes to image files and makes them anew from those: how it is spoken to.
//!
//! It is a program of its own, and there are three ways to it. The *library* (libcriu) starts the program and speaks
//! to it, and would be a thing more to link with. The *command line* suffices for processes that nobody else has a
//! part in. A container's are not such: their network namespace has to be furnished after it is made and before
//! anything runs in it, somebody has to be given the master of the terminal, and who restores is to be the parent of
//! what is restored. For that the command line has `--action-script`, a program that would have to be a second copy of
//! us and to find its way back to the first, and for a terminal it has nothing. So it is the third way, which
//! `runc` goes as well: `criu swrk FD`, a worker for one request, with a socket to whoever started it.
//!
//! ```text
//!   bryo ------------- fork, exec: criu swrk FD ------------> worker
//!     | <--- one end of the line ------------------------------- |
//!     | ---- VERSION ------------------------------------------> |   old ones are refused
//!     | <--- major, minor -------------------------------------- |
//!     | ---- DUMP | SINGLE_PRE_DUMP | RESTORE, options --------> |   opens our directories by /proc/PID/fd
//!     | <--- NOTIFY network-lock, setup-namespaces (pid), ... -- |   waits; may come with a descriptor
//!     | ---- NOTIFY success ------------------------------------>|
//!     | <--- success | errno, message -------------------------- |
//!                                                               ends
//! ```
//!
//! Messages are protocol buffers, of which [`wire`] knows two kinds of fields: nothing of these messages needs
//! more, and a compiler for their description would be larger than all of this.
//!
//! The worker of a restore works in a mount namespace of its own, where the container's root file system is a mount
//! of its own, as criu wants it. So nothing of it is ever seen on the host, or left there, whoever is killed when. There
//! is a catch: criu opens the directories by the /proc of whoever has made the line (SO_PEERCRED), and mounts
//! something in one of them. A directory that was opened in our mount namespace would not let it (EINVAL). So it is the
//! worker's process itself that makes the line and opens the directories, just before it becomes criu.

mod images;
mod listen;
mod log;
mod message;
mod wire;
mod worker;

pub use images::Images;
pub use message::{CgroupMode, Features, Options};
pub use worker::{Listener, Moment, Task, Worker};
