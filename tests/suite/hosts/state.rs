//! Directories for the state.
