//! What the words after `ofop get` ask for.

use clap::ValueEnum as _;

use super::What;
use crate::cli::{CliError, suggest};
use crate::model::nearest::nearest;
use crate::model::{AssetUuid, ResourceId};
use crate::report::Status;

/// What is listed, and of which resources.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What.
    pub(super) what: What,
    /// Only of these; of all when there is none.
    pub(super) named: Vec<ResourceId>,
}

impl Wanted {
    /// Reads `apps`, `app/A device/B`, `app A B`, `services app/A`.
    ///
    /// # Errors
    /// When a word is neither.
    pub(super) fn parse(words: &[String]) -> Result<Self, CliError> {
        let Some((first, rest)) = words.split_first() else {
            return Ok(Wanted { what: What::All, named: Vec::new() });
        };
        if first.contains('/') {
            let named = words.iter().map(|word| resource(word)).collect::<Result<_, _>>()?;
            return Ok(Wanted { what: What::Resources, named });
        }
        let Ok(what) = What::from_str(first, true) else { return Err(unknown(first)) };
        let named = rest.iter().map(|word| of_kind(what, word)).collect::<Result<_, _>>()?;
        Ok(Wanted { what, named })
    }

    /// Whether all that is named exists.
    ///
    /// # Errors
    /// When something does not.
    pub(super) fn check(&self, status: &Status) -> Result<(), CliError> {
        match self.named.iter().find(|id| status.get(id).is_none()) {
            Some(missing) => Err(suggest::unknown(missing, status)),
            None => Ok(()),
        }
    }
}

/// After a kind, as in `get app PRESS-7`, the uuid is enough.
fn of_kind(what: What, word: &str) -> Result<ResourceId, CliError> {
    let uuid = || AssetUuid::new(word).ok().filter(|_| !word.contains('/'));
    match what {
        What::Apps => uuid().map(ResourceId::app).map_or_else(|| resource(word), Ok),
        What::Devices => uuid().map(ResourceId::device).map_or_else(|| resource(word), Ok),
        What::Services | What::Assets | What::Resources | What::All => resource(word),
    }
}

fn resource(word: &str) -> Result<ResourceId, CliError> {
    word.parse().map_err(|error: crate::model::InvalidName| {
        CliError::usage(
            format!("`{}`: {error}", word.escape_debug()),
            "`ofop get resources -o name` lists what is there",
        )
    })
}

fn unknown(word: &str) -> CliError {
    let words = || What::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
    let names: Vec<String> = words().map(|word| word.get_name().to_owned()).collect();
    let meant = nearest(word, names.iter().map(String::as_str));
    let elsewhere = ["events", "history", "logs"].into_iter().find(|command| word.eq_ignore_ascii_case(command));
    let hint = match (elsewhere, meant) {
        (Some(command), _) => format!("`ofop {command}` is a command of its own"),
        (None, Some(meant)) => format!("did you mean `ofop get {meant}`?"),
        (None, None) => format!("write one of {}, or KIND/UUID as in app/{}", names.join(", "), word.to_uppercase()),
    };
    CliError::usage(format!("`{}` is nothing that can be listed", word.escape_debug()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wanted, CliError> {
        Wanted::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn kinds_and_resources_are_told_apart() {
        let ids = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<ResourceId>>();
        for (words, what, named) in [
            (&[][..], What::All, vec![]),
            (&["all"], What::All, vec![]),
            (&["APP"], What::Apps, vec![]),
            (&["svc"], What::Services, vec![]),
            (&["app/A", "device/B"], What::Resources, ids(&["app/A", "device/B"])),
            (&["app", "A", "app/B"], What::Apps, ids(&["app/A", "app/B"])),
            (&["devices", "B"], What::Devices, ids(&["device/B"])),
            (&["services", "app/A"], What::Services, ids(&["app/A"])),
        ] {
            assert_eq!(parse(words).unwrap(), Wanted { what, named }, "{words:?}");
        }
    }

    #[test]
    fn a_wrong_word_has_a_hint() {
        for (words, hint) in [
            (&["aps"][..], "did you mean `ofop get apps`?"),
            (&["servcies"], "did you mean `ofop get services`?"),
            (&["events"], "`ofop events`"),
            (&["PRESS-7"], "app/PRESS-7"),
            (&["pod/x"], "-o name"),
            (&["services", "A"], "-o name"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.hint().unwrap().contains(hint), "{words:?}: {error} {:?}", error.hint());
        }
    }
}
