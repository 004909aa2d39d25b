//! From conversations to handle times and queues, within a budget of pages, and never in part.

#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use serin_controller::ports::{Analytics, CohortFlows};
use serin_core::measurement::{Counts, Queue, Times, Window};
use serin_genesys::{Genesys, Settings};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use support::{JumpingClock, Planned, Stub, Vault, broken, client, ok, refusal, text};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const COUNTS: &str = "POST /api/v2/analytics/flows/aggregates/query";
const DETAILS: &str = "POST /api/v2/analytics/conversations/details/query";

/// What was said at the level of a warning.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0 += &format!("{field} {value:?} ");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn at(time: &str) -> Timestamp {
    format!("2026-11-20T{time}Z").parse().expect("a time")
}

fn cohorts(number: usize) -> CohortFlows {
    let named = |name: &str| if number == 0 { name.to_owned() } else { format!("{name}{number}") };
    CohortFlows { stable: (named("blue"), "14.0".into()), canary: (named("green"), "3.0".into()), outcomes: None }
}

/// Ten calls of each side in every minute from 10:00 to 10:05.
fn counted(rollouts: usize) -> String {
    let group = |flow: String, version: &str| {
        let data = |minute: i32| {
            let start = at("10:00:00") + SignedDuration::from_mins(1) * minute;
            let interval = format!("{start:.3}/{:.3}", start + SignedDuration::from_mins(1));
            json!({"interval": interval, "metrics": [{"metric": "tFlow", "stats": {"count": 10}}]})
        };
        let of = json!({"flowId": flow, "flowVersion": version, "exitReason": "FLOW_DISCONNECT"});
        json!({"group": of, "data": (0..5).map(data).collect::<Vec<_>>()})
    };
    let pair = |n| [group(cohorts(n).stable.0, "14.0"), group(cohorts(n).canary.0, "3.0")];
    json!({"results": (0..rollouts).flat_map(pair).collect::<Vec<_>>()}).to_string()
}

/// A full page of canary conversations of 60 s, one a second, the last of them ending at `last`.
fn page(last: &str, name: &str, conversations: i32) -> Planned {
    let one = |n: i32| {
        json!({"conversationId": format!("{name}-{n}"), "conversationEnd": format!("{:.3}", at(last) - SignedDuration::from_secs(1) * n),
            "participants": [{"sessions": [{"flow": {"flowId": "green", "flowVersion": "3.0"}, "metrics": [{"name": "tHandle", "value": 60_000}]}]}]})
    };
    text(200, &json!({"conversations": (0..conversations).map(one).collect::<Vec<_>>(), "totalHits": 1000}).to_string())
}

struct Measured {
    windows: Vec<Window>,
    asked: Vec<Value>,
    said: Vec<String>,
}

impl Measured {
    fn handled(&self) -> Vec<Option<u32>> {
        self.windows.iter().map(|w| w.counts.canary.times.map(|t| t.handled)).collect()
    }

    /// The calls themselves are measured, whatever became of the details.
    fn is_counted(&self) -> bool {
        self.windows.len() == 5 && self.windows.iter().all(|w| w.counts.canary.calls == 10 && w.counts.stable.calls == 10)
    }
}

async fn measured<const N: usize>(answers: [Planned; N], settings: impl Fn(Settings) -> Settings) -> Measured {
    let said = Said::default();
    let _guard = tracing::subscriber::set_default(said.clone());
    let stub = Stub::start().await.on(COUNTS, [text(200, &counted(1))]).on(DETAILS, answers);
    let settings = settings(Settings::new(&stub.base, None).unwrap());
    let genesys = Genesys::new(settings, Vault::default(), JumpingClock::new()).unwrap();
    let mut measured = genesys.measure(&[cohorts(0)], at("10:00:00"), at("10:05:00")).await.unwrap();
    let asked = stub.asked(DETAILS).iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    let said = said.0.lock().unwrap().clone();
    Measured { windows: measured.remove(0), asked, said }
}

#[tokio::test]
async fn conversations_become_times_and_queues_of_the_minute_in_which_they_ended() {
    let stub = Stub::start().await.on(COUNTS, [ok("aggregates.json")]).on(DETAILS, [ok("details.json")]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    let measured = genesys.measure(&[cohorts(0)], at("10:00:00"), at("10:05:00")).await.unwrap();
    let [first, third] = measured[0][..] else { panic!("{measured:?}") };
    // What ended before 10:00 or at 10:03 belongs to other minutes; 10:03 has no calls that left a flow.
    assert_eq!(first.counts.stable.calls, 61);
    assert_eq!(first.counts.stable.times, Some(Times { of: 61, handled: 1, handle_ms: 10_000, handle_s2: 100 }));
    assert_eq!(first.counts.stable.queue, Some(Queue { of: 61, offered: 1, abandoned: 1, answered: 0, answer_ms: 0 }));
    assert_eq!(first.counts.canary.times, Some(Times { of: 10, ..Times::default() }));
    // Two agents had one caller: 150.5 s and 49.5 s. Other versions, and who was in both flows, tell nothing.
    assert_eq!(third.counts.canary.times, Some(Times { of: 0, handled: 1, handle_ms: 200_000, handle_s2: 40_000 }));
    assert_eq!(third.counts.canary.queue, Some(Queue { of: 0, offered: 1, abandoned: 0, answered: 1, answer_ms: 42_000 }));
    assert_eq!(third.counts.stable.times, Some(Times { of: 40, ..Times::default() }));
    let asked: Value = serde_json::from_str(&stub.asked(DETAILS)[0].body).unwrap();
    assert_eq!(asked["interval"], "2026-11-20T07:50:00.000Z/2026-11-20T10:05:00.000Z");
    assert_eq!(asked["paging"], json!({"pageSize": 100, "pageNumber": 1}));
    assert_eq!((&asked["order"], &asked["orderBy"]), (&json!("desc"), &json!("conversationEnd")));
    let flows: Vec<&Value> = asked["segmentFilters"][0]["predicates"].as_array().unwrap().iter().map(|p| &p["value"]).collect();
    assert_eq!(flows, ["blue", "green"]);
}

#[tokio::test]
async fn pages_are_read_until_they_reach_back_far_enough() {
    // 100 s each; the third page is not full. The second page begins with what a conversation that ended meanwhile pushed there.
    let mut second: Value = serde_json::from_str(page("10:03:19", "b", 99).body()).unwrap();
    let again = json!({"conversationId": "a-99", "conversationEnd": at("10:03:20").to_string(), "participants": []});
    second["conversations"].as_array_mut().unwrap().insert(0, again);
    let answers = [page("10:04:59", "a", 100), text(200, &second.to_string()), page("10:01:40", "c", 41)];
    let measured = measured(answers, |s| s).await;
    assert_eq!(measured.handled(), [Some(0), Some(60), Some(60), Some(60), Some(60)]);
    let numbers: Vec<&Value> = measured.asked.iter().map(|asked| &asked["paging"]["pageNumber"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(measured.said.is_empty(), "{:?}", measured.said);
    let minute = measured.windows[3].counts;
    assert_eq!(minute.canary.times, Some(Times { of: 10, handled: 60, handle_ms: 3_600_000, handle_s2: 216_000 }));
    assert_eq!(minute.stable.times, Some(Times { of: 10, ..Times::default() }));
    // Nobody was in a queue, so far as was told.
    assert_eq!(minute.canary.queue, None);
}

#[tokio::test]
async fn a_minute_beyond_the_budget_is_not_known_and_that_is_said_once() {
    let answers = [page("10:04:59", "a", 100), page("10:03:19", "b", 100), page("10:01:39", "c", 100)];
    let measured = measured(answers, |s| s.with_detail_pages(2)).await;
    assert_eq!(measured.asked.len(), 2);
    // The second page ends within 10:01: that minute was not read whole.
    assert_eq!(measured.handled(), [None, None, Some(60), Some(60), Some(60)]);
    assert!(measured.is_counted());
    assert_eq!(measured.said.len(), 1, "{:?}", measured.said);
    assert!(measured.said[0].contains("2 pages of conversation details reach back to 2026-11-20T10:02:00Z only"), "{:?}", measured.said);
    let none = self::measured([page("10:04:59", "a", 100)], |s| s.with_detail_pages(0)).await;
    assert!(none.asked.is_empty() && none.said.is_empty() && none.is_counted() && none.handled() == [None; 5]);
}

#[tokio::test]
async fn what_cannot_be_read_stays_unknown_and_the_calls_are_counted_all_the_same() {
    let unordered = page("10:04:00", "a", 10);
    let mut turned: Value = serde_json::from_str(unordered.body()).unwrap();
    turned["conversations"].as_array_mut().unwrap().reverse();
    for (answer, why) in [
        (refusal(403, "error_403.json"), "analytics:conversationDetail:view"),
        (text(200, "<html>"), "not the expected json"),
        (text(500, ""), "500"),
        (refusal(429, "error_429.json").after("42"), "fewer requests"),
        (text(200, &turned.to_string()), "order of their ends"),
        (text(200, r#"{"conversations": [{"conversationId": "running"}]}"#), "order of their ends"),
    ] {
        let measured = measured([answer], |s| s).await;
        assert!(measured.is_counted() && measured.handled() == [None; 5], "{why}");
        assert_eq!(measured.said.len(), 1, "{why}: {:?}", measured.said);
        assert!(measured.said[0].contains(why), "{:?}", measured.said);
    }
    // What was read whole before the answers broke off is known.
    let half = measured([page("10:04:59", "a", 100), broken()], |s| s.with_patience(SignedDuration::from_secs(3))).await;
    assert!(half.is_counted());
    assert_eq!(half.handled(), [None, None, None, None, Some(60)]);
    assert_eq!(half.said.len(), 1, "{:?}", half.said);
}

#[tokio::test]
async fn a_flow_that_hands_nobody_to_people_has_no_times_rather_than_empty_ones() {
    let measured = measured([text(200, r#"{"totalHits": 0}"#)], |s| s).await;
    assert!(measured.is_counted() && measured.handled() == [None; 5] && measured.said.is_empty());
    assert_eq!(measured.asked.len(), 1);
}

#[tokio::test]
async fn requests_of_a_tick_are_bounded_however_many_flows_there_are() {
    for (rollouts, counts, details) in [(1, 1, 12), (50, 1, 12), (120, 2, 12), (1000, 10, 12)] {
        let full = page("10:04:59", "a", 100);
        // The same page for ever: there is no end to reach.
        let stub = Stub::start().await.on(COUNTS, [text(200, &counted(rollouts))]).on(DETAILS, [full]);
        let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
        let flows: Vec<CohortFlows> = (0..rollouts).map(cohorts).collect();
        let measured = genesys.measure(&flows, at("10:00:00"), at("10:05:00")).await.unwrap();
        assert_eq!((stub.asked(COUNTS).len(), stub.asked(DETAILS).len()), (counts, details), "{rollouts} rollouts");
        assert!(measured.iter().all(|windows| windows.len() == 5 && windows[0].counts.canary != Counts::default()));
    }
}

#[tokio::test]
async fn minutes_that_earlier_ticks_have_told_are_not_asked_for_again() {
    let stub = Stub::start().await.on(COUNTS, [text(200, &counted(1))]).on(DETAILS, [page("10:04:59", "a", 60)]);
    let genesys = client(&stub, &JumpingClock::new(), &Vault::default());
    // An hour later: the recorded minutes are older than the details reach.
    genesys.measure(&[cohorts(0)], at("10:00:00"), at("11:05:00")).await.unwrap();
    assert!(stub.asked(DETAILS).is_empty());
}
