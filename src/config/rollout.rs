//! How changes go out whose manifests say nothing of it.

use std::num::NonZeroU32;

use super::ConfigError;
use super::values::{Reader, invalid};
use crate::model::rollout::MOST_AT_A_TIME;
use crate::model::{RolloutPolicy, RolloutSettings, parse_duration};

impl Reader<'_> {
    pub(super) fn rollout(&self) -> Result<RolloutPolicy, ConfigError> {
        let Some(found) = self.setting("--rollout", "OFOP_ROLLOUT") else { return Ok(RolloutPolicy::default()) };
        parse(&found.text).map_err(|reason| {
            let hint = "write `off`, or some of `max_unhealthy=25%,batch=5,soak=10s,canary=app/PRESS-1`";
            invalid(found.from.clone(), reason, hint)
        })
    }
}

/// `off`, or what differs from the default as `NAME=VALUE` with commas between; canaries with `+` between.
fn parse(text: &str) -> Result<RolloutPolicy, String> {
    if text.trim() == "off" {
        return Ok(RolloutPolicy::Off);
    }
    let mut settings = RolloutSettings::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{}` is not `NAME=VALUE`", part.trim()))?;
        let value = value.trim();
        match name.trim() {
            "max_unhealthy" => {
                settings.max_unhealthy = value.parse().map_err(|error| format!("max_unhealthy `{value}` {error}"))?;
            }
            "batch" => {
                let batch =
                    value.parse::<u32>().ok().filter(|batch| *batch <= MOST_AT_A_TIME).and_then(NonZeroU32::new);
                let wrong = || format!("batch `{value}` is not a number from 1 to {MOST_AT_A_TIME}");
                settings.batch = Some(batch.ok_or_else(wrong)?);
            }
            "soak" => settings.soak = parse_duration(value).ok_or_else(|| format!("soak `{value}` is not a time"))?,
            "canary" => {
                for id in value.split('+') {
                    let id = id.trim();
                    settings.canary.insert(id.parse().map_err(|_| format!("canary `{id}` is not KIND/UUID"))?);
                }
            }
            name => return Err(format!("there is no `{name}` in a rollout")),
        }
    }
    Ok(RolloutPolicy::Batches(settings))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Share;

    #[test]
    fn what_is_said_goes_before_the_default() {
        assert_eq!(parse("off"), Ok(RolloutPolicy::Off));
        let Ok(RolloutPolicy::Batches(settings)) = parse("max_unhealthy=10%, batch=3,soak=1m,canary=app/A+app/B")
        else {
            panic!("it is one");
        };
        assert_eq!((settings.max_unhealthy, settings.batch), (Share::Percent(10), NonZeroU32::new(3)));
        assert_eq!((settings.soak, settings.canary.len()), (Duration::from_secs(60), 2));
        assert_eq!(parse("soak=30s"), {
            Ok(RolloutPolicy::Batches(RolloutSettings { soak: Duration::from_secs(30), ..RolloutSettings::default() }))
        });
    }

    #[test]
    fn what_is_no_rollout_is_refused() {
        for text in ["", "on", "batch", "batch=0", "batch=501", "max_unhealthy=0%", "soak=soon", "canary=PRESS", "x=1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
