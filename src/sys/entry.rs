//! The way into the program.
//!
//! Rust's own start-up reads /proc/self/maps for the bounds of the stack and makes a second stack to report an
//! overflow on: a fifth of the time that `bryo state` takes. Neither serves a program with one shallow thread,
//! so `main` is the C library's. What else the start-up does is done here.

use super::{Result, check, fds};
use std::ffi::{CStr, OsStr, OsString};
use std::os::raw::{c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// What the C library calls. The arguments go on as what they are: std::env finds them with glibc only, which
/// hands them to the initialisers, std's among them.
// SAFETY: the symbol is the one that crt1.o calls, once; nobody else defines or calls it.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // A hook that does not read its state is no reason to die (EPIPE is). Init gives this back.
    // SAFETY: the action runs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if open_standard().is_err() {
        return 1;
    }
    c_int::from(crate::bryo(arguments(argc, argv)))
}

fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    let argument = |n| {
        // SAFETY: argv has argc pointers to strings that end in a zero and live as long as the process.
        let text = unsafe { CStr::from_ptr(*argv.add(n)) };
        OsStr::from_bytes(text.to_bytes()).to_os_string()
    };
    (0..count).map(argument).collect()
}

/// Opens /dev/null in the place of every standard stream that our caller has closed. The next file that we open
/// would have its number otherwise: the container would get the directory of its own state for a standard
/// input, and its user would be given that directory.
fn open_standard() -> Result<()> {
    // A new descriptor has the lowest number that is free.
    while let Some(fd) = (0..3).find(|fd| !fds::is_open(*fd)) {
        // SAFETY: a C string and flags; the descriptor is kept open for good.
        check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
        debug_assert!(fds::is_open(fd));
    }
    Ok(())
}
