//! Images on disk: from layers to the tree that a container has as its root.

pub mod unpack;
