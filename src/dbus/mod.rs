//! A small blocking D-Bus client: one connection, one call at a time, a deadline for each.
//!
//! It knows nothing of containers. Why not a library: those that are kept well start threads, which forbids the
//! clone that makes a container; the small blocking one (rustbus 0.19) names itself by the uid of its own user
//! namespace, which the bus refuses, and cannot be told otherwise.
#![allow(dead_code)] // until it is used
