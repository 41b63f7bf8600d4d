//! What linux.resources means for cgroup v2: files to write, and properties of a systemd unit.
