//! Starting again from a copy of our own binary that nobody can write to, where a stub is not enough: see
//! [`crate::sys::stub`].
//!
//! It has to happen before anything else does, since nothing but the arguments, the environment and the descriptors
//! of our caller gets over.

use crate::report::{Failure, errno_text};
use crate::sys::{self, Errno, fds, stub};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

/// Executes the copy with all that our caller gave us, of descriptors those that are `passed_on` to the container.
/// Returns only to say why not.
pub fn start_again(passed_on: u32, signals: &SigSet, container: &str) -> Failure {
    match execute(passed_on, signals) {
        Ok(never) => match never {},
        Err(errno) => Failure::new(
            format!("cannot keep bryo's own binary from container {container}"),
            format!("it cannot be started from a sealed copy: {}", errno_text(errno)),
        )
        .code("EXE-GUARD")
        .fix(format!(
            "install bryo as a file that the container's ids do not own, or have linux.seccomp allow {}",
            stub::CALLS.join(", ")
        )),
    }
}

fn execute(passed_on: u32, signals: &SigSet) -> sys::Result<std::convert::Infallible> {
    let copy = stub::own_copy()?;
    let args = arguments()?;
    // None can hold a zero byte: we got them as C strings.
    let variable = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec()).ok()
    };
    let env: Vec<CString> = std::env::vars_os().filter_map(variable).collect();
    for fd in (3..).take(passed_on as usize) {
        fds::set_cloexec(fd, false)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(signals), None)?;
    nix::unistd::fexecve(copy, &args, &env).map_err(|errno: Errno| errno)
}

/// As the kernel has them: std knows them with glibc only.
fn arguments() -> sys::Result<Vec<CString>> {
    let text = std::fs::read("/proc/self/cmdline").map_err(fds::io_errno)?;
    Ok(text
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|arg| CString::from_vec_with_nul(arg.into()).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_those_that_the_kernel_has() {
        let known: Vec<_> = std::env::args().map(|arg| CString::new(arg).unwrap()).collect();
        assert_eq!(arguments().unwrap(), known);
    }
}
