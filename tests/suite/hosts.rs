//! Hostile hosts: each lacks something, is made for the test, and is gone after it.
//!
//! What is asserted of each: a refusal is one line with its code and a way out, exit code 1, and nothing is left; a
//! degradation is one warning line with its code and a way out, and an entry of `degraded` in the state.

mod cgroups;
mod ids;
mod mounts;
mod namespaces;
mod nested;
mod network;
mod proc;
mod process;
mod state;
