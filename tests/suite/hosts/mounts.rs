//! Mounts that are refused or not quite as asked for.
