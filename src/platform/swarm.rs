//! Docker Swarm.

pub mod body;
pub mod convert;
mod raw;
