//! The integration suite: one binary, a module for each verb or topic.
//!
//! The runtime under test is `RUNTIME` (a path, or a name in the search path), else the bryo that cargo has
//! just built. A test counts as a test of compatibility once runc passes it too; what is bryo's own opens
//! with `bryo_only!` and says why. The root file systems come from `scripts/rootfs`, and where one is missing
//! its tests fail and say how to make it.
//!
//! Tests are sentences, and each leaves the machine as it found it: see [`lab::Lab`].

// An unexpected None or Err is a failed test, and its line is the best message that there is.
#![allow(clippy::unwrap_used)]

mod attributes;
#[path = "../shared/runtime.rs"]
mod runtime;

mod bundle;
mod cgroup;
mod checkpoint;
mod cli;
mod conformance;
mod console;
mod criu;
mod debian;
mod degrade;
mod doctor;
mod events;
mod exec;
mod explain;
mod faults;
mod features;
mod fire;
mod hooks;
mod hosts;
mod idmapped;
mod input;
mod lab;
mod lifecycle;
mod mounts;
mod namespaces;
mod net_devices;
mod network;
mod nocgroup;
mod notify;
mod pidfd;
mod process;
mod pty;
mod readme;
mod rootfs;
mod rootful;
mod roots;
mod run;
mod seccomp;
mod security;
mod spec;
mod stress;
mod unshare;
