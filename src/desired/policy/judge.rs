//! One thing that a manifest asks for, and whether the rules allow it.

use super::{Images, Pattern, Rules};
use crate::model::{ImageRef, PlatformKind};

/// One thing that a manifest asks for, as it takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// An app or device of this uuid.
    Uuid(String),
    /// An image.
    Image(String),
    /// A network to join.
    Network(String),
    /// Something of an NFS server.
    Nfs {
        /// The server.
        server: String,
        /// The path on it.
        path: String,
    },
    /// A folder of the host.
    HostPath(String),
    /// Where storage appears in the container.
    MountPoint(String),
    /// A placement constraint in normal form.
    Constraint(String),
    /// All placement constraints of a service, in normal form.
    Constraints(Vec<String>),
    /// A name below the base domain, in the router's form.
    Host(String),
    /// A port that is published.
    Port(u16),
    /// A variable of this name in the environment.
    Variable(String),
    /// Replicas of an app.
    Replicas(u64),
    /// A limit of CPUs in billionths, 0 and none for no limit.
    CpuLimit(Option<i64>),
    /// A limit of memory in bytes, 0 and none for no limit.
    MemoryLimit(Option<i64>),
    /// CPUs that a node must have free, in billionths.
    CpuReservation(i64),
    /// Memory that a node must have free, in bytes.
    MemoryReservation(i64),
    /// A limit of open files.
    OpenFiles(i64),
    /// To be used on a platform.
    Platform(PlatformKind),
    /// A setting of `x-ofop`.
    Handling(String),
}

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong; quotes nothing of the manifest.
    pub message: String,
    /// What would be allowed.
    pub hint: String,
    /// What is asked for, to be quoted where it may be.
    pub asked: Option<String>,
}

impl Rules {
    /// Whether the rules allow something.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, ask: &Ask) -> Result<(), Violation> {
        match ask {
            Ask::Uuid(uuid) => {
                self.one_of(&self.uuids, &uuid.to_lowercase(), uuid, "no app and no device of this uuid")
            }
            Ask::Image(image) => self.image(image),
            Ask::Network(name) => self.one_of(&self.networks, name, name, "no such network"),
            Ask::Nfs { server, path } => self.nfs(server, path),
            Ask::HostPath(path) => self.path(&self.host_paths, path, "no such folder of the host"),
            Ask::MountPoint(path) => self.path(&self.mount_points, path, "no storage there in a container"),
            Ask::Constraint(constraint) => {
                self.one_of(&self.constraints, constraint, constraint, "no such placement constraint")
            }
            Ask::Constraints(given) => match self.required_constraints.iter().find(|wanted| !given.contains(wanted)) {
                Some(wanted) => Err(Violation {
                    message: format!("the policy wants the placement constraint `{wanted}` {}", self.here()),
                    hint: format!("add `{wanted}` to `deploy.placement.constraints`"),
                    asked: None,
                }),
                None => Ok(()),
            },
            Ask::Host(name) => self.one_of(&self.hosts, name, name, "no app to be exposed under such a name"),
            Ask::Port(port) => match self.ports.iter().any(|range| range.contains(port)) {
                true => Ok(()),
                false => {
                    let ranges = self.ports.iter().map(|range| match range.start() == range.end() {
                        true => range.start().to_string(),
                        false => format!("{}-{}", range.start(), range.end()),
                    });
                    Err(self.refusal("no such port to be published", Some(port.to_string()), ranges))
                }
            },
            Ask::Variable(name) => self.one_of(&self.environment, name, name, "no environment variable of this name"),
            Ask::Replicas(number) => self.most(*number, self.maximum.replicas, "replicas", |most| most.to_string()),
            Ask::CpuLimit(limit) => self.limit(*limit, self.maximum.nano_cpus, "CPUs", "cpus", cpus),
            Ask::MemoryLimit(limit) => self.limit(*limit, self.maximum.memory_bytes, "memory", "memory", memory),
            Ask::CpuReservation(nano) => self.most(*nano, self.maximum.nano_cpus, "CPUs", cpus),
            Ask::MemoryReservation(bytes) => self.most(*bytes, self.maximum.memory_bytes, "memory", memory),
            Ask::OpenFiles(number) => {
                self.most(*number, self.maximum.open_files, "open files", |most| most.to_string())
            }
            Ask::Platform(platform) => match &self.platforms {
                Some(allowed) if !allowed.contains(platform) => {
                    let allowed = allowed.iter().map(|platform| platform.as_str().to_owned());
                    Err(self.refusal("no manifests for this platform", Some(platform.as_str().to_owned()), allowed))
                }
                Some(_) | None => Ok(()),
            },
            Ask::Handling(name) => match self.x_ofop.contains(name) {
                true => Ok(()),
                false => {
                    Err(self.refusal("no such setting of `x-ofop`", Some(name.clone()), self.x_ofop.iter().cloned()))
                }
            },
        }
    }

    fn here(&self) -> String {
        if self.folder == "." { "here".to_owned() } else { format!("in `{}`", self.folder) }
    }

    fn refusal(&self, what: &str, asked: Option<String>, allowed: impl Iterator<Item = String>) -> Violation {
        let allowed = allowed.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let hint = match allowed.is_empty() {
            true => format!("it allows none {}; the policy is the operator's to change", self.here()),
            false => format!("it allows {allowed}; the policy is the operator's to change"),
        };
        Violation { message: format!("the policy allows {what} {}", self.here()), hint, asked }
    }

    fn one_of(&self, allowed: &[Pattern], text: &str, asked: &str, what: &str) -> Result<(), Violation> {
        match allowed.iter().any(|pattern| pattern.fits(text)) {
            true => Ok(()),
            false => Err(self.refusal(what, Some(asked.to_owned()), written(allowed))),
        }
    }

    fn path(&self, allowed: &[Pattern], path: &str, what: &str) -> Result<(), Violation> {
        match plain(path).is_some_and(|plain| allowed.iter().any(|pattern| pattern.holds(&plain))) {
            true => Ok(()),
            false => Err(self.refusal(what, Some(path.to_owned()), written(allowed))),
        }
    }

    fn nfs(&self, server: &str, path: &str) -> Result<(), Violation> {
        let name = server.to_ascii_lowercase();
        let plain = plain(path);
        let allows = |path: &str| self.nfs.iter().any(|share| share.server.fits(&name) && share.path.holds(path));
        match plain.is_some_and(|path| allows(&path)) {
            true => Ok(()),
            false => {
                let allowed = self.nfs.iter().map(|share| format!("{}:{}", share.server.as_str(), share.path.as_str()));
                Err(self.refusal("no such path of an NFS server", Some(format!("{server}:{path}")), allowed))
            }
        }
    }

    fn image(&self, text: &str) -> Result<(), Violation> {
        let Images { allow, digest_required, forbidden_tags } = &self.images;
        let asked = Some(text.to_owned());
        // The id of an image, which names no registry.
        let Ok(image) = ImageRef::parse(text) else {
            return Err(self.refusal("no image whose registry is not named", asked, written(allow)));
        };
        let name = format!("{}/{}", image.registry(), image.repository());
        if !allow.iter().any(|pattern| pattern.fits(&name)) {
            return Err(self.refusal("no such image", asked, written(allow)));
        }
        if image.digest().is_some() {
            return Ok(());
        }
        if *digest_required {
            return Err(Violation {
                message: format!("the policy allows no image without its digest {}", self.here()),
                hint: "write it with its digest, such as `NAME:TAG@sha256:…`, as `docker buildx imagetools inspect \
                       NAME:TAG` shows it"
                    .into(),
                asked,
            });
        }
        let tag = image.tag().unwrap_or("latest");
        if forbidden_tags.iter().any(|pattern| pattern.fits(tag)) {
            return Err(Violation {
                message: format!("the policy forbids this tag of an image {}", self.here()),
                hint: "write another tag than `latest`, which is meant where none is written, or the digest".to_owned(),
                asked,
            });
        }
        Ok(())
    }

    fn most<T: PartialOrd>(
        &self,
        number: T,
        most: Option<T>,
        what: &str,
        show: impl Fn(&T) -> String,
    ) -> Result<(), Violation> {
        match most {
            Some(most) if number > most => Err(Violation {
                message: format!("more {what} than the policy allows {}", self.here()),
                hint: format!("it allows at most {}; the policy is the operator's to change", show(&most)),
                asked: Some(show(&number)),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// As [`Rules::most`]; no limit is more than any maximum.
    fn limit(
        &self,
        limit: Option<i64>,
        most: Option<i64>,
        what: &str,
        field: &str,
        show: fn(&i64) -> String,
    ) -> Result<(), Violation> {
        match (limit.filter(|limit| *limit > 0), most) {
            (Some(limit), most) => self.most(limit, most, what, show),
            (None, Some(most)) => Err(Violation {
                message: format!("the policy wants a limit of {what} {}", self.here()),
                hint: format!("write `deploy.resources.limits.{field}`, at most {}", show(&most)),
                asked: None,
            }),
            (None, None) => Ok(()),
        }
    }
}

fn written(allowed: &[Pattern]) -> impl Iterator<Item = String> {
    allowed.iter().map(|pattern| pattern.as_str().to_owned())
}

/// An absolute path without `.` and doubled slashes; none for one that holds `..`, which leads elsewhere on a server.
fn plain(path: &str) -> Option<String> {
    let parts = path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty() && *part != ".");
    let mut plain = String::new();
    for part in parts {
        if part == ".." {
            return None;
        }
        plain.push('/');
        plain.push_str(part);
    }
    Some(if plain.is_empty() { "/".into() } else { plain })
}

/// Billionths of a CPU as people write them.
fn cpus(nano: &i64) -> String {
    let (whole, rest) = (nano / 1_000_000_000, nano % 1_000_000_000);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Bytes as people write them.
fn memory(bytes: &i64) -> String {
    for (unit, size) in [("Gi", 1 << 30), ("Mi", 1 << 20), ("k", 1 << 10)] {
        if bytes % size == 0 && *bytes > 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}
