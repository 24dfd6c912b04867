//! Fetching: which commit is wanted, and how its objects come into the clone.
//!
//! HTTPS is spoken by [`SmartHttp`], everything else by libgit2, which has no time limit of its own: what hangs is
//! left to hang on a thread of its own, and no more than [`HANGING`] of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::Oid;
use tokio::sync::{Semaphore, mpsc};

use super::blocking;
use super::clone::Clone as LocalClone;
use super::options::{Credentials, GitOptions};
use super::smart_http::SmartHttp;
use super::trouble::{missing, other, unreachable};
use crate::desired::remote::{RemoteOptions, client};
use crate::model::{SourceTrouble, TroubleReason};

/// Fetches through libgit2 that may hang at a time.
const HANGING: usize = 4;

/// Pieces of a pack on their way to the disk.
const PIECES: usize = 16;

/// Fetches into a clone.
#[derive(Debug)]
pub(super) struct Fetcher {
    options: Arc<GitOptions>,
    hanging: Arc<Semaphore>,
}

impl Fetcher {
    pub(super) fn new(options: Arc<GitOptions>) -> Self {
        Fetcher { options, hanging: Arc::new(Semaphore::new(HANGING)) }
    }

    /// Fetches what is wanted; the id of the commit, or of the tag that names it.
    pub(super) async fn fetch(&self, clone: &LocalClone) -> Result<Oid, SourceTrouble> {
        let late =
            |_| unreachable(format!("the repository did not answer within {} s", self.options.timeout.as_secs()));
        tokio::time::timeout(self.options.timeout, self.fetch_wanted(clone)).await.map_err(late)?
    }

    async fn fetch_wanted(&self, clone: &LocalClone) -> Result<Oid, SourceTrouble> {
        let credentials = self.options.credentials.current()?;
        let wanted = self.options.wanted();
        let first = self.fetch_one(clone, wanted, &credentials).await;
        let Some(id) = wanted.filter(|wanted| is_id(wanted)) else { return first };
        match first {
            // It is no branch's newest commit: it lies in the history of the branch, or nowhere that we could see.
            Err(trouble) if trouble.reason == TroubleReason::Missing => {
                let branch = self.options.revision.as_ref().and(self.options.branch.as_deref());
                if self.fetch_one(clone, branch, &credentials).await.is_err() {
                    return Err(trouble);
                }
                let (clone, id) = (clone.clone(), id.to_owned());
                blocking(move || clone.find(&id)).await?.ok_or(trouble)
            }
            first => first,
        }
    }

    /// Fetches a branch, a tag, or a commit that one of them points to.
    async fn fetch_one(
        &self,
        clone: &LocalClone,
        wanted: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Oid, SourceTrouble> {
        match reqwest::Url::parse(&self.options.url) {
            Ok(url) if url.scheme() == "https" => self.fetch_https(clone, url, wanted, credentials).await,
            Ok(url) if url.scheme() == "http" => {
                Err(other("would be fetched without encryption").hint("use an `https://` or `ssh://` URL"))
            }
            Ok(_) | Err(_) => {
                let busy = || unreachable("earlier fetches still hang").hint("look for a firewall that drops packets");
                let permit = self.hanging.clone().try_acquire_owned().map_err(|_| busy())?;
                let (clone, url) = (clone.clone(), self.options.url.clone());
                let (wanted, credentials) = (wanted.map(str::to_owned), credentials.clone());
                blocking(move || {
                    let fetched = clone.fetch(&url, wanted.as_deref(), &credentials);
                    drop(permit);
                    fetched
                })
                .await
            }
        }
    }

    async fn fetch_https(
        &self,
        clone: &LocalClone,
        mut url: reqwest::Url,
        wanted: Option<&str>,
        credentials: &Credentials,
    ) -> Result<Oid, SourceTrouble> {
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
        let http = SmartHttp { client, url, credentials: &credentials };
        let advertised = http.advertised().await?;
        let (_, id) = pick(&advertised.refs, advertised.head.as_deref(), wanted)?;
        let oid = Oid::from_str(&id).map_err(|_| unreachable("the server names an id that is none"))?;
        let known = clone.clone();
        let (has, tips) = blocking(move || Ok((known.has(oid), known.tips()))).await?;
        if has {
            return Ok(oid);
        }
        let (sink, pieces) = mpsc::channel(PIECES);
        let taking = clone.clone();
        let take = tokio::task::spawn_blocking(move || taking.take_pack(pieces));
        let sent = http.pack(&advertised, &id, &tips, &sink).await;
        drop(sink);
        let taken = take.await.map_err(|_| other("keeping what was fetched was cut short"))?;
        match (sent, taken) {
            // The disk's reason counts more than that nobody took what was sent.
            (_, Err(trouble)) if matches!(trouble.reason, TroubleReason::Damaged | TroubleReason::Disk) => Err(trouble),
            (Err(trouble), _) | (Ok(()), Err(trouble)) => Err(trouble),
            (Ok(()), Ok(())) => Ok(oid),
        }
    }
}

/// Whether a text may be a commit id, short or full.
fn is_id(text: &str) -> bool {
    (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
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
