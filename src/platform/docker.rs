//! Plain containers on one host.

pub mod body;
