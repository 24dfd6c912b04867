//! Which files are manifests.
//!
//! A folder of manifests holds other YAML too: a namespace schema, rules of Prometheus, a compose file. A file is a
//! manifest if it was named by itself, if it is called `app_*` or `dev_*` as OpenFactory's own command line wants it,
//! or if it has `apps` or `devices` at its top. Anything else is listed and otherwise left alone, unless it was a
//! manifest before: then somebody has emptied or broken it.

use super::fields::is_slip;
use super::yaml::{Data, Entry};

/// The sections of a manifest.
pub(super) const SECTIONS: [&str; 2] = ["apps", "devices"];

/// How Git LFS begins the text that stands in a repository for a file (git-lfs specification, version 1).
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";

/// Whether a file of this name is YAML: `*.yml` and `*.yaml`, in any case. Not Emacs' `#a.yml#`, `a.yml~` and other
/// leftovers, which end otherwise.
pub(super) fn is_yaml(name: &[u8]) -> bool {
    has_ending(name, b".yml") || has_ending(name, b".yaml")
}

/// Whether a file of this name is JSON. It is YAML as well, but no manifest: neither here nor for OpenFactory.
pub(super) fn is_json(name: &[u8]) -> bool {
    has_ending(name, b".json")
}

fn has_ending(name: &[u8], ending: &[u8]) -> bool {
    name.len() >= ending.len() && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

/// Whether a file is a manifest by its name.
pub(super) fn is_called_like_a_manifest(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["app_", "dev_"].iter().any(|start| name.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
}

/// What the text of a file that only stands for another one says about it.
pub(super) fn stand_in(text: &str) -> Option<&'static str> {
    text.starts_with(LFS_POINTER).then_some(
        "is a Git LFS pointer and not the file itself; keep manifests out of LFS, or run `git lfs pull` in the folder",
    )
}

/// Whether a text that cannot be read as YAML was meant to be a manifest: a line begins with one of the sections.
pub(super) fn looks_like_a_manifest(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().any(|line| {
        let line = line.trim_start_matches(['{', '"', '\'']);
        SECTIONS.iter().any(|section| {
            line.strip_prefix(section)
                .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
        })
    })
}

/// What a file is that is no manifest, and what may have been meant.
pub(super) fn describe(entries: &[Entry]) -> (String, Option<String>) {
    let names = || {
        entries.iter().filter(|entry| !entry.key.expanded).filter_map(|entry| match &entry.key.data {
            Data::Text(name) => Some(name.as_str()),
            _ => None,
        })
    };
    let slip = names().find_map(|name| {
        let section = SECTIONS.iter().find(|section| is_slip(name, section) || name.eq_ignore_ascii_case(section))?;
        Some(format!("`{}` is no section of a manifest; did you mean `{section}`?", name.escape_debug()))
    });
    let what = if is_compose(entries) {
        "is a compose file: it has `services`"
    } else if names().any(|name| name == "namespace_structure") {
        "is a namespace schema"
    } else {
        "has neither `apps` nor `devices`"
    };
    (what.to_owned(), slip)
}

/// Whether this is a file for `docker compose` or `docker stack deploy`.
pub(super) fn is_compose(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| {
        matches!(&entry.key.data, Data::Text(name) if name == "services") && matches!(entry.value.data, Data::Map(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_files_are_told_by_their_ending_in_any_case() {
        for name in ["a.yml", "a.yaml", "A.YML", "a.Yaml", ".yml"] {
            assert!(is_yaml(name.as_bytes()), "{name}");
        }
        for name in ["a.yml~", "#a.yml#", "a.json", "yml", "a.ym", ""] {
            assert!(!is_yaml(name.as_bytes()), "{name}");
        }
        assert!(is_json(b"app_a.JSON") && !is_json(b"json"));
    }

    #[test]
    fn files_are_manifests_by_their_names_in_any_folder_and_case() {
        for path in ["app_a.yml", "plant/dev_b.yaml", "plant/APP_C.YML", "app_"] {
            assert!(is_called_like_a_manifest(path), "{path}");
        }
        for path in ["app.yml", "app_x/rules.yml", "my_app_a.yml", "äpp_a.yml", "de", ""] {
            assert!(!is_called_like_a_manifest(path), "{path}");
        }
    }

    #[test]
    fn a_broken_text_with_a_section_was_meant_to_be_a_manifest() {
        for text in
            ["apps:\n\t- x", "\u{feff}devices:", "x: [\napps : {", "{\"apps\": {", "'devices': x\n y", "---\napps:\n"]
        {
            assert!(looks_like_a_manifest(text), "{text:?}");
        }
        for text in ["groups:\n  apps:\n\t", "applications: [", "# apps: {", "", "apps", "text apps: ["] {
            assert!(!looks_like_a_manifest(text), "{text:?}");
        }
    }
}
