//! Templates in environment values and mounts, which Swarm fills in for each task. Pure.
//!
//! A manager takes every environment value, and the source, target and options of every mount, for a Go
//! `text/template` (swarmkit, `template/expand.go`), and refuses a service with one that it cannot parse or fill in.
//! Its refusal comes late, at each attempt, and quotes the value; so the same is checked here.
//!
//! # Guarantees
//!
//! - What Swarm's parser refuses is refused, with the place; what it takes is taken.
//! - Of filling in, what is certain is checked: fields of the context, functions and the number of their arguments,
//!   wherever no condition or loop decides whether, and on what, an action is run.
//! - An error repeats nothing of the text, which may be a secret.

mod lexer;
mod parser;

use super::file::Context;
use crate::desired::manifest::Place;
use crate::model::service::Mount;
use crate::model::{PlatformKind, ServiceSpec};

/// A template that Swarm refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateError {
    /// Where its `{{` stands, in characters from 1.
    pub(super) at: usize,
    /// Why, without quoting the text.
    pub(super) reason: &'static str,
    /// What to do, where there is more to say than [`HINT`].
    pub(super) hint: Option<&'static str>,
}

/// How to write what was probably meant.
pub(super) const HINT: &str = "for a literal `{{` write `{{\"{{\"}}`; Swarm fills in .Service.ID, .Service.Name, .Node.ID, \
                        .Node.Hostname, .Node.Platform.Architecture, .Node.Platform.OS, .Task.ID, .Task.Name, .Task.Slot \
                        and `index .Service.Labels \"KEY\"`";

/// Checks a text that Swarm takes for a template.
///
/// # Errors
/// The first thing that Swarm would refuse.
pub(super) fn check(text: &str) -> Result<(), TemplateError> {
    if !text.contains("{{") {
        return Ok(());
    }
    let actions = lexer::actions(text)?;
    parser::check(&actions)
}

/// Whether Swarm can fill in everything in a spec; what it cannot is an error at the entry's place.
pub(super) fn fits(spec: &ServiceSpec, place: Place, path: &str, context: &mut Context<'_>) -> bool {
    if context.settings.platform != PlatformKind::Swarm {
        return true;
    }
    let mut wrong = Vec::new();
    for variable in &spec.env {
        if let Err(error) = check(&variable.value) {
            let (field, what) = match variable.name.as_str() {
                "XML_MODEL" => ("connector", "the device's XML (environment variable `XML_MODEL`)".to_owned()),
                "AGENT_CFG_FILE" => ("connector", "the agent's configuration (`AGENT_CFG_FILE`)".to_owned()),
                "STORAGE" => ("storage", "the environment variable `STORAGE`".to_owned()),
                name => ("environment", format!("the environment variable `{name}`")),
            };
            wrong.push((field, what, error));
        }
    }
    for mount in &spec.mounts {
        let (texts, target): (Vec<&String>, &String) = match mount {
            Mount::Volume { source, target, options, .. } => {
                ([source, target].into_iter().chain(options.values()).collect(), target)
            }
            Mount::Bind { source, target, .. } => (vec![source, target], target),
            Mount::Other { target, .. } => (vec![target], target),
        };
        let shown = if target.contains("{{") { "a mount".to_owned() } else { format!("the mount at {target}") };
        let errors = texts.into_iter().filter_map(|text| check(text).err());
        wrong.extend(errors.map(|error| ("storage", shown.clone(), error)));
    }
    let hostname = spec.options.hostname.as_deref().unwrap_or_default();
    wrong.extend(check(hostname).err().map(|error| ("service.hostname", "the host name".to_owned(), error)));
    for (field, what, error) in &wrong {
        let message = format!(
            "{what} of service `{}` is no template that Swarm can fill in: of the `{{{{` at character {}, {}",
            spec.name, error.at, error.reason
        );
        context.error(place, format!("{path}.{field}"), message, error.hint.unwrap_or(HINT));
    }
    wrong.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_swarm_takes_is_taken() {
        for text in [
            "plain",
            "}} alone",
            "{{.Service.ID}}-{{ .Service.Name }}-{{- .Node.ID -}}",
            "{{.Node.Hostname}} {{.Node.Platform.Architecture}} {{.Node.Platform.OS}}",
            "{{.Task.ID}} {{.Task.Name}} {{.Task.Slot}} {{.}} {{.Service}} {{$.Task.Slot}}",
            "{{index .Service.Labels \"a.b\"}}",
            "{{\"{{\"}} .Extension }}",
            "{{`{{`}} x }}",
            "{{/* a comment with \"quotes */}}x{{- /* and another */ -}}",
            "{{range $k, $v := .Service.Labels}}{{$k}}={{$v}},{{else}}none{{end}}",
            "{{range .Service.Labels}}{{.Anything}}{{break}}{{end}}",
            "{{with .Service}}{{.Name}}{{else with .Task}}{{.ID}}{{end}}",
            "{{if eq .Task.Slot \"1\"}}first{{else if .Task.Slot}}other{{else}}none{{end}}",
            "{{if false}}{{.Extension}}{{end}}",
            "{{join \"-\" .Service.Name .Task.Slot | printf \"%s\"}}",
            "{{$x := .Task.Slot}}{{$x}}{{$x = \"y\"}}",
            "{{define \"t\"}}{{.Anything}}{{end}}{{template \"t\" .}}{{block \"b\" .Task}}{{.ID}}{{end}}",
            "{{len (print 1 -2.5e3 0x1F 'a' true nil)}}",
            "{{(index .Service.Labels \"a\") | html}}",
            "{{.Task.Slot\n}}",
            "{{print (.Service).Name}}",
            "{{print 1_000 +3 .5 1i 0b11}}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_swarm_refuses_is_refused_with_its_place() {
        for (text, at, reason) in [
            ("{{ .Extension }}-%Y", 1, "Swarm knows no such field"),
            ("ab{{+cd", 3, "it is not closed with `}}`"),
            ("ä {{Kirsch}}", 3, "Swarm knows no such function"),
            ("{{Kirsch", 1, "it is not closed with `}}`"),
            ("{{}}", 1, "it is empty"),
            ("{{.Service.Extra}}", 1, "Swarm knows no such field"),
            ("{{.Service.Labels.x}}", 1, "a label is not a field"),
            ("{{.Task.Slot.X}}", 1, "Swarm knows no such field"),
            ("{{$.Extra}}", 1, "Swarm knows no such field"),
            ("{{$x}}", 1, "a variable is not defined"),
            ("{{env \"HOME\"}}", 1, "Swarm knows this function in configs and secrets only"),
            ("{{if .Task.Slot}}x", 1, "it is not closed with `{{end}}`"),
            ("x{{end}}", 2, "there is nothing to end"),
            ("{{else}}", 1, "there is nothing to end"),
            ("{{\"abc}}", 1, "a quoted text in it does not end"),
            ("{{`abc}}", 1, "a quoted text in it does not end"),
            ("{{/* abc }}", 1, "a comment in it does not end"),
            ("{{12ab}}", 1, "a number in it is malformed"),
            ("{{.Task.Slot | 1}}", 1, "a value cannot take what is piped into it"),
            ("{{nil}}", 1, "it is no value"),
            ("{{(.Task.Slot}}", 1, "a parenthesis does not end"),
            ("{{.Task.Slot)}}", 1, "there is something in it that no template has"),
            ("{{.Task.Slot;}}", 1, "there is something in it that no template has"),
            ("{{\"a\"\"b\"}}", 1, "there is something in it that no template has"),
            ("{{break}}", 1, "it stands outside of `{{range}}`"),
            ("{{template \"t\"}}", 1, "a template of this name is not defined"),
            ("{{.Task.Slot \"x\"}}", 1, "a field takes no arguments"),
            ("{{join}}", 1, "a function has the wrong number of arguments"),
            ("{{len 1 2}}", 1, "a function has the wrong number of arguments"),
            ("{{if}}x{{end}}", 1, "it is empty"),
            ("{{range $a, $b, $c := .}}{{end}}", 1, "there is something in it that no template has"),
        ] {
            let error = check(text).expect_err(text);
            assert_eq!((error.at, error.reason), (at, reason), "{text}");
        }
    }

    #[test]
    fn any_text_is_checked_without_harm() {
        use proptest::prelude::*;
        proptest!(|(pieces in proptest::collection::vec(prop_oneof![
            Just("{{"), Just("}}"), Just(" -}}"), Just("{{- "), Just("."), Just("$x"), Just(":="), Just("|"), Just("\""),
            Just("`"), Just("'"), Just("("), Just(")"), Just("if "), Just("range "), Just("end"), Just("else "),
            Just(".Task"), Just(" "), Just("1"), Just("ä"), Just("\\"), Just(","), Just("/*"), Just("*/"),
        ], 0..20))| {
            let text = pieces.concat();
            if let Err(error) = check(&text) {
                prop_assert!(error.at >= 1 && error.at <= text.chars().count());
            }
        });
    }
}
