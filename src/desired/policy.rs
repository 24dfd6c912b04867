//! What the operator allows the manifests of each folder to ask for.
//!
//! # Flow
//!
//! ```text
//! policy file ─► Policy ─┐  the rules of the folder that a manifest lies in
//! manifest ─► checked entries ─► Ask, Ask, … ─► Rules::judge ─► located errors of that manifest
//! ```
//!
//! # Invariants
//!
//! - The policy is the operator's own file. Nothing in a manifest or in the source changes it.
//! - A list that is not given allows nothing; a maximum that is not given is none. A folder's rules are its own values,
//!   and those of `defaults` where it has none.
//! - Of all folders that a manifest lies in, the innermost one counts, and no other.
//! - Pure: the same manifest and the same policy yield the same problems.
//! - What a manifest asks for is judged as it takes effect: image references with Docker's defaults filled in, paths
//!   without `..`, constraints in their normal form, names of hosts as the router gets them.

mod asked;
mod judge;
mod pattern;
mod read;
mod shapes;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub(super) use self::asked::{check_app, check_device, check_file, check_handling};
pub use self::judge::{Ask, Violation};
pub use self::pattern::Pattern;
use crate::model::PlatformKind;

/// The rules of every folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// By the folder's path below the source's root; empty for the root itself.
    folders: BTreeMap<String, Arc<Rules>>,
}

/// What the manifests of a folder may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The folder, as people write it: `.` for the root of the source.
    pub folder: String,
    /// Uuids of apps and devices, without regard to case.
    pub uuids: Vec<Pattern>,
    /// Images of apps and adapters.
    pub images: Images,
    /// Networks that apps join.
    pub networks: Vec<Pattern>,
    /// NFS servers, each with what of it may be mounted.
    pub nfs: Vec<Share>,
    /// Folders of the host that may be mounted, with what lies below them.
    pub host_paths: Vec<Pattern>,
    /// Where storage may appear in a container, and below.
    pub mount_points: Vec<Pattern>,
    /// Placement constraints that may be used.
    pub constraints: Vec<Pattern>,
    /// Placement constraints that each service must have, in normal form.
    pub required_constraints: Vec<String>,
    /// Names of exposed apps below the base domain.
    pub hosts: Vec<Pattern>,
    /// Ports that agents may publish.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Names of environment variables.
    pub environment: Vec<Pattern>,
    /// The most of everything that can be counted.
    pub maximum: Maximum,
    /// On which platforms the folder may be used; all when not given.
    pub platforms: Option<Vec<PlatformKind>>,
    /// Settings of `x-ofop` that may be used.
    pub x_ofop: Vec<String>,
}

/// Which images may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Images {
    /// `REGISTRY/REPOSITORY`, without tag and digest.
    pub allow: Vec<Pattern>,
    /// An image must be named by its digest.
    pub digest_required: bool,
    /// Tags that an image without a digest may not have.
    pub forbidden_tags: Vec<Pattern>,
}

/// Something of an NFS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The server, as manifests name it.
    pub server: Pattern,
    /// The path, with what lies below.
    pub path: Pattern,
}

/// The most of everything that can be counted; none for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maximum {
    /// Of one app.
    pub replicas: Option<u64>,
    /// Of each task, in billionths; a limit must be named then.
    pub nano_cpus: Option<i64>,
    /// Of each task, in bytes; a limit must be named then.
    pub memory_bytes: Option<i64>,
    /// Of each task.
    pub open_files: Option<i64>,
}

impl Policy {
    /// The rules for a manifest at a path below the source's root; none when no folder of the policy holds it.
    pub fn rules(&self, path: &str) -> Option<&Arc<Rules>> {
        // Where that leads is not for the text to say.
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let mut folder = path.trim_start_matches("./");
        while let Some((above, _)) = folder.rsplit_once('/') {
            if let Some(rules) = self.folders.get(above) {
                return Some(rules);
            }
            folder = above;
        }
        self.folders.get("")
    }

    /// Every folder with its rules.
    pub fn folders(&self) -> impl Iterator<Item = &Arc<Rules>> {
        self.folders.values()
    }
}
