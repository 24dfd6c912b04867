//! How a manifest names a file that is not in its folder.

use std::fmt;

/// A remote file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reference {
    /// An `https://` URL.
    Https(String),
    /// A file in a repository on GitHub.
    Github {
        /// User or organisation.
        owner: String,
        /// Its repository.
        repository: String,
        /// Branch, tag or commit; empty for the default branch.
        revision: String,
        /// Path in the repository, without a leading slash.
        path: String,
    },
}

impl Reference {
    /// Reads a reference; none when it is a path of a local file.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        match scheme {
            "https" => match reqwest::Url::parse(text) {
                Ok(url) if url.has_host() => match page(&url) {
                    Some(file) => Err(format!("is a page about a file; the file itself is `{file}`")),
                    None => Ok(Some(Reference::Https(text.to_owned()))),
                },
                Ok(_) => Err("is not a valid URL: it names no host".into()),
                Err(error) => Err(format!("is not a valid URL: {error}")),
            },
            "http" => Err("would be fetched without encryption; use `https://`".into()),
            "github" => github(rest).map(Some),
            _ => Err(format!("begins with `{scheme}://`; a path, `https://` or `github://` is possible")),
        }
    }

    /// What to say when its server does not know it.
    pub(super) fn not_found(&self) -> String {
        const SAID: &str = "was not found (HTTP 404)";
        match self {
            Reference::Https(_) => SAID.into(),
            // Either order of the two looks right, and GitHub tells nobody what only others may see.
            Reference::Github { owner, repository, revision, path } => {
                let revision = if revision.is_empty() { "the default branch" } else { revision };
                format!(
                    "{SAID}: no `{path}` at {revision} of the repository `{repository}` of `{owner}`; the owner stands \
                     before the colon, and a private repository needs a token (OFOP_GITHUB_TOKEN)"
                )
            }
        }
    }

    /// Whether what it names can never change: a full commit id.
    pub(crate) fn is_immutable(&self) -> bool {
        match self {
            Reference::Https(_) => false,
            Reference::Github { revision, .. } => {
                revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
            }
        }
    }
}

fn github(text: &str) -> Result<Reference, String> {
    const FORM: &str = "is not of the form `github://OWNER:REPOSITORY@REF/PATH` (REF may be empty)";
    let (repository, rest) = text.split_once('@').ok_or(FORM)?;
    let (owner, repository) = repository.split_once(':').ok_or(FORM)?;
    let (revision, path) = rest.split_once('/').ok_or(FORM)?;
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let path = path.trim_start_matches('/');
    if !is_name(owner) || !is_name(repository) || path.is_empty() {
        return Err(FORM.into());
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err("holds `..` or `.`, which a path in a repository cannot".into());
    }
    Ok(Reference::Github {
        owner: owner.into(),
        repository: repository.into(),
        revision: revision.into(),
        path: path.into(),
    })
}

/// How the file is written that a page of GitHub's shows: what a browser's address bar has is no file.
fn page(url: &reqwest::Url) -> Option<String> {
    if !matches!(url.host_str(), Some("github.com" | "www.github.com")) {
        return None;
    }
    let mut parts = url.path().trim_start_matches('/').splitn(5, '/');
    let (owner, repository, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let (revision, path) = (parts.next()?, parts.next()?);
    (kind == "blob").then(|| format!("github://{owner}:{repository}@{revision}/{path}"))
}

/// A reference as it may be shown: a URL without a password or a query, which may be one.
pub(crate) fn shown(text: &str) -> String {
    match Reference::parse(text) {
        Ok(Some(reference)) => reference.to_string(),
        Ok(None) => text.to_owned(),
        Err(_) => {
            let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let rest = if scheme == "github" { rest } else { rest.rsplit_once('@').map_or(rest, |(_, rest)| rest) };
            format!("{scheme}://{rest}")
        }
    }
}

/// As it is written, without a password or a query, which may be one.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Https(text) => match reqwest::Url::parse(text) {
                Ok(url) => write!(f, "https://{}{}", host(&url), url.path()),
                Err(_) => f.write_str("https://…"),
            },
            Reference::Github { owner, repository, revision, path } => {
                write!(f, "github://{owner}:{repository}@{revision}/{path}")
            }
        }
    }
}

fn host(url: &reqwest::Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_references_read_as_openfactory_writes_them() {
        let text = "github://openfactoryio:openfactory-virtual-assets@/virtual_assets/temp_sensor/device.xml";
        let Some(Reference::Github { owner, repository, revision, path }) = Reference::parse(text).unwrap() else {
            panic!("not a GitHub reference");
        };
        assert_eq!((owner.as_str(), repository.as_str()), ("openfactoryio", "openfactory-virtual-assets"));
        assert_eq!((revision.as_str(), path.as_str()), ("", "virtual_assets/temp_sensor/device.xml"));
        let at = Reference::parse("github://o:r@v1.2/a.xml").unwrap().unwrap();
        assert_eq!(at.to_string(), "github://o:r@v1.2/a.xml");
        assert!(!at.is_immutable());
        let commit = "github://o:r@0123456789abcdef0123456789abcdef01234567/a.xml";
        assert!(Reference::parse(commit).unwrap().unwrap().is_immutable());
    }

    #[test]
    fn what_is_no_url_is_a_path() {
        for path in ["dev.xml", "../xml/dev.xml", "/etc/dev.xml", "c:dev.xml"] {
            assert_eq!(Reference::parse(path), Ok(None));
        }
    }

    #[test]
    fn odd_references_are_refused_with_the_reason() {
        for (text, reason) in [
            ("http://host/dev.xml", "without encryption"),
            ("ftp://host/dev.xml", "`ftp://`"),
            ("https://", "not a valid URL"),
            ("github://owner/repository/dev.xml", "not of the form"),
            ("github://owner:repository@main", "not of the form"),
            ("github://owner:repository@/", "not of the form"),
            ("github://owner:../evil@/dev.xml", "not of the form"),
            ("github://owner:repository@/../dev.xml", "holds `..`"),
            ("https://github.com/o/r/blob/main/xml/dev.xml", "`github://o:r@main/xml/dev.xml`"),
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        let reference = Reference::parse("https://me:secret@host:8443/dev.xml?token=secret").unwrap().unwrap();
        assert_eq!(reference.to_string(), "https://host:8443/dev.xml");
        for (text, safe) in [
            ("https://me:secret@host/dev.xml?token=secret", "https://host/dev.xml"),
            ("https://me:secret@host:x/dev.xml?token=secret", "https://host:x/dev.xml"),
            ("ftp://me:secret@host/dev.xml", "ftp://host/dev.xml"),
            ("github://o:r@/a.xml", "github://o:r@/a.xml"),
            ("github://o:r@main", "github://o:r@main"),
            ("xml/dev.xml", "xml/dev.xml"),
        ] {
            assert_eq!(shown(text), safe);
        }
    }

    #[test]
    fn a_file_that_github_does_not_know_may_be_written_in_the_wrong_order() {
        let swapped = Reference::parse("github://repository:owner@v1/a.xml").unwrap().unwrap();
        let said = swapped.not_found();
        assert!(said.contains("repository `owner` of `repository`; the owner stands before the colon"), "{said}");
        assert!(said.contains("no `a.xml` at v1"), "{said}");
    }
}
