//! The end of init: hooks, filter, program.

use super::process::{self, Program};
use super::{Failed, Orders, at, process_failure, run_hook};
use crate::sync::{Act, Channel, Place};
use crate::sys::process::{Strings, exec, restore_signals};
use crate::sys::stub::Stub;
use std::ffi::CString;
use std::os::fd::AsFd;

/// Runs the program; comes back only to say why not.
pub fn run(orders: &Orders<'_>, program: &Program, caller: &Channel) -> Failed {
    match prepare(orders, program, caller) {
        Err(failed) => failed,
        Ok((env, stub)) => {
            let env = env.as_ref().unwrap_or(&orders.process.env);
            let args = &orders.process.args;
            at(
                Place::Exec,
                match stub {
                    Some(stub) => stub.exec(&program.path, args, env),
                    None => exec(&program.path, args, env),
                },
            )
        }
    }
}

/// Everything before the exec. Returns the environment where it is not the plan's, and the stub where our own
/// binary has to be kept from the container.
fn prepare(
    orders: &Orders<'_>,
    program: &Program,
    caller: &Channel,
) -> Result<(Option<Strings>, Option<Stub>), Failed> {
    for (n, hook) in (0u16..).zip(orders.start_container) {
        run_hook(hook, orders.created).map_err(|trouble| Failed {
            place: Place::StartHook(n),
            errno: trouble.errno,
            detail: trouble.detail,
        })?;
    }
    // Before the filter, which may not allow what this takes.
    let env = program.home.as_ref().map(|home| {
        let mut env: Vec<CString> = orders.process.env.iter().map(Into::into).collect();
        let home = [b"HOME=", home.to_bytes()].concat();
        // Neither part can hold a zero byte: both were C strings.
        env.extend(CString::new(home));
        Strings::new(env)
    });
    let failure = process_failure;
    let stub = if orders.guard_binary {
        let first_free = 3 + orders.process.preserved_fds as i32;
        Some(Stub::new(caller.as_fd(), first_free).map_err(failure(Act::Stub))?)
    } else {
        None
    };
    restore_signals(&orders.signals).map_err(failure(Act::Signals))?;
    process::finish(orders, stub.as_ref())?;
    Ok((env, stub))
}
