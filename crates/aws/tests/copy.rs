//! What becomes of Parameter Store and of its copy in the ledger's table when something is written, when either of them fails, when what
//! was read lags and when somebody writes in between.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use serin_aws::ParameterStore;
use serin_controller::ports::Parameters;
use serin_core::projection::Seen;
use serin_core::rollout::FlowName;
use serin_core::weight::Weight;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const FLOW: &str = "main_ivr";
const REFUSED: (u16, &str) = (400, "AccessDeniedException");
const BROKEN: (u16, &str) = (500, "InternalServerError");

/// Parameter Store and a table, and what goes wrong with them.
#[derive(Default)]
struct Aws {
    parameters: BTreeMap<String, (String, i64)>,
    /// By sort key, as DynamoDB spells items.
    table: BTreeMap<String, Map<String, Value>>,
    /// Operations in their order, with what they are on.
    asked: Vec<String>,
    /// Operations that fail, by their name or the beginning of what is asked.
    failing: BTreeMap<&'static str, (u16, &'static str)>,
    /// Writes to Parameter Store are not answered before this is in the copy.
    waits_for: Option<(&'static str, &'static str)>,
    /// What somebody writes into the copy as soon as it was read.
    in_between: Option<Map<String, Value>>,
}

type Served = Result<Value, (u16, &'static str)>;

struct World {
    aws: Arc<Mutex<Aws>>,
    store: ParameterStore,
    flow: FlowName,
}

impl World {
    async fn new() -> World {
        let aws: Arc<Mutex<Aws>> = Arc::default();
        let seen = aws.clone();
        let serve = move |headers: HeaderMap, body: String| async move {
            let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap().to_owned();
            let asked: Value = serde_json::from_str(&body).unwrap();
            let answered = match operation.as_str() {
                "PutParameter" => put_parameter(&seen, &asked).await,
                _ => seen.lock().unwrap().serve(&operation, &asked),
            };
            match answered {
                Ok(answer) => (StatusCode::OK, answer.to_string()),
                Err((status, kind)) => (StatusCode::from_u16(status).unwrap(), json!({"__type": kind, "message": "injected"}).to_string()),
            }
        };
        let config = support::serve(axum::Router::new().fallback(serve)).await;
        World { aws, store: ParameterStore::new(&config, "prod".into(), "ledger".into()), flow: FLOW.parse().unwrap() }
    }

    fn aws(&self) -> MutexGuard<'_, Aws> {
        self.aws.lock().unwrap()
    }

    /// The copy of the flow is this.
    fn copied(&self, item: Value) {
        self.aws().table.insert(format!("FLOW#{FLOW}"), item_of(&item));
    }

    /// The copy of the flow: percentage, revision, rollout, halt.
    fn copy(&self) -> Value {
        self.aws().table.get(&format!("FLOW#{FLOW}")).map_or(Value::Null, |item| {
            Value::Object(
                item.iter().map(|(name, value)| (name.clone(), value["S"].as_str().map_or(value["N"].clone(), |s| json!(s)))).collect(),
            )
        })
    }

    fn parameter(&self, leaf: &str) -> Option<(String, i64)> {
        self.aws().parameters.get(&format!("/genesys/canary/prod/{FLOW}/{leaf}")).cloned()
    }

    fn has_parameter(&self, leaf: &str, value: &str, version: i64) {
        self.aws().parameters.insert(format!("/genesys/canary/prod/{FLOW}/{leaf}"), (value.to_owned(), version));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.aws().asked)
    }

    async fn put(&self, percent: f64, raise: bool) -> Result<i64, String> {
        let weight = Weight::try_from(percent).unwrap();
        self.store.put_percentage(&self.flow, weight, raise).await.map_err(|e| e.to_string())
    }

    /// The copy follows what was read.
    async fn follow(&self, seen: &Seen) -> Vec<String> {
        self.store.follow(&[(&self.flow, seen)]).await.iter().map(ToString::to_string).collect()
    }
}

/// Strings are texts, numbers are numbers.
fn item_of(plain: &Value) -> Map<String, Value> {
    let spelled = |value: &Value| if value.is_string() { json!({"S": value}) } else { json!({"N": value.to_string()}) };
    plain.as_object().unwrap().iter().map(|(name, value)| (name.clone(), spelled(value))).collect()
}

async fn put_parameter(aws: &Mutex<Aws>, asked: &Value) -> Served {
    let waits_for = aws.lock().unwrap().waits_for;
    if let Some((name, value)) = waits_for {
        let is_there = || aws.lock().unwrap().table.values().any(|item| item.get(name).is_some_and(|found| found["S"] == value));
        for _ in 0..100 {
            if is_there() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if !is_there() {
            return Err(REFUSED);
        }
    }
    aws.lock().unwrap().serve("PutParameter", asked)
}

impl Aws {
    fn serve(&mut self, operation: &str, asked: &Value) -> Served {
        let name = asked["Name"].as_str().or(asked["Key"]["sk"]["S"].as_str()).unwrap_or_default();
        let what = format!("{operation} {}", name.rsplit('/').next().unwrap()).trim_end().to_owned();
        self.asked.push(what.clone());
        if let Some((_, error)) = self.failing.iter().find(|(failing, _)| what.starts_with(*failing)) {
            return Err(*error);
        }
        match operation {
            "PutParameter" => {
                let version = self.parameters.get(name).map_or(1, |(_, version)| version + 1);
                self.parameters.insert(name.to_owned(), (asked["Value"].as_str().unwrap().to_owned(), version));
                Ok(json!({"Version": version}))
            }
            "GetParameters" => {
                let names = asked["Names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let found = names.filter_map(|name| Some((name, self.parameters.get(name)?)));
                let found: Vec<_> =
                    found.map(|(name, (value, version))| json!({"Name": name, "Value": value, "Version": version})).collect();
                Ok(json!({"Parameters": found, "InvalidParameters": []}))
            }
            "Query" => {
                assert_eq!((&asked["TableName"], &asked["ConsistentRead"]), (&json!("ledger"), &json!(true)));
                assert_eq!(asked["ExpressionAttributeValues"][":pk"], json!({"S": "PARAMETERS"}));
                let flows = self.table.iter().filter(|(sk, _)| sk.starts_with("FLOW#"));
                let keyed = |(sk, item): (&String, &Map<String, Value>)| {
                    let mut item = item.clone();
                    item.extend(item_of(&json!({"pk": "PARAMETERS", "sk": sk})));
                    item
                };
                let items: Vec<_> = flows.map(keyed).collect();
                if let Some(written) = self.in_between.take() {
                    self.table.entry(format!("FLOW#{FLOW}")).or_default().extend(written);
                }
                Ok(json!({"Items": items, "Count": items.len()}))
            }
            "UpdateItem" => self.update(asked),
            other => panic!("nobody asks for {other}"),
        }
    }

    /// As much of DynamoDB's expressions as is used.
    fn update(&mut self, asked: &Value) -> Served {
        assert_eq!((&asked["TableName"], &asked["Key"]["pk"]), (&json!("ledger"), &json!({"S": "PARAMETERS"})));
        let item = self.table.entry(asked["Key"]["sk"]["S"].as_str().unwrap().to_owned()).or_default();
        let named =
            |place: &str| asked["ExpressionAttributeNames"][place].as_str().unwrap_or_else(|| panic!("{place} in {asked}")).to_owned();
        let valued = |place: &str| match &asked["ExpressionAttributeValues"][place] {
            Value::Null => panic!("{place} in {asked}"),
            value => value.clone(),
        };
        let number = |value: &Value| value["N"].as_str().unwrap().parse::<i64>().unwrap();
        let holds = |term: &str| match term.strip_prefix("attribute_not_exists(") {
            Some(place) => !item.contains_key(&named(place.trim_end_matches(')'))),
            None => {
                let [place, operator, value] = term.split(' ').collect::<Vec<_>>()[..] else { panic!("{term}") };
                let (found, value) = (item.get(&named(place)), valued(value));
                found.is_some_and(|found| if operator == "<" { number(found) < number(&value) } else { *found == value })
            }
        };
        let condition = asked["ConditionExpression"].as_str().unwrap_or_default();
        let parts = condition.split(" AND ").filter(|part| !part.is_empty());
        let mut each = parts.map(|part| part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or(part));
        if !each.all(|part| part.split(" OR ").any(holds)) {
            return Err((400, "ConditionalCheckFailedException"));
        }
        let expression = asked["UpdateExpression"].as_str().unwrap();
        let (set, removed) = expression.split_once("REMOVE ").unwrap_or((expression, ""));
        for set in set.trim().trim_start_matches("SET ").split(", ").filter(|set| !set.is_empty()) {
            let (place, value) = set.split_once(" = ").unwrap();
            item.insert(named(place), valued(value));
        }
        for place in removed.split(", ").filter(|place| !place.is_empty()) {
            item.remove(&named(place));
        }
        Ok(json!({}))
    }
}

/// The `rollout` parameter of a rollout.
fn split(rollout: &str) -> String {
    format!(r#"{{"rollout":"{rollout}","labels":{{"stable":"v1","canary":"v2"}},"key":"{}"}}"#, "0".repeat(32))
}

fn seen(percentage: Option<(&str, i64)>) -> Seen {
    let percentage = percentage.map(|(text, version)| (text.to_owned(), version));
    Seen { percentage, rollout: Some(split("r-1")), halt: None }
}

#[tokio::test]
async fn a_zero_goes_to_both_at_once_and_then_the_copy_gets_its_version() {
    let world = World::new().await;
    world.has_parameter("percentage", "25", 6);
    world.copied(json!({"percentage": "25", "revision": 6}));
    world.aws().waits_for = Some(("percentage", "0"));
    assert_eq!(world.put(0.0, false).await, Ok(7), "Parameter Store answered only after the copy was written");
    assert_eq!(world.copy(), json!({"percentage": "0", "revision": "7"}));
    assert_eq!(world.parameter("percentage"), Some(("0".into(), 7)));
}

#[tokio::test]
async fn a_halt_goes_to_both_at_once_over_whatever_is_there() {
    let world = World::new().await;
    world.copied(json!({"percentage": "25", "revision": 900, "halt": "r-0"}));
    world.aws().waits_for = Some(("halt", "r-1"));
    world.store.put_halt(&world.flow, "r-1").await.unwrap();
    assert_eq!(world.copy(), json!({"percentage": "25", "revision": "900", "halt": "r-1"}));
    assert_eq!(world.parameter("halt"), Some(("r-1".into(), 1)));
}

#[tokio::test]
async fn whatever_becomes_of_the_one_the_other_is_lowered_and_halted_and_the_error_names_what_failed() {
    for failing in [&["PutParameter"][..], &["UpdateItem FLOW"], &["PutParameter", "UpdateItem FLOW"]] {
        let world = World::new().await;
        world.has_parameter("percentage", "25", 6);
        world.copied(json!({"percentage": "25", "revision": 6}));
        world.aws().failing = failing.iter().map(|operation| (*operation, REFUSED)).collect();
        let (zeroed, halted) = (world.put(0.0, false).await, world.store.put_halt(&world.flow, "r-1").await);
        for said in [zeroed.unwrap_err(), halted.unwrap_err().to_string()] {
            assert!(said.starts_with(&format!("parameter /genesys/canary/prod/{FLOW}/")), "{said}");
            assert_eq!(said.contains("its copy in table ledger"), failing.contains(&"UpdateItem FLOW"), "{said}");
            assert_eq!(said.contains("; its copy"), failing.len() == 2, "{said}");
        }
        let put = !failing.contains(&"PutParameter");
        assert_eq!(world.parameter("percentage").unwrap().0, if put { "0" } else { "25" });
        assert_eq!(world.parameter("halt").is_some(), put);
        let copied = !failing.contains(&"UpdateItem FLOW");
        assert_eq!(world.copy()["percentage"], if copied { "0" } else { "25" });
        assert_eq!(world.copy().get("halt").is_some(), copied);
        // A tick that reads what was not lowered does not lift what was.
        if copied {
            world.aws().failing.clear();
            assert!(world.follow(&seen(Some(("25", 6)))).await.is_empty());
            assert_eq!((&world.copy()["percentage"], &world.copy()["halt"]), (&json!("0"), &json!("r-1")));
        }
    }
}

#[tokio::test]
async fn a_raise_is_written_to_parameter_store_first_and_to_the_copy_with_its_version() {
    let world = World::new().await;
    world.has_parameter("percentage", "5", 6);
    world.copied(json!({"percentage": "5", "revision": 6}));
    assert_eq!(world.put(25.0, true).await, Ok(7));
    assert_eq!(world.asked(), ["PutParameter percentage", "UpdateItem FLOW#main_ivr"]);
    assert_eq!(world.copy(), json!({"percentage": "25", "revision": "7"}));
    // What Parameter Store did not take the copy does not get.
    world.aws().failing.insert("PutParameter", BROKEN);
    world.put(50.0, true).await.unwrap_err();
    assert_eq!(world.asked(), ["PutParameter percentage"], "and it is asked once");
    assert_eq!(world.copy(), json!({"percentage": "25", "revision": "7"}));
}

#[tokio::test]
async fn a_raise_that_comes_after_a_later_value_is_void() {
    let world = World::new().await;
    world.has_parameter("percentage", "5", 6);
    // Somebody took the calls away while the raise to version 7 was on its way to the copy.
    for later in [json!({"percentage": "0", "revision": 8}), json!({"percentage": "10", "revision": 7})] {
        world.has_parameter("percentage", "5", 6);
        world.copied(later.clone());
        assert_eq!(world.put(25.0, true).await, Ok(7), "it was written where it was ordered");
        assert_eq!(world.copy()["percentage"], later["percentage"]);
    }
}

#[tokio::test]
async fn a_raise_is_not_tried_again_and_a_lowering_is() {
    let world = World::new().await;
    world.has_parameter("percentage", "5", 6);
    world.copied(json!({"percentage": "5", "revision": 6}));
    world.aws().failing.insert("UpdateItem", BROKEN);
    let said = world.put(25.0, true).await.unwrap_err();
    assert!(said.contains("its copy in table ledger"), "{said}");
    assert_eq!(world.asked(), ["PutParameter percentage", "UpdateItem FLOW#main_ivr"]);
    assert_eq!((world.parameter("percentage").unwrap().0.as_str(), &world.copy()["percentage"]), ("25", &json!("5")));
    // The next tick finds that it was written, and brings it.
    world.aws().failing.clear();
    assert!(world.follow(&seen(Some(("25", 7)))).await.is_empty());
    assert_eq!((&world.copy()["percentage"], &world.copy()["revision"]), (&json!("25"), &json!("7")));

    world.asked();
    world.aws().failing.insert("UpdateItem", BROKEN);
    world.put(0.0, false).await.unwrap_err();
    assert!(world.asked().iter().filter(|asked| asked.starts_with("UpdateItem")).count() > 2);
}

#[tokio::test]
async fn a_lowering_to_more_than_nothing_goes_by_its_version_too() {
    let world = World::new().await;
    world.has_parameter("percentage", "25", 6);
    world.copied(json!({"percentage": "25", "revision": 6}));
    assert_eq!(world.put(10.0, false).await, Ok(7));
    assert_eq!(world.copy(), json!({"percentage": "10", "revision": "7"}));
    world.copied(json!({"percentage": "0", "revision": 9}));
    assert_eq!(world.put(8.0, false).await, Ok(8));
    assert_eq!(world.copy(), json!({"percentage": "0", "revision": "9"}));
}

#[tokio::test]
async fn a_split_begins_at_zero_in_both_and_in_the_copy_first() {
    let world = World::new().await;
    world.copied(json!({"percentage": "25", "revision": 6, "rollout": split("r-0")}));
    let said = world.store.put_rollout(&world.flow, &split("r-1")).await.unwrap_err().to_string();
    assert!(said.contains("not 0 yet"), "{said}");
    assert_eq!((world.copy()["rollout"].clone(), world.parameter("rollout")), (json!(split("r-0")), None));
    for begins in [json!({"percentage": "0", "revision": 7}), json!({})] {
        world.copied(begins);
        world.asked();
        world.store.put_rollout(&world.flow, &split("r-1")).await.unwrap();
        assert_eq!(world.asked(), ["UpdateItem FLOW#main_ivr", "PutParameter rollout"]);
        assert_eq!((world.copy()["rollout"].clone(), world.parameter("rollout").unwrap().0), (json!(split("r-1")), split("r-1")));
    }
    world.aws().failing.insert("UpdateItem", REFUSED);
    world.store.put_rollout(&world.flow, &split("r-2")).await.unwrap_err();
    assert_eq!(world.parameter("rollout").unwrap().0, split("r-1"), "what Parameter Store has would not be written again");
}

#[tokio::test]
async fn a_heartbeat_is_written_to_both_and_neither_failure_is_silent() {
    let at = "2026-11-22T09:00:00.75Z".parse().unwrap();
    let world = World::new().await;
    world.store.beat(at).await.unwrap();
    assert_eq!(world.aws().parameters["/genesys/canary/prod/heartbeat"].0, "2026-11-22T09:00:00Z");
    assert_eq!(world.aws().table["HEARTBEAT"]["at"], json!({"S": "2026-11-22T09:00:00Z"}));
    for failing in ["PutParameter heartbeat", "UpdateItem HEARTBEAT"] {
        world.aws().failing = [(failing, REFUSED)].into();
        world.asked();
        let said = world.store.beat(at).await.unwrap_err().to_string();
        assert!(said.starts_with("parameter /genesys/canary/prod/heartbeat: "), "{said}");
        assert_eq!(world.asked().len(), 2, "each is tried");
    }
}

/// What the copy holds, what was read, and what the copy holds then; `None` where nothing is to be written.
struct Case(&'static str, Value, Seen, Option<Value>);

#[tokio::test]
async fn the_copy_follows_what_is_later_or_lower_and_no_reading_that_lags() {
    let (r1, r2) = (split("r-1"), split("r-2"));
    let with = |percentage: &str, revision: i64| json!({"percentage": percentage, "revision": revision, "rollout": r1});
    let reads = |percentage: &str, revision: &str| json!({"percentage": percentage, "revision": revision, "rollout": r1});
    let halted = |by: &str, seen: Seen| Seen { halt: Some(by.into()), ..seen };
    let of = |split: &str, seen: Seen| Seen { rollout: Some(split.into()), ..seen };
    let cases = [
        Case("a flow of before there was a copy", json!({}), seen(Some(("5", 3))), Some(reads("5", "3"))),
        Case("nothing differs", with("5", 3), seen(Some(("5", 3))), None),
        Case("nor does it in how a person spells it", with("5", 3), seen(Some((" 5.0", 3))), None),
        Case("a person's raise", with("5", 3), seen(Some(("25", 4))), Some(reads("25", "4"))),
        Case("a person's lowering", with("5", 3), seen(Some(("0.00", 4))), Some(reads("0", "4"))),
        Case("the same again", with("5", 3), seen(Some(("5", 4))), Some(reads("5", "4"))),
        Case("a reading that lags and is higher", with("5", 6), seen(Some(("25", 5))), None),
        Case("one that lags and is lower", with("25", 6), seen(Some(("5", 5))), Some(reads("5", "5"))),
        Case("and the reading after that", with("5", 5), seen(Some(("25", 6))), Some(reads("25", "6"))),
        Case("a zero whose version is not known", with("0", 6), seen(Some(("25", 6))), None),
        Case("what is no percentage", with("5", 3), seen(Some(("five", 4))), Some(json!({"revision": "4", "rollout": r1}))),
        Case("and is none again", json!({"revision": 4, "rollout": r1}), seen(Some(("five", 4))), None),
        Case("a percentage that was deleted", with("5", 3), seen(None), Some(json!({"rollout": r1}))),
        Case("one that there never was", json!({"rollout": r1}), seen(None), None),
        Case("one that was made again", json!({"rollout": r1}), seen(Some(("5", 1))), Some(reads("5", "1"))),
        Case(
            "a halt",
            with("5", 3),
            halted("r-1", seen(Some(("5", 3)))),
            Some({
                let mut halted = reads("5", "3");
                halted["halt"] = json!("r-1");
                halted
            }),
        ),
        Case("a halt of a rollout that is over", with("5", 3), halted("r-0", seen(Some(("5", 3)))), None),
        Case(
            "a halt that a reading does not show yet",
            json!({"percentage": "5", "revision": 3, "rollout": r1, "halt": "r-1"}),
            seen(Some(("5", 3))),
            None,
        ),
        Case(
            "another split",
            with("0", 3),
            of(&r2, seen(Some(("0", 4)))),
            Some(json!({"percentage": "0", "revision": "4", "rollout": r2})),
        ),
        Case("the split of a reading that lags", with("0", 6), of(&r2, seen(Some(("0", 5)))), None),
        Case("a flow that nobody ever split", json!({}), Seen::default(), None),
    ];
    for Case(what, copied, seen, expected) in cases {
        let world = World::new().await;
        world.copied(copied);
        let before = world.copy();
        if let Some((text, version)) = &seen.percentage {
            world.has_parameter("percentage", text, *version);
        }
        if let Some(split) = &seen.rollout {
            world.has_parameter("rollout", split, 1);
        }
        assert_eq!(world.follow(&seen).await, Vec::<String>::new(), "{what}");
        assert_eq!(world.copy(), *expected.as_ref().unwrap_or(&before), "{what}");
        let asked: Vec<String> = world.asked().into_iter().filter(|asked| !asked.starts_with("GetParameters")).collect();
        let writes = expected.map_or(0, |_| 1);
        assert_eq!((asked[0].as_str(), asked.len()), ("Query", 1 + writes), "{what}: {asked:?}");
        if writes > 0 {
            assert_eq!(world.follow(&seen).await, Vec::<String>::new());
            assert_eq!(world.asked(), ["Query"], "{what}: once");
        }
    }
}

#[tokio::test]
async fn whoever_compares_is_told_how_callers_would_be_answered_otherwise() {
    let world = World::new().await;
    let read = Seen { halt: Some("r-1".into()), ..seen(Some(("5.00", 7))) };
    let alike = json!({"percentage": "5", "revision": 6, "rollout": split("r-1"), "halt": "r-1"});
    let but = |name: &str, value: Value| {
        let mut copied = alike.clone();
        copied[name] = value;
        copied
    };
    for (copied, said) in [
        (alike.clone(), None),
        (but("percentage", json!("0")), Some("the copy in the ledger's table holds 0 %, the parameter 5 %")),
        (but("halt", json!("r-0")), Some("the copy in the ledger's table lacks the halt marker")),
        (but("rollout", json!(split("r-2"))), Some("the copy in the ledger's table has another split")),
        (json!({}), Some("the copy in the ledger's table holds 0 %, the parameter 5 %")),
    ] {
        world.copied(copied);
        assert_eq!(world.store.copies().await.unwrap().differ(&world.flow, &read).as_deref(), said);
    }
    world.aws().failing.insert("Query", REFUSED);
    assert!(world.store.copies().await.unwrap_err().contains("table ledger"));
}

#[tokio::test]
async fn of_two_splits_at_one_version_the_copys_stays_unless_parameter_store_still_has_the_other() {
    // Another run opened r-2 since this one read r-1.
    let world = World::new().await;
    let opened = json!({"percentage": "0", "revision": 6, "rollout": split("r-2")});
    world.copied(opened.clone());
    world.has_parameter("percentage", "0", 6);
    world.has_parameter("rollout", &split("r-2"), 9);
    assert!(world.follow(&seen(Some(("0", 6)))).await.is_empty());
    assert_eq!(world.asked(), ["Query", "GetParameters"]);
    assert_eq!(world.copy()["rollout"], opened["rollout"]);
    // Somebody put r-1 back by hand.
    world.has_parameter("rollout", &split("r-1"), 10);
    assert!(world.follow(&seen(Some(("0", 6)))).await.is_empty());
    assert_eq!(world.copy()["rollout"], json!(split("r-1")));
}

#[tokio::test]
async fn whoever_writes_while_the_copy_is_compared_is_not_overwritten() {
    let world = World::new().await;
    world.copied(json!({"percentage": "5", "revision": 6, "rollout": split("r-1")}));
    // Read before the calls were taken away, which the copy is told of just now.
    world.aws().in_between = Some(item_of(&json!({"percentage": "0"})));
    assert!(world.follow(&seen(Some(("25", 7)))).await.is_empty(), "the next tick looks again");
    assert_eq!(world.copy(), json!({"percentage": "0", "revision": "6", "rollout": split("r-1")}));
}

#[tokio::test]
async fn a_hand_counts_for_flows_that_no_tick_visits_any_more_while_calls_are_sent_by_them() {
    let world = World::new().await;
    world.copied(json!({"percentage": "100", "revision": 6, "rollout": split("r-1")}));
    world.has_parameter("percentage", "0", 7);
    world.has_parameter("rollout", &split("r-1"), 1);
    assert!(world.store.follow(&[]).await.is_empty());
    assert_eq!(world.copy(), json!({"percentage": "0", "revision": "7", "rollout": split("r-1")}));
    assert_eq!(world.asked(), ["Query", "GetParameters", "UpdateItem FLOW#main_ivr"]);
    assert!(world.store.follow(&[]).await.is_empty());
    assert_eq!(world.asked(), ["Query"], "by a flow at 0 nobody is sent anywhere");
    world.copied(json!({"percentage": "100", "revision": 8, "rollout": split("r-1")}));
    world.aws().failing.insert("GetParameters", REFUSED);
    assert_eq!(world.store.follow(&[]).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_brought_is_told_by_flow() {
    let world = World::new().await;
    let other: FlowName = "other".parse().unwrap();
    let (five, nothing) = (seen(Some(("5", 3))), Seen::default());
    world.aws().failing.insert("UpdateItem FLOW#main_ivr", REFUSED);
    let failed = world.store.follow(&[(&other, &five), (&world.flow, &five)]).await;
    assert_eq!(failed.len(), 1);
    assert!(failed[0].to_string().contains("/main_ivr/percentage: its copy in table ledger: "), "{}", failed[0]);
    assert!(world.aws().table.contains_key("FLOW#other"));
    world.aws().failing.insert("Query", REFUSED);
    assert_eq!(world.store.follow(&[(&other, &five), (&world.flow, &nothing)]).await.len(), 1);
}
