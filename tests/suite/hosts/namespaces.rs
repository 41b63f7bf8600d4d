//! Namespaces that are forbidden, by one of four causes of the same errno.
