//! Names that somebody may have meant.

use super::CliError;
use crate::model::ResourceId;
use crate::model::nearest::nearest;
use crate::report::Status;

/// The error for a resource that does not exist, with the one that was meant where there is one like it.
pub(super) fn unknown(id: &ResourceId, status: &Status) -> CliError {
    let hint = match meant(id, status) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`ofop get all` lists what is there".to_owned(),
    };
    CliError::usage(format!("{id} is neither described nor deployed"), hint)
}

/// The same uuid as another kind, or a name that is nearly the same.
fn meant(id: &ResourceId, status: &Status) -> Option<String> {
    let ids = || status.resources.iter().map(|resource| &resource.id);
    if let Some(other) = ids().find(|other| other.uuid == id.uuid) {
        return Some(other.to_string());
    }
    let names: Vec<String> = ids().map(ToString::to_string).collect();
    nearest(&id.to_string(), names.iter().map(String::as_str)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    #[test]
    fn slips_case_and_kind_find_what_was_meant() {
        let status = status(&["app/PRESS-7", "app/SCHEDULER", "device/CNC-1"]);
        for (wrong, right) in [
            ("app/press-7", Some("app/PRESS-7")),
            ("app/SHCEDULER", Some("app/SCHEDULER")),
            ("app/CNC-1", Some("device/CNC-1")),
            ("app/TOTALLY-ELSE", None),
        ] {
            assert_eq!(meant(&wrong.parse().unwrap(), &status).as_deref(), right, "{wrong}");
        }
    }
}
