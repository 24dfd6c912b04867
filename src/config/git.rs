//! Where manifests come from: a directory, or a git repository and how it is reached.
//!
//! `--desired` and `--git` exclude each other, unless they come from different places: then the flag goes before the
//! environment and that before `.ofaenv`, as for any setting.
//!
//! Credentials come from files and variables alone. A password in the URL is taken from a variable, where a CI system
//! may have put it, and kept apart from the URL from then on; on the command line, which every user of the machine
//! can read, it is refused.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::values::{Reader, invalid};
use super::variables::{Found, From};
use super::{ConfigError, Secret, secret_file};

/// How often a repository is fetched unless told otherwise.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// How long a fetch may take unless told otherwise.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Fetching more often is a slip of the unit, and no server likes it.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Where manifests come from.
#[derive(Debug, Clone)]
pub enum Manifests {
    /// `--desired`.
    Directory(PathBuf),
    /// `--git`.
    Git(Box<Git>),
}

/// A git repository and how it is reached.
#[derive(Debug, Clone)]
pub struct Git {
    /// Without a password.
    pub url: String,
    /// `--git` was given on the command line.
    pub by_flag: bool,
    /// `--branch`: a branch or a tag; none for the default branch.
    pub branch: Option<String>,
    /// `--revision`: what a command looks at instead of the branch's newest commit.
    pub revision: Option<String>,
    /// A commit that the clone holds already is not asked for: for a command that changes nothing.
    pub from_clone: bool,
    /// `--path`: a folder in the repository, confined to it; empty for all of it.
    pub path: String,
    /// `--interval`.
    pub interval: Duration,
    /// `OFOP_GIT_TIMEOUT`: how long a fetch may take.
    pub timeout: Duration,
    /// `--verify-signatures`: the allowed-signers file.
    pub allowed_signers: Option<PathBuf>,
    /// `--revoked-signers`: the file of keys that no longer count.
    pub revoked_signers: Option<PathBuf>,
    /// `--signed-commits all`: each commit that is new must be signed.
    pub all_signed: bool,
    /// `--git-rewritten`.
    pub rewritten: Rewritten,
    /// `OFOP_GIT_USER`, or the user in the URL.
    pub user: Option<String>,
    /// `OFOP_GIT_TOKEN`, or the password in the URL.
    pub token: Option<Secret>,
    /// `OFOP_GIT_TOKEN_FILE`: read for each fetch.
    pub token_file: Option<PathBuf>,
    /// `OFOP_GIT_SSH_KEY`: file with the private key.
    pub ssh_key: Option<PathBuf>,
    /// `OFOP_GIT_SSH_PASSPHRASE`, or the content of `OFOP_GIT_SSH_PASSPHRASE_FILE`.
    pub ssh_passphrase: Option<Secret>,
    /// `OFOP_GIT_KNOWN_HOSTS`, else the user's own.
    pub known_hosts: Option<PathBuf>,
}

/// What a rewritten history means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// It is followed.
    Follow,
    /// The commit before stays in force.
    Refuse,
}

/// Flags that mean something with a repository alone.
const ONLY_WITH_GIT: [&str; 8] = [
    "--branch",
    "--path",
    "--interval",
    "--revision",
    "--verify-signatures",
    "--revoked-signers",
    "--signed-commits",
    "--git-rewritten",
];

impl Reader<'_> {
    pub(super) fn manifests(&self) -> Result<Option<Manifests>, ConfigError> {
        let desired = self.setting("--desired", "OFOP_DESIRED");
        let git = self.setting("--git", "OFOP_GIT_URL");
        let (desired, git) = match (desired, git) {
            (Some(desired), Some(git)) => match rank(&desired.from).cmp(&rank(&git.from)) {
                std::cmp::Ordering::Less => (Some(desired), None),
                std::cmp::Ordering::Greater => (None, Some(git)),
                std::cmp::Ordering::Equal => {
                    return Err(ConfigError::Exclusive {
                        one: desired.from,
                        other: git.from,
                        hint: "take the manifests from a directory or from a repository, not from both",
                    });
                }
            },
            other => other,
        };
        if let Some(git) = git {
            return Ok(Some(Manifests::Git(Box::new(self.git(&git)?))));
        }
        if let Some(flag) = ONLY_WITH_GIT.into_iter().find(|flag| self.flags.contains_key(flag)) {
            return Err(ConfigError::Missing {
                what: flag,
                missing: "--git",
                hint: "name the repository with --git URL or OFOP_GIT_URL; a directory has no such thing",
            });
        }
        Ok(desired.map(|found| Manifests::Directory(PathBuf::from(found.text))))
    }

    fn git(&self, found: &Found) -> Result<Git, ConfigError> {
        let address = address(found)?;
        let interval = self.duration("--interval", "OFOP_GIT_INTERVAL", DEFAULT_INTERVAL)?;
        if interval < SHORTEST_INTERVAL {
            let from = self.setting("--interval", "OFOP_GIT_INTERVAL").map_or(From::Flag("--interval"), |set| set.from);
            return Err(invalid(from, "is shorter than 1s", "write a time such as 30s or 5m; a webhook tells at once"));
        }
        let home = || Some(PathBuf::from(self.text("HOME")?).join(".ssh/known_hosts"));
        let name = |flag, variable| self.setting(flag, variable).map(|found| found.text.trim().to_owned());
        Ok(Git {
            url: address.url,
            by_flag: matches!(found.from, From::Flag(_)),
            branch: name("--branch", "OFOP_GIT_BRANCH"),
            revision: self.flags.get("--revision").map(|text| text.trim().to_owned()),
            from_clone: false,
            path: self.git_path()?,
            interval,
            timeout: self.duration("OFOP_GIT_TIMEOUT", "OFOP_GIT_TIMEOUT", DEFAULT_FETCH_TIMEOUT)?,
            allowed_signers: self.path("--verify-signatures", "OFOP_GIT_VERIFY_SIGNATURES"),
            revoked_signers: self
                .with_signatures("--revoked-signers", "OFOP_GIT_REVOKED_SIGNERS")?
                .map(|found| found.text.into()),
            all_signed: self.all_signed()?,
            rewritten: self.rewritten()?,
            user: self.text("OFOP_GIT_USER").or(address.user),
            token: self.credential("OFOP_GIT_TOKEN").or(address.password),
            token_file: self.git_token_file()?,
            ssh_key: self.text("OFOP_GIT_SSH_KEY").map(PathBuf::from),
            ssh_passphrase: self.secret("OFOP_GIT_SSH_PASSPHRASE", Some("OFOP_GIT_SSH_PASSPHRASE_FILE"))?,
            known_hosts: self.text("OFOP_GIT_KNOWN_HOSTS").map(PathBuf::from).or_else(home),
        })
    }

    fn git_path(&self) -> Result<String, ConfigError> {
        let Some(found) = self.setting("--path", "OFOP_GIT_PATH") else { return Ok(String::new()) };
        confined(found.text.trim()).ok_or_else(|| {
            invalid(
                found.from,
                format!("`{}` is no path inside the repository", found.text),
                "write the folder as the repository has it, e.g. factory/line1",
            )
        })
    }

    /// A setting that says something about signatures, and means nothing where none are checked.
    fn with_signatures(&self, flag: &'static str, name: &'static str) -> Result<Option<Found>, ConfigError> {
        let found = self.setting(flag, name);
        let verified = self.path("--verify-signatures", "OFOP_GIT_VERIFY_SIGNATURES").is_some();
        if found.is_some() && !verified {
            return Err(ConfigError::Missing {
                what: flag,
                missing: "--verify-signatures",
                hint: "name the allowed-signers file with --verify-signatures FILE or OFOP_GIT_VERIFY_SIGNATURES",
            });
        }
        Ok(found)
    }

    fn all_signed(&self) -> Result<bool, ConfigError> {
        let Some(found) = self.with_signatures("--signed-commits", "OFOP_GIT_SIGNED_COMMITS")? else {
            return Ok(false);
        };
        match found.text.trim() {
            "head" => Ok(false),
            "all" => Ok(true),
            _ => Err(invalid(
                found.from,
                format!("`{}` is neither head nor all", found.text),
                "write `head` for the newest commit, or `all` for each one since the commit in force",
            )),
        }
    }

    fn rewritten(&self) -> Result<Rewritten, ConfigError> {
        let Some(found) = self.setting("--git-rewritten", "OFOP_GIT_REWRITTEN") else {
            // An older commit is signed too: whoever can move the branch could bring back what was replaced.
            let verified = self.path("--verify-signatures", "OFOP_GIT_VERIFY_SIGNATURES").is_some();
            return Ok(if verified { Rewritten::Refuse } else { Rewritten::Follow });
        };
        match found.text.trim() {
            "follow" => Ok(Rewritten::Follow),
            "refuse" => Ok(Rewritten::Refuse),
            _ => Err(invalid(
                found.from,
                format!("`{}` is neither follow nor refuse", found.text),
                "write `follow`, or `refuse` to stay with the commit in force when history was rewritten",
            )),
        }
    }

    /// The file must be there from the start; what it says counts at each fetch.
    fn git_token_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let Some(found) = self.variable("OFOP_GIT_TOKEN_FILE") else { return Ok(None) };
        let path = PathBuf::from(found.text.trim());
        secret_file::read(&found.from, &path).map(|_| Some(path))
    }
}

/// The lower goes before the higher.
fn rank(from: &From) -> u8 {
    match from {
        From::Flag(_) => 0,
        From::Environment(_) => 1,
        From::File { .. } => 2,
    }
}

/// A URL with what may be secret taken out.
struct Address {
    url: String,
    user: Option<String>,
    password: Option<Secret>,
}

/// Takes a URL apart. What it says is in no error, since it may hold a password.
fn address(found: &Found) -> Result<Address, ConfigError> {
    let refuse = |reason: &str, hint: &str| Err(invalid(found.from.clone(), reason, hint));
    let plain = |url: String| Ok(Address { url, user: None, password: None });
    let text = found.text.trim();
    if !text.contains("://") {
        // As git tells `host:path` from a path: a colon before any slash.
        let host = text.split('/').next().unwrap_or_default();
        if text.contains("::") {
            return refuse("names a transport that is not supported", "use an https:// or ssh:// URL");
        }
        if host.contains(':') {
            return plain(text.to_owned());
        }
        return match std::path::absolute(text) {
            Ok(path) => plain(path.to_string_lossy().into_owned()),
            Err(_) => refuse("is no path of a repository", "write it like /srv/git/plant.git"),
        };
    }
    let Ok(mut url) = Url::parse(text) else {
        return refuse("is no URL of a repository", "write it like https://git.example/plant.git");
    };
    match url.scheme() {
        "file" => plain(text.to_owned()),
        "ssh" if url.password().is_some() => {
            refuse("holds a password", "use a key: OFOP_GIT_SSH_KEY names its file; without one the SSH agent is asked")
        }
        "ssh" => plain(text.to_owned()),
        "https" => {
            let named = !url.username().is_empty() || url.password().is_some();
            if named && matches!(found.from, From::Flag(_)) {
                return refuse(
                    "holds credentials, which every user of this machine could read",
                    "put the token into a file that OFOP_GIT_TOKEN_FILE names, and a user name into OFOP_GIT_USER",
                );
            }
            let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
            let password = url.password().map(|password| Secret::new(decoded(password)));
            // Fails for URLs without a host only.
            let _ = url.set_password(None);
            let _ = url.set_username("");
            Ok(Address { url: url.into(), user, password })
        }
        "http" | "git" => refuse("would be fetched without encryption", "use an https:// or ssh:// URL"),
        _ => refuse("names a transport that is not supported", "use an https://, ssh:// or file:// URL"),
    }
}

/// A text of a URL without its percent signs; as it is when they mean no text.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// A path in a repository, in its plainest form; none when it leads out of it. `.` is all of the repository.
fn confined(path: &str) -> Option<String> {
    if path.starts_with('/') || path.contains(['\\', '\0']) {
        return None;
    }
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let parts: Vec<&str> = parts.collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_repository() {
        assert_eq!(confined("factory/line1/").as_deref(), Some("factory/line1"));
        assert_eq!(confined("./factory//line1").as_deref(), Some("factory/line1"));
        assert_eq!(confined(".").as_deref(), Some(""));
        for path in ["/etc", "../x", "a/../../b", "a/..", "a\\b"] {
            assert_eq!(confined(path), None, "{path}");
        }
    }

    #[test]
    fn percent_signs_are_taken_out_of_credentials() {
        assert_eq!(decoded("a%40b%2Fc"), "a@b/c");
        assert_eq!(decoded("50%"), "50%");
        assert_eq!(decoded("%ff"), "%ff");
    }
}
