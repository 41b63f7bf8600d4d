//! Networks and ports that are not to be had.
