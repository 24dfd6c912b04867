//! Which resources `get` lists, and in which order.

use std::cmp::Reverse;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::wanted::Wanted;
use super::{GetArgs, tables};
use crate::model::{Health, Sync};
use crate::report::{ResourceStatus, Status};

/// In which order `get` lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// By kind and uuid
    #[default]
    Name,
    /// The worst first
    Health,
    /// What is out of sync first
    Sync,
    /// What was created last first
    Age,
    /// By the file and the line that describe them
    File,
}

/// Which resources, and in which order.
#[derive(Debug, Default)]
pub(super) struct Selection {
    health: Vec<Health>,
    sync: Vec<Sync>,
    file: Option<String>,
    sort_by: SortBy,
}

impl Selection {
    /// As the arguments say.
    pub(super) fn of(args: &GetArgs) -> Self {
        let (health, sync) = (args.health.clone(), args.sync.clone());
        Selection { health, sync, file: args.file.clone(), sort_by: args.sort_by }
    }

    /// Leaves only what is selected, in order. What belongs to no resource is left out where something is selected.
    pub(super) fn keep(&self, status: &mut Status, wanted: &Wanted) {
        let all = self.health.is_empty() && self.sync.is_empty() && self.file.is_none() && wanted.named.is_empty();
        if !all {
            status.resources.retain(|resource| {
                self.takes(resource) && (wanted.named.is_empty() || wanted.named.contains(&resource.id))
            });
            status.other_assets.clear();
        }
        let sort = &mut status.resources;
        match self.sort_by {
            SortBy::Name => {}
            SortBy::Health => sort.sort_by_key(|resource| badness(resource.health)),
            SortBy::Sync => sort.sort_by_key(|resource| Reverse(resource.sync)),
            SortBy::Age => sort.sort_by_key(|resource| {
                let time: Option<Timestamp> = tables::created(resource).and_then(|time| time.parse().ok());
                Reverse(time)
            }),
            SortBy::File => {
                sort.sort_by_cached_key(|resource| {
                    let place = resource.origin.as_ref().map(|origin| (origin.file.clone(), origin.line));
                    (place.is_none(), place)
                });
            }
        }
    }

    fn takes(&self, resource: &ResourceStatus) -> bool {
        (self.health.is_empty() || self.health.contains(&resource.health))
            && (self.sync.is_empty() || self.sync.contains(&resource.sync))
            && self
                .file
                .as_ref()
                .is_none_or(|wanted| resource.origin.as_ref().is_some_and(|origin| is_in(&origin.file, wanted)))
    }
}

/// Whether a file is the one that is wanted, or lies below the folder that is. Both may be relative to different
/// folders: whole parts at either end may be missing.
fn is_in(file: &str, wanted: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    let (file, wanted) = (parts(file), parts(wanted));
    !wanted.is_empty() && (file.windows(wanted.len()).any(|part| part == wanted) || wanted.ends_with(&file))
}

/// The worse, the smaller.
fn badness(health: Health) -> u8 {
    match health {
        Health::Degraded => 0,
        Health::RolledBack => 1,
        Health::Unknown => 2,
        Health::Waiting => 3,
        Health::Progressing => 4,
        Health::Suspended => 5,
        Health::Healthy => 6,
    }
}

/// Reads a word for a health.
pub(super) fn health() -> impl TypedValueParser<Value = Health> {
    let found = |text: String| Health::ALL.into_iter().find(|health| health.as_str().eq_ignore_ascii_case(&text));
    PossibleValuesParser::new(Health::ALL.map(Health::as_str)).map(move |text| found(text).unwrap_or(Health::Unknown))
}

/// Reads a word for a state of sync.
pub(super) fn sync() -> impl TypedValueParser<Value = Sync> {
    let found = |text: String| Sync::ALL.into_iter().find(|sync| sync.as_str().eq_ignore_ascii_case(&text));
    PossibleValuesParser::new(Sync::ALL.map(Sync::as_str)).map(move |text| found(text).unwrap_or(Sync::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    fn kept(selection: &Selection, named: &[&str]) -> Vec<String> {
        let mut status = status(&["app/A", "app/B", "app/C", "device/D"]);
        status.resources[1].health = Health::Degraded;
        status.resources[2].health = Health::Progressing;
        status.resources[2].sync = Sync::OutOfSync;
        status.resources[3].origin =
            serde_json::from_value(serde_json::json!({ "file": "line/d.yml", "line": 2 })).unwrap();
        let wanted =
            Wanted { what: super::super::What::All, named: named.iter().map(|id| id.parse().unwrap()).collect() };
        selection.keep(&mut status, &wanted);
        status.resources.iter().map(|resource| resource.id.to_string()).collect()
    }

    #[test]
    fn resources_are_selected_and_sorted() {
        let all = Selection::default;
        assert_eq!(kept(&all(), &[]), ["app/A", "app/B", "app/C", "device/D"]);
        assert_eq!(kept(&all(), &["device/D", "app/B"]), ["app/B", "device/D"]);
        let sick = Selection { health: vec![Health::Degraded, Health::Progressing], ..all() };
        assert_eq!(kept(&sick, &[]), ["app/B", "app/C"]);
        assert_eq!(kept(&Selection { sync: vec![Sync::OutOfSync], ..all() }, &[]), ["app/C"]);
        assert_eq!(kept(&Selection { file: Some("line".into()), ..all() }, &[]), ["device/D"]);
        assert_eq!(kept(&Selection { sort_by: SortBy::Health, ..all() }, &[]), ["app/B", "app/C", "app/A", "device/D"]);
        assert_eq!(kept(&Selection { sort_by: SortBy::Sync, ..all() }, &[])[0], "app/C");
    }

    #[test]
    fn files_and_folders_are_found_from_wherever_they_are_named() {
        for (file, wanted, is) in [
            ("desired/line/a.yml", "desired/line/a.yml", true),
            ("desired/line/a.yml", "./desired/line/", true),
            ("desired/line/a.yml", "line", true),
            ("desired/line/a.yml", "a.yml", true),
            ("line/a.yml", "/etc/factory/line/a.yml", true),
            ("desired/line/a.yml", "lin", false),
            ("desired/line/a.yml", "desired/a.yml", false),
            ("desired/line/a.yml", "", false),
        ] {
            assert_eq!(is_in(file, wanted), is, "{file} {wanted}");
        }
    }
}
