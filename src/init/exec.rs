//! The end of init: hooks, filter, program.

use super::process::{self, Program};
use super::{Failed, Orders, at, process_failure, run_hook};
use crate::plan::hooks::Hook;
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
    let inherited = env.as_ref().unwrap_or(&orders.process.env);
    let hooks = (!orders.start_container.is_empty()).then_some(|| start_hooks(orders, inherited));
    process::finish(orders, stub.as_ref(), hooks)?;
    Ok((env, stub))
}

/// Runs the hooks of the container's start. One that names no environment gets that of the process, as it always has
/// of runc.
fn start_hooks(orders: &Orders<'_>, inherited: &Strings) -> Result<(), Failed> {
    for (n, hook) in (0u16..).zip(orders.start_container) {
        let failed = |trouble: super::Trouble| Failed {
            place: Place::StartHook(n),
            errno: trouble.errno,
            detail: trouble.detail,
        };
        if hook.env.is_some() {
            run_hook(hook, orders.created, orders.hook_streams).map_err(failed)?;
        } else {
            let env = Some(pairs(inherited));
            run_hook(&Hook { env, ..hook.clone() }, orders.created, orders.hook_streams).map_err(failed)?;
        }
    }
    Ok(())
}

fn pairs(env: &Strings) -> Vec<(String, String)> {
    let text = env.iter().map(|entry| entry.to_string_lossy().into_owned());
    text.filter_map(|entry| entry.split_once('=').map(|(name, value)| (name.into(), value.into()))).collect()
}
