//! bryo, a rootless-first OCI container runtime.

// not called yet: the launch wires it
#[allow(dead_code)]
mod seccomp;

fn main() {}
