//! Planning through its front door: cases by name, then properties over random worlds.

mod cases;
mod world;
