//! When changes may go out where manifests say nothing of it.

use super::ConfigError;
use super::values::{Reader, invalid};
use crate::model::Windows;

impl Reader<'_> {
    pub(super) fn windows(&self) -> Result<Windows, ConfigError> {
        let Some(found) = self.setting("--windows", "OFOP_WINDOWS") else { return Ok(Windows::default()) };
        found.text.parse().map_err(|error: crate::model::InvalidWindows| {
            invalid(
                found.from,
                error.to_string(),
                "write rules with `;` between them, such as \
                 `allow 0 22 * * MON-FRI for 6h in Europe/Berlin; deny 0 0 24 12 * for 7d in Europe/Berlin`",
            )
        })
    }
}
