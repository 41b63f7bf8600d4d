//! The acceptance suite: container engines as they are installed, with bryo as their runtime.
//!
//! The runtime under test is `RUNTIME` (a path, or a name in the search path), else the bryo that cargo has
//! just built; crun and runc pass the same suite, which is what makes it one of compatibility. An engine knows
//! bryo by the configuration that `scripts/engines` writes, and by nothing else.
//!
//! Everything here needs an engine, cgroup v2 and systemd, so nothing runs by `cargo test` alone: `scripts/test`
//! runs it in a guest that has them, once as a plain user and once as root. Most cases are the same for both;
//! the modules `rootless` and `rootful` hold those that are not. What no runtime can do in that guest, or not
//! this runtime, is said by [`lab::not_here`], and counted as such.
//!
//! An engine has one place with one image for the whole suite ([`lab::Place`]), as importing an image and
//! starting a daemon takes longer than most cases.

// An unexpected None or Err is a failed test, and its line is the best message that there is.
#![allow(clippy::unwrap_used)]

#[path = "../shared/runtime.rs"]
mod runtime;

mod buildah;
mod containerd;
mod docker;
mod lab;
mod podman;
mod readme;
