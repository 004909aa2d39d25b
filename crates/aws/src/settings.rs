//! Settings of the functions. One that is missing or wrong stops the start, by name, with what it accepts.

use serin_controller::evaluate::RolloutClock;

/// A setting that must be there.
pub fn setting(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(format!("setting {name} is missing; the template sets it")),
    }
}

/// What the functions that act on rollouts are told by their environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the stage.
    pub stage: String,
    /// The ledger's table.
    pub ledger_table: String,
    /// ARN of the topic for people and their tools.
    pub alert_topic: String,
    /// ARN of the executor's topic.
    pub rollback_topic: String,
    /// Base URL of Genesys Cloud's API.
    pub genesys_api: String,
    /// Base URL of its login; empty where it follows from the API's.
    pub genesys_login: String,
    /// Name of the SecureString parameter with the OAuth client.
    pub genesys_secret: String,
    /// Which clock rollouts run by.
    pub clock: RolloutClock,
}

impl Settings {
    /// Reads them all.
    pub fn from_environment() -> Result<Settings, String> {
        let stage = setting("STAGE")?;
        Ok(Settings {
            ledger_table: setting("LEDGER_TABLE")?,
            alert_topic: setting("ALERT_TOPIC_ARN")?,
            rollback_topic: setting("ROLLBACK_TOPIC_ARN")?,
            genesys_api: setting("GENESYS_API")?,
            genesys_login: std::env::var("GENESYS_LOGIN").unwrap_or_default(),
            genesys_secret: setting("GENESYS_SECRET")?,
            clock: clock(std::env::var("CLOCK").ok().as_deref(), &stage)?,
            stage,
        })
    }
}

/// Which clock rollouts run by; anything but the wall clock is for the local stage.
pub fn clock(value: Option<&str>, stage: &str) -> Result<RolloutClock, String> {
    match (value, stage) {
        (None | Some("" | "wall"), _) => Ok(RolloutClock::Wall),
        (Some("event"), "local") => Ok(RolloutClock::Event),
        (Some("event"), _) => {
            Err(format!("setting CLOCK `event` is not accepted on stage {stage}: only the stage `local` runs by the events' time"))
        }
        (Some(other), _) => Err(format!("setting CLOCK `{other}` is not accepted: `wall` is, and `event` on the stage `local`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_local_stage_runs_by_the_events_time() {
        assert_eq!(clock(None, "prod"), Ok(RolloutClock::Wall));
        assert_eq!(clock(Some("event"), "local"), Ok(RolloutClock::Event));
        assert!(clock(Some("event"), "prod").unwrap_err().contains("stage prod"));
        assert!(clock(Some("sundial"), "local").unwrap_err().contains("`sundial`"));
    }
}
