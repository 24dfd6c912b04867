//! Planning through its front door: cases by name, then properties over random worlds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod attempts;
mod cases;
mod contest;
mod edges;
mod evidence;
mod gentle;
mod holds;
mod ignore;
mod incremental;
mod kept;
mod notes;
mod owners;
mod ownership;
mod properties;
mod rendering;
mod rollout;
mod taken_down;
mod verdict;
mod world;
