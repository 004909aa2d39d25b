//! Notices that were recorded and not sent yet. At least once, in no hurry, never in the way.
//!
//! A thousand rollouts that roll back at once are one story, and nobody reads a thousand alerts: a tick publishes so many, the critical
//! ones first, and says how many wait. What wakes the executor is never held back.

use crate::ports::{Ledger, Notice, Notifier, Topic};
use crate::record::notice_of;
use serin_core::alert::{Alert, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// Alerts that a tick publishes.
pub const PER_TICK: usize = 50;

/// What became of the notices that waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Published now.
    pub published: usize,
    /// Not published: refused by the topic, or more than a tick may.
    pub waiting: usize,
}

/// Publishes what is waiting, and of the alerts as many as a tick may. What fails or is too much stays for the next tick.
pub async fn send(ledger: &impl Ledger, notifier: &impl Notifier) -> Sent {
    let (sent, later) = publish(ledger, notifier, PER_TICK).await;
    if !later.is_empty()
        && let Err(error) = notifier.publish(&storm(&later)).await
    {
        tracing::error!(waiting = later.len(), error, "alerts wait, and that they do was not published; the next tick tries again");
    }
    sent
}

/// As [`send`], but leaves more alerts than a tick may publish to the ticks: for runs that are as many as there are rollbacks.
pub async fn send_few(ledger: &impl Ledger, notifier: &impl Notifier) -> Sent {
    publish(ledger, notifier, 0).await.0
}

/// Publishes all wake-ups, and all alerts unless they are more than a tick may publish: then so many of them. Returns how many went
/// out and how many did not, and the alerts that wait for being too many.
async fn publish(ledger: &impl Ledger, notifier: &impl Notifier, of_too_many: usize) -> (Sent, Vec<Notice>) {
    let waiting = match ledger.outbox().await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::error!(%error, "outbox not read; its notices go out at the next tick");
            return (Sent::default(), Vec::new());
        }
    };
    let (mut notices, mut alerts): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|notice| notice.topic == Topic::Rollback);
    sort(&mut alerts);
    let later = if alerts.len() > PER_TICK { alerts.split_off(of_too_many) } else { Vec::new() };
    notices.extend(alerts);
    let mut sent = Sent { published: 0, waiting: later.len() };
    for notice in notices {
        if let Err(error) = notifier.publish(&notice).await {
            tracing::error!(notice = notice.id, error, "notice not published; the next tick tries again");
            sent.waiting += 1;
            continue;
        }
        sent.published += 1;
        if let Err(error) = ledger.sent(&notice).await {
            tracing::warn!(notice = notice.id, %error, "notice will be published again under the same dedup key");
        }
    }
    (sent, later)
}

/// Critical alerts first, with what happened before them in their rollouts; each rollout's as they happened.
fn sort(alerts: &mut [Notice]) {
    let mut last_critical: BTreeMap<String, u64> = BTreeMap::new();
    for notice in alerts.iter().filter(|notice| attribute(notice, "severity") == Severity::Critical.name()) {
        let (rollout, revision) = place(&notice.id);
        let last = last_critical.entry(rollout).or_default();
        *last = revision.max(*last);
    }
    alerts.sort_by_cached_key(|notice| {
        let (rollout, revision) = place(&notice.id);
        let is_urgent = last_critical.get(&rollout).is_some_and(|last| revision <= *last);
        (!is_urgent, rollout, revision)
    });
}

/// Rollout and revision of `flow/rollout/revision/topic`; a number, so that the tenth comes after the ninth.
fn place(id: &str) -> (String, u64) {
    let mut parts = id.rsplitn(3, '/').skip(1);
    let (revision, rollout) = (parts.next(), parts.next());
    (rollout.unwrap_or_default().to_owned(), revision.and_then(|r| r.parse().ok()).unwrap_or(0))
}

fn attribute<'a>(notice: &'a Notice, name: &str) -> &'a str {
    notice.attributes.get(name).map_or("", String::as_str)
}

/// Says that these wait.
fn storm(waiting: &[Notice]) -> Notice {
    let flows: BTreeSet<&str> = waiting.iter().map(|notice| attribute(notice, "flow")).collect();
    let times = waiting.iter().filter_map(|notice| serde_json::from_str::<Alert>(&notice.body).ok()).map(|alert| alert.timestamp);
    notice_of(&Alert::storm(waiting.len(), flows.len(), times.max().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(id: &str, severity: Severity) -> Notice {
        let attributes = BTreeMap::from([("severity".to_owned(), severity.name().to_owned())]);
        Notice { id: id.to_owned(), topic: Topic::Alerts, subject: String::new(), body: String::new(), attributes }
    }

    #[test]
    fn the_tenth_notice_comes_after_the_ninth() {
        assert!(place("main_ivr/r-20261120-1/9/alert") < place("main_ivr/r-20261120-1/10/alert"));
        assert!(place("main_ivr/r-20261120-1/12/alert") < place("main_ivr/r-20261120-2/2/alert"));
    }

    #[test]
    fn what_is_critical_comes_first_and_never_before_what_happened_before_it() {
        let [info, critical] = [Severity::Info, Severity::Critical];
        let mut alerts =
            [alert("a/r/1/alert", info), alert("b/r/10/alert", critical), alert("b/r/9/alert", info), alert("b/r/11/alert", info)];
        sort(&mut alerts);
        assert_eq!(alerts.map(|notice| notice.id), ["b/r/9/alert", "b/r/10/alert", "a/r/1/alert", "b/r/11/alert"]);
    }
}
