//! Fetching: which commit is wanted, and how its objects come into the clone.
//!
//! Only the newest commit is fetched. More of the history is looked at where a rule asks for it: whether one commit
//! comes after another, and which commit an id names that no branch points to.
//!
//! HTTPS is spoken by [`SmartHttp`], SSH by libgit2, which has no time limit of its own: what hangs is left to hang on
//! a thread of its own, and no more than [`HANGING`] of them. A repository on this machine is copied from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Oid, Repository};
use reqwest::Url;
use tokio::sync::{Semaphore, mpsc};

use super::clone::{Clone as LocalClone, Depth, Held, succeeds_beside};
use super::history::Succeeds;
use super::options::{Credentials, GitOptions};
use super::smart_http::{Advertised, Ask, SmartHttp};
use super::trouble::{missing, other, unreachable};
use super::work::blocking;
use crate::desired::remote::{RemoteOptions, client};
use crate::model::{SourceTrouble, TroubleReason};

/// Fetches through libgit2 that may hang at a time.
const HANGING: usize = 4;

/// Pieces of a pack on their way to the disk.
const PIECES: usize = 16;

/// How much of the history is fetched over SSH to find out whether one commit comes after another: a push of some
/// commits, one of many, whatever there is.
const DEEPER: [Depth; 3] = [Depth::Newest(64), Depth::Newest(1_024), Depth::All];

/// Fetches into a clone.
#[derive(Debug)]
pub(super) struct Fetcher {
    options: Arc<GitOptions>,
    hanging: Arc<Semaphore>,
}

/// How a repository is reached.
enum Reached {
    Https(Url),
    /// On this machine.
    Beside(PathBuf),
    Ssh,
}

impl Fetcher {
    pub(super) fn new(options: Arc<GitOptions>) -> Self {
        Fetcher { options, hanging: Arc::new(Semaphore::new(HANGING)) }
    }

    /// Fetches what is wanted; the id of the commit, or of the tag that names it.
    pub(super) async fn fetch(&self, clone: &LocalClone) -> Result<Oid, SourceTrouble> {
        self.in_time(self.fetch_wanted(clone)).await
    }

    /// Whether a commit that was just fetched comes after another one, which may not be here.
    pub(super) async fn succeeds(
        &self,
        clone: &LocalClone,
        fetched: Oid,
        new: Oid,
        old: Oid,
    ) -> Result<bool, SourceTrouble> {
        let here = async |clone: &LocalClone| {
            let clone = clone.clone();
            blocking(move || clone.succeeds(new, old)).await
        };
        let first = here(clone).await?;
        if let Some(known) = first.decided() {
            return Ok(known);
        }
        self.in_time(async {
            match self.reached()? {
                Reached::Beside(path) => blocking(move || succeeds_beside(&path, new, old)).await,
                Reached::Https(url) => {
                    let beside = clone.beside("history");
                    let outcome = self.history_behind_https(&beside, url, fetched, Some(old)).await;
                    let succeeds = match outcome {
                        Ok(()) => here(&beside).await,
                        Err(trouble) => Err(trouble),
                    };
                    blocking(move || {
                        beside.remove();
                        Ok(())
                    })
                    .await?;
                    // What is not here is what the old commit's history has as well.
                    succeeds.map(|succeeds| succeeds == Succeeds::Yes)
                }
                Reached::Ssh => {
                    let credentials = self.options.credentials.current()?;
                    for depth in DEEPER {
                        self.fetch_ssh(clone, self.options.wanted(), &credentials, depth).await?;
                        if let Some(known) = here(clone).await?.decided() {
                            return Ok(known);
                        }
                    }
                    Ok(false)
                }
            }
        })
        .await
    }

    /// Looks at a repository that holds the whole history of a commit that was just fetched.
    pub(super) async fn with_history<T: Send + 'static>(
        &self,
        clone: &LocalClone,
        fetched: Oid,
        look: impl FnOnce(&Repository) -> Result<T, SourceTrouble> + Send + 'static,
    ) -> Result<T, SourceTrouble> {
        self.in_time(async {
            match self.reached()? {
                Reached::Beside(path) => {
                    let open = |path: &Path| Repository::open(path).map_err(|error| unreachable(error.message()));
                    blocking(move || look(&open(&path)?)).await
                }
                Reached::Https(url) => {
                    let beside = clone.beside("history");
                    let looking = beside.clone();
                    let outcome = match self.history_behind_https(&beside, url, fetched, None).await {
                        Ok(()) => blocking(move || look(&looking.open()?)).await,
                        Err(trouble) => Err(trouble),
                    };
                    blocking(move || {
                        beside.remove();
                        Ok(())
                    })
                    .await?;
                    outcome
                }
                Reached::Ssh => {
                    let credentials = self.options.credentials.current()?;
                    self.fetch_ssh(clone, self.options.wanted(), &credentials, Depth::All).await?;
                    let clone = clone.clone();
                    blocking(move || look(&clone.open()?)).await
                }
            }
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, SourceTrouble>>) -> Result<T, SourceTrouble> {
        let late =
            |_| unreachable(format!("the repository did not answer within {} s", self.options.timeout.as_secs()));
        tokio::time::timeout(self.options.timeout, work).await.map_err(late)?
    }

    fn reached(&self) -> Result<Reached, SourceTrouble> {
        let url = &self.options.url;
        Ok(match Url::parse(url) {
            Ok(url) if url.scheme() == "https" => Reached::Https(url),
            Ok(url) if url.scheme() == "http" => {
                return Err(other("would be fetched without encryption").hint("use an `https://` or `ssh://` URL"));
            }
            Ok(parsed) if parsed.scheme() == "file" => {
                Reached::Beside(parsed.to_file_path().map_err(|()| missing(format!("`{url}` names no path")))?)
            }
            Ok(_) | Err(_) if Path::new(url).is_dir() => Reached::Beside(url.into()),
            Ok(_) | Err(_) => Reached::Ssh,
        })
    }

    async fn fetch_wanted(&self, clone: &LocalClone) -> Result<Oid, SourceTrouble> {
        let credentials = self.options.credentials.current()?;
        let wanted = self.options.wanted();
        if let Some(id) = wanted.filter(|wanted| self.options.from_clone && is_id(wanted)) {
            let (clone, id) = (clone.clone(), id.to_owned());
            if let Some(found) = blocking(move || clone.find(&id)).await? {
                return Ok(found);
            }
        }
        let branch = self.options.revision.as_ref().and(self.options.branch.as_deref());
        if let Some((base, back)) = wanted.and_then(ancestor) {
            return match base {
                "" | "@" | "HEAD" => self.fetch_one(clone, branch, Some(back), &credentials).await,
                base if is_id(base) => self.fetch_one(clone, branch, wanted, &credentials).await,
                base => self.fetch_one(clone, Some(base), Some(back), &credentials).await,
            };
        }
        let wanted = wanted.filter(|wanted| !matches!(*wanted, "HEAD" | "@")).or(branch);
        let first = self.fetch_one(clone, wanted, None, &credentials).await;
        let Some(id) = wanted.filter(|wanted| is_id(wanted)) else { return first };
        match first {
            // It is no branch's newest commit: it lies in the history of the branch, or nowhere that we could see.
            Err(trouble) if trouble.reason == TroubleReason::Missing => {
                self.fetch_one(clone, branch, Some(id), &credentials).await.map_err(|_| trouble)
            }
            first => first,
        }
    }

    /// Fetches a branch, a tag, or a commit that one of them points to; with `place` the commit at that place of its
    /// history: an id, an id and the way back from it, or the way back from what was fetched.
    async fn fetch_one(
        &self,
        clone: &LocalClone,
        wanted: Option<&str>,
        place: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Oid, SourceTrouble> {
        let depth = if place.is_some() { Depth::All } else { Depth::ONE };
        let fetched = match self.reached()? {
            Reached::Https(url) => self.fetch_https(clone, url, wanted, credentials, depth).await,
            Reached::Ssh => self.fetch_ssh(clone, wanted, credentials, depth).await,
            Reached::Beside(path) => {
                let (url, wanted) = (self.options.url.clone(), wanted.map(str::to_owned));
                let (clone, place) = (clone.clone(), place.map(str::to_owned));
                let work = move || clone.fetch_beside(&url, &path, wanted.as_deref(), place.as_deref());
                return self.may_hang(work).await;
            }
        }?;
        let Some(place) = place.map(str::to_owned) else { return Ok(fetched) };
        let clone = clone.clone();
        blocking(move || clone.at(fetched, &place)?.ok_or_else(|| no_such_place(&place))).await
    }

    async fn fetch_ssh(
        &self,
        clone: &LocalClone,
        wanted: Option<&str>,
        credentials: &Credentials,
        depth: Depth,
    ) -> Result<Oid, SourceTrouble> {
        let (clone, url) = (clone.clone(), self.options.url.clone());
        let (wanted, credentials) = (wanted.map(str::to_owned), credentials.clone());
        self.may_hang(move || clone.fetch(&url, wanted.as_deref(), &credentials, depth)).await
    }

    /// Runs work that may hang, as long as not too much of it does.
    async fn may_hang<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SourceTrouble> + Send + 'static,
    ) -> Result<T, SourceTrouble> {
        let busy = || unreachable("earlier fetches still hang").hint("look for a firewall that drops packets");
        let permit = self.hanging.clone().try_acquire_owned().map_err(|_| busy())?;
        blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
    }

    /// The client for a repository, with what its URL says of who we are.
    fn https(&self, mut url: Url, credentials: &Credentials) -> Result<SmartHttp, SourceTrouble> {
        let mut credentials = credentials.clone();
        if let Some(password) = url.password() {
            credentials =
                Credentials { user: Some(url.username().into()), token: Some(password.into()), ..credentials };
        }
        // Fails for URLs without a host only.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        let remote = RemoteOptions { ca_file: self.options.ca_file.clone(), ..RemoteOptions::default() };
        let client = client(&remote).map_err(other)?;
        Ok(SmartHttp { client, url, credentials })
    }

    async fn fetch_https(
        &self,
        clone: &LocalClone,
        url: Url,
        wanted: Option<&str>,
        credentials: &Credentials,
        depth: Depth,
    ) -> Result<Oid, SourceTrouble> {
        let http = self.https(url, credentials)?;
        let advertised = http.advertised().await?;
        let (_, id) = pick(&advertised.refs, advertised.head.as_deref(), wanted)?;
        let oid = Oid::from_str(&id).map_err(|_| unreachable("the server names an id that is none"))?;
        let known = clone.clone();
        if depth == Depth::ONE && blocking(move || Ok(known.has(oid))).await? {
            return Ok(oid);
        }
        let known = clone.clone();
        let held = blocking(move || known.held()).await?;
        take(&http, &advertised, clone, &Ask { want: id, held, depth: Some(depth), commits_only: false }).await?;
        Ok(oid)
    }

    /// Fetches the history of a commit into a clone of its own. With an old one the server is told that we have that with
    /// all of its history, so that it sends what the new one has beside it: the commits alone where it can do so.
    async fn history_behind_https(
        &self,
        clone: &LocalClone,
        url: Url,
        new: Oid,
        old: Option<Oid>,
    ) -> Result<(), SourceTrouble> {
        let credentials = self.options.credentials.current()?;
        let making = clone.clone();
        blocking(move || making.make_anew().map(drop)).await?;
        let http = self.https(url, &credentials)?;
        let advertised = http.advertised().await?;
        let held = Held { tips: old.iter().map(ToString::to_string).collect(), shallow: Vec::new() };
        take(&http, &advertised, clone, &Ask { want: new.to_string(), held, depth: None, commits_only: true }).await
    }
}

/// Takes what a server sends into a clone.
async fn take(http: &SmartHttp, advertised: &Advertised, clone: &LocalClone, ask: &Ask) -> Result<(), SourceTrouble> {
    let (sink, pieces) = mpsc::channel(PIECES);
    let taking = clone.clone();
    let take = tokio::spawn(blocking(move || taking.take_pack(pieces)));
    let sent = http.pack(advertised, ask, &sink).await;
    drop(sink);
    let taken = take.await.map_err(|_| other("keeping what was fetched was cut short"))?;
    match (sent, taken) {
        // The disk's reason counts more than that nobody took what was sent.
        (_, Err(trouble)) if matches!(trouble.reason, TroubleReason::Damaged | TroubleReason::Disk) => Err(trouble),
        (Err(trouble), _) | (Ok(()), Err(trouble)) => Err(trouble),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Whether a text may be a commit id, short or full.
fn is_id(text: &str) -> bool {
    (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A revision that goes back in a history: where it begins, and the way, as `~2^1`; none for any other text.
fn ancestor(text: &str) -> Option<(&str, &str)> {
    let (base, back) = text.split_at(text.find(['~', '^'])?);
    back.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'~' | b'^')).then_some((base, back))
}

/// The branch does not reach back to a place.
pub(super) fn no_such_place(place: &str) -> SourceTrouble {
    missing(format!("the branch has no commit `{place}`"))
}

/// Full name and id of a branch, tag or reference, or of one that points to the commit that is wanted.
pub(super) fn pick(
    refs: &BTreeMap<String, String>,
    head: Option<&str>,
    wanted: Option<&str>,
) -> Result<(String, String), SourceTrouble> {
    let found = match wanted {
        Some(wanted) => [wanted.to_owned(), format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}")]
            .into_iter()
            .find_map(|name| refs.get_key_value(&name))
            .or_else(|| {
                let id = is_id(wanted).then(|| wanted.to_ascii_lowercase())?;
                let (name, _) = refs.iter().find(|(name, other)| *name != "HEAD" && other.starts_with(&id))?;
                // What an annotated tag leads to is listed beside it, and fetched by its name.
                refs.get_key_value(name.strip_suffix("^{}").unwrap_or(name))
            }),
        None => head.and_then(|name| refs.get_key_value(name)).or_else(|| {
            // A server that does not say which one is the default: the one that HEAD's commit is on.
            let id = refs.get("HEAD")?;
            refs.iter().find(|(name, other)| name.starts_with("refs/heads/") && *other == id)
        }),
    };
    if let Some((name, id)) = found {
        return Ok((name.clone(), id.clone()));
    }
    Err(match wanted {
        Some(wanted) if is_id(wanted) => {
            missing(format!("the repository has no branch, tag or commit `{wanted}` that can be seen"))
                .hint("push it; a commit that no branch or tag points to is found in the history of `--branch` alone")
        }
        Some(wanted) => missing(format!("the repository has no branch or tag `{wanted}`"))
            .hint("push it, or choose another one with `--branch`"),
        None => missing("the repository has no default branch").hint("push one, or choose one with `--branch`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refs() -> BTreeMap<String, String> {
        let all = [
            ("HEAD", "2"),
            ("refs/heads/v1", "1"),
            ("refs/heads/main", "2"),
            ("refs/pull/7/head", "5"),
            ("refs/tags/v1", "3"),
            ("refs/tags/v2", "4"),
            ("refs/tags/v2^{}", "7"),
        ];
        all.into_iter().map(|(name, digit)| (name.to_owned(), digit.repeat(40))).collect()
    }

    #[test]
    fn a_way_back_in_history_is_told_from_a_name() {
        assert_eq!(ancestor("main~2"), Some(("main", "~2")));
        assert_eq!(ancestor("HEAD^"), Some(("HEAD", "^")));
        assert_eq!(ancestor("3f9c2d1~1^2"), Some(("3f9c2d1", "~1^2")));
        for other in ["main", "v1^{tree}", "main~x", "a^{/subject}", ""] {
            assert_eq!(ancestor(other), None, "{other}");
        }
    }

    #[test]
    fn a_branch_goes_before_a_tag_and_the_default_is_what_head_is() {
        let refs = refs();
        let picked = |head, wanted| pick(&refs, head, wanted).map(|(_, id)| id.chars().take(1).collect::<String>());
        assert_eq!(picked(None, Some("v1")).as_deref(), Ok("1"));
        assert_eq!(picked(None, Some("v2")).as_deref(), Ok("4"));
        assert_eq!(picked(None, Some("refs/tags/v1")).as_deref(), Ok("3"));
        assert_eq!(picked(Some("refs/heads/v1"), None).as_deref(), Ok("1"));
        assert_eq!(picked(None, None).as_deref(), Ok("2"));
        assert!(picked(None, Some("gone")).unwrap_err().message.contains("no branch or tag `gone`"));
    }

    #[test]
    fn a_commit_is_found_by_whatever_points_to_it() {
        let refs = refs();
        let picked = |wanted: &str| pick(&refs, None, Some(wanted)).map(|(name, _)| name);
        assert_eq!(picked("5555555").as_deref(), Ok("refs/pull/7/head"));
        assert_eq!(picked(&"2".repeat(40)).as_deref(), Ok("refs/heads/main"));
        assert_eq!(picked("7777777").as_deref(), Ok("refs/tags/v2"));
        assert!(picked("555555").unwrap_err().message.contains("no branch or tag `555555`"));
        assert!(picked("6666666").unwrap_err().message.contains("no branch, tag or commit"));
    }
}
