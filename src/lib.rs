//! `ofop` keeps an OpenFactory cluster in the state that a directory (or git repository) of YAML describes.
//!
//! # Flow
//!
//! ```text
//!  source changed | Swarm event | registry change | timer | retry | a person      (a trigger says WHY, never WHAT)
//!         │
//!         ▼
//!      runner ── coalesces triggers; never two passes at once; a pass never waits for an apply
//!         │
//!         ├─ desired::Loader (Source::load ─► parse) ─► compile ─► Desired ─┐
//!         │                                                                ├─► plan(desired, observed, policy, memory) ─► Plan     pure
//!         └─ Platform::observe + Registry::observe ─► Observed ─────────────┘        │
//!                                                                                   ▼
//!                                               executor ── one task per resource, bounded in number; steps in order
//!                                                                                   │
//!                          status + metrics + events  ◄── Outcome ──────────────────┴──► a trigger for the next pass
//! ```
//!
//! Everything between `load` and the executor is a pure function of values. Whatever decides lives in
//! [`plan`]; whatever acts lives behind the [`platform::Platform`] and [`registry::Registry`] seams; the
//! executor only walks steps. The daemon, `ofop plan` and `ofop apply` share the same code and differ only
//! in what they do with the plan.
//!
//! # Reading order
//!
//! The front doors, in this order, take about an hour: this page, [`model`], [`desired`], [`compile`],
//! [`plan`], [`platform`], [`registry`], [`reconcile`], [`report`].
//!
//! # Who may import what
//!
//! | module | may use | never |
//! |---|---|---|
//! | `model` | std, serde, thiserror | an async runtime, an engine client, logging |
//! | `desired` (parsing), `compile`, `plan`, `registry/messages`, `platform/*/convert`, `reconcile/backoff`, `reconcile/lease/machine` | `model` and front doors before them in the flow | async, clocks, I/O |
//! | `desired` (sources), `platform`, `registry` | `model` | `plan`, `reconcile`, one another |
//! | `render` | `model`, `registry/messages`, `platform/*/body` | anything else of ours |
//! | `reconcile` | `desired`, `compile`, `plan`, the seams, `report`, `model` | `cli`, `http`, a concrete adapter |
//! | `report`, `config` | `model` | anything else of ours |
//! | `notify` | `report`, `desired` (reading of files), `config` (secrets), `model` | the rest |
//! | `http` | `report`, `model` | the rest |
//! | `clock`, `elements`, `lock` | std | anything of ours; everybody may use them |
//! | `cli` | everything | – |

pub mod cli;
pub mod clock;
pub mod compile;
pub mod config;
pub mod desired;
mod elements;
pub mod http;
mod lock;
pub mod model;
pub mod notify;
pub mod plan;
pub mod platform;
pub mod reconcile;
pub mod registry;
pub mod render;
pub mod report;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
