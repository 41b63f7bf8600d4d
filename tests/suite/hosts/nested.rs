//! Inside of other containers.
