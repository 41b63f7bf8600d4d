//! Device rules as a BPF program for the cgroup of a container that root has made.
