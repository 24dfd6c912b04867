//! Notes, kept in the labels of one Swarm config of our own.
//!
//! A config's content never changes, its labels do, and an update names the version that it was made on: so two who
//! write at the same time never undo each other's words. What somebody else wrote into the labels stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::calls::Failed;
use super::raw;
use crate::model::service::LABEL_INSTANCE;
use crate::model::{FailureKind, InstanceName, NoteEdits, Notes, NotesView};
use crate::platform::engine::{Act, CallError, Engine, encode};

/// What the label of a note begins with.
const LABEL_NOTE: &str = "io.openfactory.operator/note/";
/// Label: the form of the other labels. Without it, it is [`FORMAT`]: a form that this `ofop` would misread has another number.
const LABEL_FORMAT: &str = "io.openfactory.operator/format";
/// The form that is read and written here.
const FORMAT: &str = "1";
/// `What ofop notes is in the labels of this config.`, in base64: a config must have some content.
pub(super) const CONTENT: &str = "V2hhdCBvZm9wIG5vdGVzIGlzIGluIHRoZSBsYWJlbHMgb2YgdGhpcyBjb25maWcuCg==";
/// The longest name that Swarm takes for a config (swarmkit: `validateConfigOrSecretAnnotations`).
const MAX_NAME: usize = 64;
/// How often a write begins anew because somebody else was faster.
const TRIES: usize = 5;

const READ: Act = Act::read("read the notes");
const CREATE: Act = Act::write("create the notes");
const UPDATE: Act = Act::write("write the notes");

/// Where the notes of an instance are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    instance: InstanceName,
    /// Name of the config.
    name: String,
}

/// The config as it was found.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) version: u64,
    /// `Spec`, as the engine wrote it.
    pub(super) spec: Map<String, Value>,
    pub(super) labels: BTreeMap<String, String>,
}

/// Why a config of our name is not to be touched.
pub(super) enum Foreign {
    /// Somebody else made it.
    Strangers(String),
    /// A newer `ofop` of this instance made it.
    Newer(String),
}

impl Place {
    pub(super) fn of(instance: &InstanceName) -> Self {
        let plain = format!("ofop-{instance}");
        let text = instance.as_str();
        // Swarm tells names apart without regard to case, and wants them to end in a letter or a digit.
        let fits = plain.len() <= MAX_NAME
            && !text.contains(|c: char| c.is_ascii_uppercase())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        let name = if fits {
            plain
        } else {
            let digest: String = Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let stem: String = text.chars().take(40).collect();
            format!("ofop-{}-{digest}", stem.to_ascii_lowercase())
        };
        Place { instance: instance.clone(), name }
    }

    /// Name of the config.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whose they are.
    pub(super) fn instance(&self) -> &InstanceName {
        &self.instance
    }

    /// What is noted.
    pub(super) async fn read(&self, engine: &Engine) -> NotesView {
        match self.find(engine).await {
            Ok(Ok(None)) => NotesView::default(),
            Ok(Ok(Some(found))) => NotesView::Read { version: found.version, notes: Arc::new(notes(&found.labels)) },
            Ok(Err(Foreign::Strangers(why))) => NotesView::Unsupported(why),
            // There may be some, which people rely on.
            Ok(Err(Foreign::Newer(why))) => NotesView::Unread(why),
            // Whoever guards the engine keeps configs from us: nothing was ever noted here.
            Err(CallError::Refused { status: 403 | 404 | 405 | 501, message, .. }) => {
                NotesView::Unsupported(format!("the engine lets no config be read: {message}"))
            }
            Err(error) => NotesView::Unread(error.to_string()),
        }
    }

    /// Changes notes.
    pub(super) async fn write(&self, engine: &Engine, edits: &NoteEdits) -> Result<(), Failed> {
        let mut last = None;
        for _ in 0..TRIES {
            let found = match self.find(engine).await {
                Ok(Ok(found)) => found,
                Ok(Err(Foreign::Strangers(why) | Foreign::Newer(why))) => {
                    return Err(Failed::before(FailureKind::Rejected, why));
                }
                Err(error) => return Err(Failed::by(error, None)),
            };
            let before = found.as_ref().map(|found| found.labels.clone()).unwrap_or_default();
            let labels = self.edited(before.clone(), edits);
            if found.is_some() && labels == before || found.is_none() && notes(&labels).is_empty() {
                return Ok(());
            }
            let (act, path, body) = match found {
                None => (
                    CREATE,
                    "/configs/create".to_owned(),
                    json!({"Name": self.name, "Labels": labels, "Data": CONTENT}),
                ),
                Some(Found { id, version, mut spec, .. }) => {
                    spec.insert("Labels".into(), json!(labels));
                    (UPDATE, format!("/configs/{}/update?version={version}", encode(&id)), Value::Object(spec))
                }
            };
            match engine.send(act, Method::POST, &path, Bytes::from(body.to_string())).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let failed = Failed::by(error, None);
                    if !failed.failure.kind.is_race() {
                        return Err(failed);
                    }
                    last = Some(failed);
                }
            }
        }
        let busy = || Failed::before(FailureKind::Conflict, "somebody else keeps writing the notes".into());
        Err(last.unwrap_or_else(busy))
    }

    /// The labels with these changes and our mark.
    fn edited(&self, mut labels: BTreeMap<String, String>, edits: &NoteEdits) -> BTreeMap<String, String> {
        for (key, text) in edits {
            let label = format!("{LABEL_NOTE}{key}");
            match text {
                Some(text) => labels.insert(label, text.clone()),
                None => labels.remove(&label),
            };
        }
        labels.insert(LABEL_INSTANCE.to_owned(), self.instance.to_string());
        labels
    }

    /// The config; a sentence when it is not to be touched.
    pub(super) async fn find(&self, engine: &Engine) -> Result<Result<Option<Found>, Foreign>, CallError> {
        let filter = json!({"name": [self.name]}).to_string();
        let mut found = None;
        // The filter takes every name that begins like ours.
        let each = |text: &[u8]| {
            if let Ok(config) = serde_json::from_slice::<raw::Config>(text)
                && config.spec.name == self.name
            {
                found = Some((config, text.to_vec()));
            }
        };
        engine.list(READ, &format!("/configs?filters={}", encode(&filter)), each).await?;
        let Some((config, text)) = found else { return Ok(Ok(None)) };
        if config.spec.labels.get(LABEL_INSTANCE).map(String::as_str) != Some(self.instance.as_str()) {
            return Ok(Err(Foreign::Strangers(format!("config {} exists and is not ours", self.name))));
        }
        if let Some(format) = config.spec.labels.get(LABEL_FORMAT).filter(|format| *format != FORMAT) {
            return Ok(Err(Foreign::Newer(format!(
                "config {} is of a newer ofop (format {}; this one knows {FORMAT})",
                self.name,
                format.escape_default()
            ))));
        }
        let whole: Map<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
        let spec = whole.get("Spec").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Ok(Some(Found { id: config.id, version: config.version.index, spec, labels: config.spec.labels })))
    }
}

/// The notes among the labels.
fn notes(labels: &BTreeMap<String, String>) -> Notes {
    labels.iter().filter_map(|(label, text)| Some((label.strip_prefix(LABEL_NOTE)?.to_owned(), text.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(instance: &str) -> Place {
        Place::of(&InstanceName::new(instance).unwrap())
    }

    #[test]
    fn every_instance_has_a_config_of_its_own_that_swarm_takes() {
        let odd = ["default", "plant-a", "Plant-A", "PLANT-A", "ends-", "dots..", &"x".repeat(63), &"X".repeat(63)];
        let names: std::collections::BTreeSet<String> =
            odd.iter().map(|name| place(name).name.to_lowercase()).collect();
        assert_eq!(names.len(), odd.len(), "{names:?}");
        for name in names {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            assert!(name.len() <= MAX_NAME && name.chars().all(allowed), "{name}");
            assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
        assert_eq!(place("default").name, "ofop-default");
    }

    #[test]
    fn what_others_wrote_beside_our_notes_stays() {
        let before =
            [("team", "blue"), ("io.openfactory.operator/lease", "7"), ("io.openfactory.operator/note/a", "1")]
                .map(|(key, text)| (key.to_owned(), text.to_owned()));
        let edits = [("a".to_owned(), None), ("b".to_owned(), Some("2".to_owned()))].into();
        let after = place("plant").edited(before.into(), &edits);
        let after: Vec<_> = after.iter().map(|(key, text)| format!("{key}={text}")).collect();
        assert_eq!(
            after,
            [
                "io.openfactory.operator/instance=plant",
                "io.openfactory.operator/lease=7",
                "io.openfactory.operator/note/b=2",
                "team=blue"
            ]
        );
    }
}
