//! Ids that are not to be had.
