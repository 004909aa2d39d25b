//! Notices that were recorded and not sent yet. At least once, in no hurry, never in the way.

use crate::ports::{Ledger, Notifier};

/// Publishes what is waiting; returns how many went out. What fails stays for the next tick.
pub async fn send(ledger: &impl Ledger, notifier: &impl Notifier) -> usize {
    let waiting = match ledger.outbox().await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::error!(%error, "outbox not read; its notices go out at the next tick");
            return 0;
        }
    };
    // As it happened: flow and rollout, then revision as a number.
    let mut waiting = waiting;
    waiting.sort_by_key(|notice| order(&notice.id));
    let mut sent = 0;
    for notice in waiting {
        if let Err(error) = notifier.publish(&notice).await {
            tracing::error!(notice = notice.id, error, "notice not published; the next tick tries again");
            continue;
        }
        sent += 1;
        if let Err(error) = ledger.sent(&notice).await {
            tracing::warn!(notice = notice.id, %error, "notice will be published again under the same dedup key");
        }
    }
    sent
}

/// `flow/rollout/revision/topic`, so that the tenth comes after the ninth.
fn order(id: &str) -> (String, u64, String) {
    let mut parts = id.rsplitn(3, '/');
    let (topic, revision, rollout) = (parts.next(), parts.next(), parts.next());
    (rollout.unwrap_or_default().to_owned(), revision.and_then(|r| r.parse().ok()).unwrap_or(0), topic.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn the_tenth_notice_comes_after_the_ninth() {
        assert!(order("main_ivr/r-20261120-1/9/alert") < order("main_ivr/r-20261120-1/10/alert"));
        assert!(order("main_ivr/r-20261120-1/12/alert") < order("main_ivr/r-20261120-2/2/alert"));
    }
}
