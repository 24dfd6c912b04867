//! `connector: {type: opcua}`.

use std::collections::HashMap;

use super::checked::{self, Name, Object, Typed, Value};
use super::problems::Problems;
use super::python::{is_decimal, is_digit, strip};
use super::shapes;
use super::yaml::{Span, push_key};

/// The sections in the order in which OpenFactory checks them.
const SECTIONS: [&str; 4] = ["variables", "constants", "events", "methods"];

/// Checks the nodes of an OPC UA connector and lets variables inherit what the server sets.
pub(super) fn normalise(connector: &mut Object, path: &str, problems: &mut Problems<'_>) {
    let mut names: HashMap<String, (&str, Span)> = HashMap::new();
    for section in SECTIONS {
        let mut nodes: HashMap<String, Span> = HashMap::new();
        for (name, value) in connector.map(section) {
            let Typed::Object(node) = &value.typed else { continue };
            let mut path = format!("{path}.{section}");
            push_key(&mut path, &name.shown);
            unique_name(name, section, &path, &mut names, problems);
            if let Some(identity) = identity(node, name.at, &path, problems)
                && let Some(first) = nodes.insert(identity, name.at)
            {
                let hint = format!("it stands already in line {}", first.line);
                problems.error_hint(name.at, &path, format!("this node occurs twice in `{section}`"), hint);
            }
        }
    }
    inherit(connector);
}

fn unique_name<'s>(
    name: &Name,
    section: &'s str,
    path: &str,
    names: &mut HashMap<String, (&'s str, Span)>,
    problems: &mut Problems<'_>,
) {
    if let Some((other, place)) = names.insert(name.text.clone(), (section, name.at)) {
        let message = format!("this name is taken by one of the `{other}` in line {}", place.line);
        let hint = "choose another name: constants, variables, events and methods share them";
        problems.error_hint(name.at, path, message, hint);
    }
}

/// What identifies a node: exactly one of node id and browse path.
fn identity(node: &Object, at: Span, path: &str, problems: &mut Problems<'_>) -> Option<String> {
    let given = |field: &str| node.text(field).filter(|text| !text.is_empty());
    if let Some(text) = node.text("node_id")
        && !is_node_id(text)
        && (!text.is_empty() || given("browse_path").is_some())
    {
        let hint = "write `ns=2;i=1001` or `ns=2;s=Name`";
        problems.error_hint(node.at("node_id"), &format!("{path}.node_id"), "is no node id", hint);
    }
    if let Some(problem) = given("browse_path").and_then(browse_path_problem) {
        let hint = "write it as `0:Root/0:Objects/2:Name`";
        problems.error_hint(node.at("browse_path"), &format!("{path}.browse_path"), problem, hint);
    }
    let wrong = |field: &str| node.text(field).is_none() && !node.is_null(field);
    match (given("node_id"), given("browse_path")) {
        (Some(_), Some(_)) => {
            let message = "has both `node_id` and `browse_path`";
            problems.error_hint(node.at("browse_path"), path, message, "remove one of them");
            None
        }
        (None, None) if wrong("node_id") || wrong("browse_path") => None,
        (None, None) => {
            let hint = "write `node_id: ns=2;i=1001`, or `browse_path: 0:Root/0:Objects/2:Name`";
            problems.error_hint(at, path, "needs `node_id` or `browse_path`", hint);
            None
        }
        (Some(text), None) | (None, Some(text)) => Some(text.to_owned()),
    }
}

/// `ns=DIGITS;i=…` or `ns=DIGITS;s=…`, on one line and without a second `;`.
fn is_node_id(text: &str) -> bool {
    let Some((namespace, identifier)) = text.strip_prefix("ns=").and_then(|rest| rest.split_once(';')) else {
        return false;
    };
    let identifier = identifier.strip_prefix("i=").or_else(|| identifier.strip_prefix("s="));
    // Python reads no number of more digits.
    (1..=4300).contains(&namespace.chars().count())
        && namespace.chars().all(is_decimal)
        && identifier.is_some_and(|rest| !rest.is_empty() && !rest.contains(['\n', ';']))
}

fn browse_path_problem(path: &str) -> Option<&'static str> {
    for (index, segment) in path.split('/').enumerate() {
        if index == 0 && segment != "0:Root" {
            return Some("must begin with `0:Root`");
        }
        let Some((namespace, name)) = segment.split_once(':') else {
            return Some("every step must be written as `number:name`");
        };
        if strip(namespace) != namespace || strip(name) != name {
            return Some("must not have spaces around a step or its `:`");
        }
        if namespace.is_empty() || !namespace.chars().all(is_digit) {
            return Some("every step must begin with the number of a namespace");
        }
        if name.is_empty() {
            return Some("every step needs a name behind the `:`");
        }
    }
    None
}

/// Gives variables the server's queue size and sampling interval where they have none of their own.
fn inherit(connector: &mut Object) {
    let defaults = checked::empty(&shapes::OPCUA_SUBSCRIPTION, Span::default());
    let subscription = connector.object("server").and_then(|server| server.object("subscription")).unwrap_or(&defaults);
    let inherited: Vec<(&str, Typed)> = ["queue_size", "sampling_interval"]
        .into_iter()
        .filter_map(|field| Some((field, subscription.get(field)?.typed.clone())))
        .collect();
    let Some(Value { typed: Typed::Map(variables), .. }) = connector.get_mut("variables") else { return };
    for (_, variable) in variables {
        let Some(variable) = variable.as_object_mut() else { continue };
        for (field, typed) in &inherited {
            if variable.is_null(field)
                && let Some(value) = variable.get_mut(field)
            {
                value.typed = typed.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_have_a_namespace_and_a_number_or_a_name() {
        for good in ["ns=2;i=1001", "ns=0;s=Set.Point", "ns=٣;i=5", "ns=1;i=abc", "ns=2;s=a=b"] {
            assert!(is_node_id(good), "{good}");
        }
        for bad in [
            "",
            "word",
            "NS=2;i=5",
            "ns=;i=1",
            "ns=1;g=x",
            "ns=1;i=",
            "ns=1;s=a\n",
            "ns=1;s=a;b",
            "ns=1",
            "ns=²;i=1",
            "ns=½;i=1",
        ] {
            assert!(!is_node_id(bad), "{bad}");
        }
    }

    #[test]
    fn browse_paths_begin_at_the_root_and_number_every_step() {
        for good in ["0:Root", "0:Root/0:Objects/2:X", "0:Root/1:a:b", "0:Root/1:a b", "0:Root/²:x"] {
            assert_eq!(browse_path_problem(good), None, "{good}");
        }
        for bad in [
            "1:Root",
            "0:Root/",
            "0:Root/x",
            "0:Root/1:",
            "0:Root/ 1:a",
            "0:Root/1 :a",
            "0:Root/a:b",
            "0:Root\n",
            "0:Root/½:x",
            "0:Root/1:x\u{1f}",
        ] {
            assert!(browse_path_problem(bad).is_some(), "{bad}");
        }
    }
}
