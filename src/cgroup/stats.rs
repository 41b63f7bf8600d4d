//! What a cgroup has used, in the shape that runc prints.
