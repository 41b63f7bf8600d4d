//! A container's cgroup (cgroup v2): placing, limiting, freezing, killing, counting.
#![allow(dead_code)] // until it is used

pub mod devices;
pub mod stats;
pub mod systemd;
