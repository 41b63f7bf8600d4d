//! Cgroups that are not the caller's, and controllers that are missing.
