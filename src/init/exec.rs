//! The end of init: hooks, filter, program.

use super::process::{self, Program};
use super::{Failed, Orders, at, process_failure, run_hook};
use crate::sync::{Act, Place};
use crate::sys::process::{Strings, exec, restore_signals};
use std::ffi::CString;

/// Runs the program; comes back only to say why not.
pub fn run(orders: &Orders<'_>, program: &Program) -> Failed {
    match prepare(orders, program) {
        Err(failed) => failed,
        Ok(env) => {
            let env = env.as_ref().unwrap_or(&orders.process.env);
            at(Place::Exec, exec(&program.path, &orders.process.args, env))
        }
    }
}

/// Everything before the exec. Returns the environment where it is not the plan's.
fn prepare(orders: &Orders<'_>, program: &Program) -> Result<Option<Strings>, Failed> {
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
    restore_signals(&orders.signals).map_err(process_failure(Act::Signals))?;
    process::finish(orders)?;
    Ok(env)
}
