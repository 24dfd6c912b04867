//! A plan as JSON, for programs: the shape is [`crate::model::plan_json`]'s, which the API shows as well.

use super::text::ShowSecrets;
use crate::model::Plan;
use crate::model::plan_json::{SecretValues, plan_json};

/// A plan as JSON.
pub fn to_json(plan: &Plan, secrets: ShowSecrets) -> serde_json::Value {
    let secrets = match secrets {
        ShowSecrets::No => SecretValues::Hidden,
        ShowSecrets::Yes => SecretValues::Shown,
    };
    // It cannot fail.
    serde_json::to_value(plan_json(plan, secrets)).unwrap_or_default()
}
