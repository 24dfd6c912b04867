//! `storage`: the backends that an app mounts.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::checked::{Name, Object, Typed, Value};
use super::dump;
use super::manifest::Storage;
use super::parse::ParseContext;
use super::problems::Problems;
use super::yaml::push_key;
use crate::model::PlatformKind;
use crate::model::service::Mount;

/// The longest mount point that OpenFactory takes, in characters.
const MAX_MOUNT_POINT: usize = 255;

/// Reads checked `storage` entries.
pub(super) fn storage(
    entries: &[(Name, Value)],
    path: &str,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) -> Vec<Storage> {
    let mut all: Vec<Storage> = Vec::new();
    for (name, value) in entries {
        let mut path = format!("{path}.storage");
        push_key(&mut path, &name.shown);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.text.is_empty() || !name.text.chars().all(allowed) {
            let hint = "use letters, digits, `_` and `-`";
            problems.error_hint(name.at, &path, "this is no name for a storage", hint);
        }
        let Typed::Object(object) = &value.typed else { continue };
        let mut object = object.clone();
        let target = mount_point(&mut object, &path, problems);
        let mount = match object.shape.name {
            "nfs" => nfs(&object, &path, target, problems),
            _ => local(&mut object, &path, target, context, problems),
        };
        let taken = |other: &Storage| target_of(&other.mount) == target_of(&mount) && !target_of(&mount).is_empty();
        if let Some(other) = all.iter().find(|other| taken(other)) {
            let message = format!("storage `{}` is mounted there already", other.name);
            let hint = "give every storage a `mount_point` of its own";
            problems.error_hint(object.at("mount_point"), &format!("{path}.mount_point"), message, hint);
        }
        all.push(Storage { name: name.text.clone(), json: dump::python(&object), mount });
    }
    all
}

fn target_of(mount: &Mount) -> &str {
    match mount {
        Mount::Volume { target, .. } | Mount::Bind { target, .. } | Mount::Other { target, .. } => target,
    }
}

fn set(object: &mut Object, field: &str, text: &str) {
    if let Some(value) = object.get_mut(field) {
        value.typed = Typed::Text(text.to_owned());
    }
}

fn mount_point(object: &mut Object, path: &str, problems: &mut Problems<'_>) -> String {
    let Some(text) = object.text("mount_point").map(str::to_owned) else { return String::new() };
    let normal = normal_path(&text);
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-'));
    let problem = if text.contains("..") {
        "must not hold `..`"
    } else if !normal.starts_with('/') {
        "must be an absolute path in the container"
    } else if normal.contains(odd) {
        "may hold letters, digits, `.`, `_`, `-` and `/` only"
    } else if normal.chars().count() > MAX_MOUNT_POINT {
        "is longer than 255 characters"
    } else {
        set(object, "mount_point", &normal);
        return normal;
    };
    let hint = "write where it appears in the container, such as `/data`";
    problems.error_hint(object.at("mount_point"), &format!("{path}.mount_point"), problem, hint);
    String::new()
}

fn nfs(object: &Object, path: &str, target: String, problems: &mut Problems<'_>) -> Mount {
    let server = object.text("server").unwrap_or_default();
    if object.text("server").is_some() && !is_server(server) {
        problems.error_hint(
            object.at("server"),
            &format!("{path}.server"),
            "is neither a host name nor an IP address",
            "write an IPv6 address in brackets",
        );
    }
    let remote = object.text("remote_path").unwrap_or_default();
    if object.text("remote_path").is_some() && !remote.starts_with('/') {
        let hint = "begin it with `/`, such as `/exports/press`";
        problems.error_hint(object.at("remote_path"), &format!("{path}.remote_path"), "must be an absolute path", hint);
    }
    for (index, value) in object.list("mount_options").iter().enumerate() {
        let Typed::Text(text) = &value.typed else { continue };
        if let Some(name) = text.split(',').find_map(address_option) {
            problems.error_hint(
                value.at,
                &format!("{path}.mount_options[{index}]"),
                format!("`{name}=` names another server than `server`"),
                "leave the option out, and write the address as `server`",
            );
        }
    }
    let given: Vec<&str> = object
        .list("mount_options")
        .iter()
        .filter_map(|value| match &value.typed {
            Typed::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let mut options = vec![format!("addr={server}")];
    options.extend(given.iter().map(|option| (*option).to_owned()));
    if !given.iter().any(|option| option.starts_with("nfsvers=")) {
        options.push("nfsvers=4".into());
    }
    Mount::Volume {
        source: volume_name(server, remote, &given),
        target,
        driver: "local".into(),
        options: BTreeMap::from([
            ("type".into(), "nfs".into()),
            ("o".into(), options.join(",")),
            ("device".into(), format!(":{remote}")),
        ]),
        read_only: false,
    }
}

/// The name of a mount option that says where the server is, if it is one: it would win over `server`, which is what is
/// checked and shown.
fn address_option(option: &str) -> Option<&'static str> {
    let name = option.trim().split('=').next().unwrap_or_default().trim_end();
    ["addr", "mountaddr", "mounthost"].into_iter().find(|known| name.eq_ignore_ascii_case(known))
}

/// A volume keeps the options of its first use, so its name holds a hash of them.
fn volume_name(server: &str, remote: &str, options: &[&str]) -> String {
    let mut name = format!("nfs_{}_{}", server.replace('.', "_"), remote.trim_matches('/').replace('/', "_"));
    if !options.is_empty() {
        let mut sorted = options.to_vec();
        sorted.sort_unstable();
        let hash = Sha1::digest(sorted.join(",").as_bytes());
        name.push('_');
        name.extend(hash.iter().take(4).map(|byte| format!("{byte:02x}")));
    }
    name
}

fn is_server(text: &str) -> bool {
    let label = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    in_brackets.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
        || text.split('.').all(label)
}

fn local(
    object: &mut Object,
    path: &str,
    target: String,
    context: &ParseContext,
    problems: &mut Problems<'_>,
) -> Mount {
    if context.platform == PlatformKind::Swarm {
        let hint = "a directory of one host is not there on the other nodes; use `nfs`";
        problems.error_hint(
            object.at("type"),
            &format!("{path}.type"),
            "`local` storage is for the docker platform only",
            hint,
        );
    }
    let source = object.text("local_path").map(normal_path).unwrap_or_default();
    if let Some(text) = object.text("local_path") {
        let problem = if !text.starts_with('/') {
            Some("must be an absolute path on the host")
        } else if context.platform == PlatformKind::Docker && !(context.directory_exists)(&source) {
            Some("is not a directory on this host")
        } else {
            None
        };
        if let Some(problem) = problem {
            let hint = "name a folder that is there, such as `/srv/press`, or make it first";
            problems.error_hint(object.at("local_path"), &format!("{path}.local_path"), problem, hint);
        }
    }
    set(object, "local_path", &source);
    Mount::Bind { source, target, read_only: false }
}

/// A path without `.`, `..` and doubled slashes, as Python's `posixpath.normpath` gives it: two leading
/// slashes stay two.
pub(super) fn normal_path(path: &str) -> String {
    let slashes = path.bytes().take_while(|byte| *byte == b'/').count();
    let root = match slashes {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if root.is_empty() && parts.last().is_none_or(|last| *last == "..") => parts.push(part),
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let normal = format!("{root}{}", parts.join("/"));
    if normal.is_empty() { ".".into() } else { normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_as_python_does() {
        for (path, normal) in [
            ("", "."),
            ("/", "/"),
            ("//m", "//m"),
            ("///m", "/m"),
            ("/mnt//data/./x/", "/mnt/data/x"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("../a", "../a"),
            ("m", "m"),
        ] {
            assert_eq!(normal_path(path), normal, "{path}");
        }
    }

    #[test]
    fn the_volume_name_holds_a_hash_of_the_options_whatever_their_order() {
        assert_eq!(volume_name("10.1.2.3", "/export/", &["rw", "noatime", "soft"]), "nfs_10_1_2_3_export_da68fc60");
        assert_eq!(volume_name("10.1.2.3", "/export/", &["soft", "rw", "noatime"]), "nfs_10_1_2_3_export_da68fc60");
        assert_eq!(volume_name("nas.plant.example", "/exp/logs", &[]), "nfs_nas_plant_example_exp_logs");
    }

    #[test]
    fn servers_are_host_names_or_addresses() {
        for server in ["nas", "-nas", "nas.plant.example", "10.1.2.3", "[fe80::1]", "xn--bcher-kva"] {
            assert!(is_server(server), "{server}");
        }
        for server in ["", "a..b", "nas_1", "fe80::1", "[]", "nas:/x", "n as"] {
            assert!(!is_server(server), "{server}");
        }
    }
}
