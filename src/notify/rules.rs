//! Which concerns and which news go to which sinks, and when.

use crate::desired::policy::Pattern;
use crate::model::Kind;
use crate::report::concerns::ConcernSeverity;

/// What the items of one message have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupBy {
    /// The type.
    Type,
    /// The severity.
    Severity,
    /// App or device.
    Kind,
    /// The folder of the manifest.
    Folder,
    /// The manifest.
    File,
    /// The resource.
    Resource,
}

impl GroupBy {
    /// The words.
    pub const WORDS: &'static [&'static str] = &["type", "severity", "kind", "folder", "file", "resource"];

    /// The value of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "type" => GroupBy::Type,
            "severity" => GroupBy::Severity,
            "kind" => GroupBy::Kind,
            "folder" => GroupBy::Folder,
            "file" => GroupBy::File,
            "resource" => GroupBy::Resource,
            _ => return None,
        })
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The type's word.
    pub kind: &'a str,
    /// How much it matters.
    pub severity: ConcernSeverity,
    /// `app/PRESS-7`.
    pub resource: Option<&'a str>,
    /// The manifest.
    pub file: Option<&'a str>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name, by which what was told is remembered.
    pub name: String,
    /// The sinks.
    pub to: Vec<String>,
    /// The least severity.
    pub severity: ConcernSeverity,
    /// Types; all where there are none.
    pub types: Vec<String>,
    /// Apps, devices; all where there are none.
    pub kinds: Vec<Kind>,
    /// Resources; all where there are none.
    pub resources: Vec<Pattern>,
    /// Manifests; all where there are none.
    pub files: Vec<Pattern>,
    /// What the items of one message have in common.
    pub group_by: Vec<GroupBy>,
    /// How long nothing more must come before what came is told, in milliseconds; four times as long at most.
    pub wait: u64,
    /// The least time between two messages of a group about failures, in milliseconds.
    pub interval: u64,
    /// How often what still fails is told again, in milliseconds; never where there is none.
    pub repeat: Option<u64>,
}

impl Rule {
    /// Whether the rule is about this.
    pub fn wants(&self, facts: &Facts<'_>) -> bool {
        let kind = || facts.resource.and_then(|resource| resource.split_once('/')).map(|(kind, _)| kind);
        facts.severity >= self.severity
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == facts.kind))
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| kind() == Some(wanted.as_str())))
            && (self.resources.is_empty()
                || facts.resource.is_some_and(|resource| self.resources.iter().any(|pattern| pattern.fits(resource))))
            && (self.files.is_empty()
                || facts.file.is_some_and(|file| self.files.iter().any(|wanted| lies(wanted, file))))
    }

    /// What this has in common with others in one message.
    pub fn group(&self, facts: &Facts<'_>) -> String {
        let part = |by: &GroupBy| match by {
            GroupBy::Type => facts.kind,
            GroupBy::Severity => facts.severity.as_str(),
            GroupBy::Kind => facts.resource.and_then(|text| text.split_once('/')).map_or("", |(kind, _)| kind),
            GroupBy::Folder => facts.file.and_then(|file| file.rsplit_once('/')).map_or("", |(folder, _)| folder),
            GroupBy::File => facts.file.unwrap_or_default(),
            GroupBy::Resource => facts.resource.unwrap_or_default(),
        };
        self.group_by.iter().map(part).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a manifest fits a pattern, wherever the folder with the manifests lies: the pattern is held against the whole
/// path, and against what follows each `/` in it.
fn lies(pattern: &Pattern, file: &str) -> bool {
    let tails = file.match_indices('/').filter_map(|(at, _)| file.get(at + 1..));
    std::iter::once(file).chain(tails).any(|path| pattern.fits(path))
}

#[cfg(test)]
impl Rule {
    /// For one sink: what needs a person, at once.
    pub(super) fn at_once(name: &str, sink: &str) -> Rule {
        Rule {
            name: name.into(),
            to: vec![sink.into()],
            severity: ConcernSeverity::Warning,
            types: Vec::new(),
            kinds: Vec::new(),
            resources: Vec::new(),
            files: Vec::new(),
            group_by: vec![GroupBy::Type],
            wait: 0,
            interval: 0,
            repeat: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule::at_once("r", "a")
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_rule_is_about_what_fits_all_of_it() {
        let press = Facts {
            kind: "image_missing",
            severity: ConcernSeverity::Critical,
            resource: Some("app/PRESS-7"),
            file: Some("desired/press/app_x.yml"),
        };
        let engine = Facts { kind: "engine", severity: ConcernSeverity::Critical, resource: None, file: None };
        assert!(rule().wants(&press) && rule().wants(&engine));
        assert!(
            !Rule { severity: ConcernSeverity::Critical, ..rule() }
                .wants(&Facts { severity: ConcernSeverity::Warning, ..press })
        );
        for (wanted, of_press, of_engine) in [
            (Rule { types: vec!["engine".into()], ..rule() }, false, true),
            (Rule { kinds: vec![Kind::App], ..rule() }, true, false),
            (Rule { kinds: vec![Kind::Device], ..rule() }, false, false),
            (Rule { resources: patterns(&["app/PRESS-*"]), ..rule() }, true, false),
            (Rule { resources: patterns(&["app/MILL-*", "device/**"]), ..rule() }, false, false),
            (Rule { files: patterns(&["press/**"]), ..rule() }, true, false),
            (Rule { files: patterns(&["desired/press/*"]), ..rule() }, true, false),
            (Rule { files: patterns(&["ess/**"]), ..rule() }, false, false),
        ] {
            assert_eq!((wanted.wants(&press), wanted.wants(&engine)), (of_press, of_engine), "{wanted:?}");
        }
    }

    #[test]
    fn items_are_grouped_by_what_the_rule_says() {
        let facts = Facts {
            kind: "image_missing",
            severity: ConcernSeverity::Critical,
            resource: Some("app/PRESS-7"),
            file: Some("desired/press/app_x.yml"),
        };
        let group = |by: &[GroupBy]| Rule { group_by: by.to_vec(), ..rule() }.group(&facts);
        assert_eq!(group(&[]), "");
        assert_eq!(group(&[GroupBy::Type]), "image_missing");
        assert_eq!(group(&[GroupBy::Severity, GroupBy::Kind]), "critical app");
        assert_eq!(group(&[GroupBy::Folder]), "desired/press");
        assert_eq!(group(&[GroupBy::File, GroupBy::Resource]), "desired/press/app_x.yml app/PRESS-7");
        for word in GroupBy::WORDS {
            assert!(GroupBy::parse(word).is_some());
        }
    }
}
