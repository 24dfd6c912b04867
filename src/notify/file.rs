//! The notification file on the disk: the operator's own, read again when it changes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::read::{Parsed, ReadSecret, parse};
use super::settings::Settings;
use crate::config::dotenv::references;
use crate::config::read_secret;
use crate::desired::{file, source_that_holds};
use crate::model::Problem;

/// What lets others than the owner write a file.
const WRITABLE: u32 = 0o022;

/// Where the file is and what it may refer to.
#[derive(Clone)]
pub struct NotifyFile {
    path: PathBuf,
    shown: Arc<str>,
    /// Where manifests come from: whoever writes there may not write the file.
    sources: Vec<PathBuf>,
    variables: Arc<BTreeMap<String, String>>,
}

/// What the file said.
#[derive(Debug, Clone)]
pub struct Read {
    /// What it says.
    pub settings: Settings,
    /// What is odd about it.
    pub warnings: Vec<Problem>,
    /// A hash over the file and the files with secrets that it names.
    pub digest: [u8; 32],
}

/// Reads files with secrets, and takes a hash of what they hold.
struct Secrets(RefCell<Sha256>);

impl ReadSecret for Secrets {
    fn read(&self, path: &Path) -> Result<String, (String, String)> {
        let text = read_secret(path).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            (format!("{error}{source}"), error.hint())
        })?;
        self.0.borrow_mut().update(text.as_bytes());
        Ok(text)
    }
}

impl NotifyFile {
    /// The file at this path, which may not lie below one of the sources. `${NAME}` in it stands for these variables.
    pub fn new(path: &Path, sources: Vec<PathBuf>, variables: BTreeMap<String, String>) -> Self {
        let (path, shown) = (path.to_owned(), path.to_string_lossy().into());
        NotifyFile { path, shown, sources, variables: Arc::new(variables) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The variables that it refers to, whether it is valid or not. Blocking.
    pub fn variables(&self) -> BTreeSet<String> {
        let content = file::read(&self.path).and_then(|reading| reading.content.ok());
        content.map(|text| references(&text).map(str::to_owned).collect()).unwrap_or_default()
    }

    /// Reads it. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self) -> Result<Read, Vec<Problem>> {
        if let Some(source) = source_that_holds(&self.path, &self.sources) {
            let message = format!(
                "the file lies in `{}`, where manifests come from: whoever writes them could send anything anywhere",
                source.display()
            );
            return Err(vec![self.problem(message, "keep it elsewhere, such as in /etc/ofop/notify.yml")]);
        }
        let text = file::read(&self.path).map_or_else(|| Err("does not exist".to_owned()), |reading| reading.content);
        let text = text.map_err(|reason| {
            vec![self.problem(format!("the notification file {reason}"), "--notify or OFOP_NOTIFY names it")]
        })?;
        let mode = fs::metadata(&self.path).map(|metadata| metadata.mode() & 0o7777).unwrap_or_default();
        if mode & WRITABLE != 0 {
            let message = format!("others than its owner may write the file (mode {mode:04o})");
            return Err(vec![self.problem(message, &format!("run `chmod go-w {}`", self.shown))]);
        }
        let secrets = Secrets(RefCell::new(Sha256::new_with_prefix(text.as_bytes())));
        let Parsed { settings, problems, holds_secrets } = parse(&self.shown, &text, &self.variables, &secrets);
        let Some(settings) = settings else { return Err(problems) };
        if holds_secrets && let Err(error) = read_secret(&self.path) {
            let hint = format!("{}, or move the secrets out, with `url_file` or `${{NAME}}`", error.hint());
            return Err(vec![self.problem(error.to_string(), &hint)]);
        }
        Ok(Read { settings, warnings: problems, digest: secrets.0.into_inner().finalize().into() })
    }

    fn problem(&self, message: String, hint: &str) -> Problem {
        Problem::file(Arc::clone(&self.shown), message).hint(hint)
    }
}
