//! Docker Swarm.

pub mod convert;
mod raw;
