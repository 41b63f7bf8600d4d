//! bpf(2): loading a program and attaching it to a cgroup.
