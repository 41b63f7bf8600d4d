//! bryo, a rootless-first OCI container runtime.
//!
//! Facts are read, a plan is decided, the plan is executed, the result is recorded. Nothing flows back.
//!
//! ```text
//! cli -> verbs -+- bundle          what was asked      (config.json, typed and checked)
//!               +- host            what is true        (facts, read by probing)
//!               +- plan            what will be done   (pure: no I/O, no clock, no environment)
//!               +- launch <-> init do it               (parent <-> child, talking by `sync`)
//!               +- state           what happened       (the record and its degradations)
//! image = what a bundle is made from: images, archives, directories; and the store of their layers
//! cgroup = what is done to a cgroup that exists, and systemd, which makes some; dbus = how systemd is spoken to
//! doctor = what this host lets the caller do, found by rehearsing it
//! codes = what a warning or a refusal is called; report = how it reads
//! criu = how the program is spoken to that dumps and restores processes
//! sys = the system calls, and the only `unsafe`, below everything
//! ```
//!
//! Rooms are stages, files are topics, and a topic keeps its name in every room: `idmap` is known by host,
//! decided by plan and written by launch.

#![cfg_attr(not(test), no_main)]

mod bundle;
mod cgroup;
mod cli;
mod codes;
mod criu;
mod dbus;
mod doctor;
mod features;
mod host;
mod image;
mod init;
mod launch;
mod plan;
mod report;
mod seccomp;
mod spec;
mod state;
mod sync;
#[allow(unsafe_code)]
mod sys;
#[cfg(test)]
mod testing;
mod verbs;

use std::ffi::OsString;

/// musl's own allocator asks the kernel for each size of block, and half of what a short life costs is the first
/// touch of a page.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The program, from its arguments to its exit code; called by [`sys`], which has the entry point.
pub fn bryo(args: Vec<OsString>) -> u8 {
    match cli::parse(&args) {
        Ok(cli::Call::Print(text)) => verbs::print(&text),
        Ok(cli::Call::Verb(global, verb)) => verbs::call(&global, verb),
        Err(line) => verbs::misused(&args, &line),
    }
}
