//! A /proc that is masked.
