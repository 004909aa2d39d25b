//! A message of the queue: an alert, and what it does to its rollout's incident.

use crate::incident::{self, Effect};
use serin_core::alert::{Alert, LONGEST_REASON};

/// An alert on its way.
pub(crate) struct Message {
    pub(crate) alert: Alert,
    /// Its JSON as it came, but for a reason that does not end: others may publish to the topic too.
    pub(crate) body: String,
    pub(crate) effect: Effect,
}

impl Message {
    /// `None` if it is no alert.
    pub(crate) fn parse(body: String) -> Option<Message> {
        let mut alert: Alert = serde_json::from_str(&body).ok()?;
        let end = alert.reason.char_indices().nth(LONGEST_REASON).map(|(end, _)| end);
        let body = match end {
            None => body,
            Some(end) => {
                alert.reason.truncate(end);
                serde_json::to_string(&alert).ok()?
            }
        };
        Some(Message { effect: incident::effect(&alert), alert, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::samples::rollback;
    use serde_json::{Value, json};

    #[test]
    fn a_reason_that_does_not_end_is_cut() {
        let mut alert = serde_json::to_value(rollback()).unwrap();
        alert["reason"] = json!("ü".repeat(5_000));
        let sent: Value = serde_json::from_str(&Message::parse(alert.to_string()).unwrap().body).unwrap();
        assert_eq!(sent["reason"].as_str().unwrap().chars().count(), 1_000);
        alert["reason"] = json!("short");
        assert_eq!(Message::parse(alert.to_string()).unwrap().body, alert.to_string());
        assert!(Message::parse(r#"{"flow_id": "main_ivr"}"#.to_owned()).is_none());
    }
}
