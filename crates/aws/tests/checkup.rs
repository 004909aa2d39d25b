//! What an operator's tool asks of AWS, against a server that gives recorded answers.
#![allow(clippy::unwrap_used, reason = "its helpers may fail loudly")]

mod support;

use axum::http::{HeaderMap, StatusCode};
use serin_aws::Config;
use serin_aws::alarms::{OF_THE_TEMPLATE, alarms};
use serin_aws::checkup::{busiest_reads, clock_ahead, endpoint_source, high_throughput};
use std::sync::{Arc, Mutex};

/// A target header and a body.
type Asked = (String, String);
type Answer = (u16, &'static [(&'static str, &'static str)], String);

/// A service that gives these answers in turn, and then none; with what it was asked.
async fn service(answers: Vec<Answer>) -> (Config, Arc<Mutex<Vec<Asked>>>) {
    let (asked, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answers.into_iter())));
    let seen = asked.clone();
    let serve = move |headers: HeaderMap, body: String| async move {
        let target = headers.get("x-amz-target").map(|t| t.to_str().unwrap().to_owned()).unwrap_or_default();
        assert!(headers["authorization"].to_str().unwrap().contains("/eu-west-1/"), "{headers:?}");
        seen.lock().unwrap().push((target, body));
        let next = answers.lock().unwrap().next();
        let Some((status, headers, body)) = next else { return std::future::pending().await };
        let headers: HeaderMap = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        (StatusCode::from_u16(status).unwrap(), headers, body)
    };
    (support::serve(axum::Router::new().fallback(serve)).await, asked)
}

fn alarm(name: &str, enabled: bool, actions: &[&str], state: &str) -> serde_json::Value {
    serde_json::json!({"AlarmName": name, "ActionsEnabled": enabled, "AlarmActions": actions, "StateValue": state, "StateReason": "so"})
}

#[tokio::test]
async fn the_alarms_of_a_stage_are_told_and_those_that_are_not_there() {
    let page = |alarms: &[serde_json::Value], next: Option<&str>| -> Answer {
        (200, &[], serde_json::json!({"MetricAlarms": alarms, "CompositeAlarms": [], "NextToken": next}).to_string())
    };
    let first = page(&[alarm("serin-prod-rollback-dlq", true, &["arn:watchers"], "OK")], Some("more"));
    let second = page(&[alarm("serin-prod-dlq-alert-oncall", false, &[], "ALARM")], None);
    let (config, asked) = service(vec![first, second]).await;
    let alarms = alarms(&config, "prod").await.unwrap();
    let told: Vec<_> = alarms.found.iter().map(|a| (a.name.as_str(), a.enabled, a.has_actions, a.state.as_str())).collect();
    assert_eq!(told, [("serin-prod-rollback-dlq", true, true, "OK"), ("serin-prod-dlq-alert-oncall", false, false, "ALARM")]);
    assert_eq!(alarms.missing.len(), OF_THE_TEMPLATE.len() - 1);
    assert!(alarms.missing.contains(&"serin-prod-canary-evaluator-no-tick".to_owned()), "{alarms:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(target, _)| target == "GraniteServiceVersion20100801.DescribeAlarms"));
    let bodies: Vec<serde_json::Value> = asked.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    assert_eq!((&bodies[0]["AlarmNamePrefix"], &bodies[1]["NextToken"]), (&"serin-prod-".into(), &"more".into()));
}

#[tokio::test]
async fn whoever_may_not_list_alarms_is_told_why() {
    let refused = r#"{"__type":"com.amazonaws.cloudwatch#AccessDenied","message":"not authorized to perform: cloudwatch:DescribeAlarms"}"#;
    let (config, _) = service(vec![(403, &[], refused.into())]).await;
    assert_eq!(
        alarms(&config, "prod").await.unwrap_err(),
        "alarms serin-prod-… could not be listed: status 403, AccessDenied, not authorized to perform: cloudwatch:DescribeAlarms"
    );
    let (config, _) = service(vec![(502, &[], "<html>".into())]).await;
    assert_eq!(alarms(&config, "prod").await.unwrap_err(), "alarms serin-prod-… could not be listed: status 502");
    let endless = |n: usize| -> Answer { (200, &[], format!(r#"{{"MetricAlarms":[],"NextToken":"{n}"}}"#)) };
    let (config, _) = service((0..30).map(endless).collect()).await;
    assert!(alarms(&config, "prod").await.unwrap_err().ends_with("the list does not end"));
}

#[tokio::test]
async fn the_throughput_of_parameter_store_is_a_setting() {
    let setting = |value: &str| -> Answer {
        (200, &[("content-type", "application/x-amz-json-1.1")], format!(r#"{{"ServiceSetting":{{"SettingValue":"{value}"}}}}"#))
    };
    for (value, expected) in [("true", Ok(true)), ("false", Ok(false))] {
        let (config, asked) = service(vec![setting(value)]).await;
        assert_eq!(high_throughput(&config).await, expected);
        assert!(asked.lock().unwrap()[0].1.contains("/ssm/parameter-store/high-throughput-enabled"));
    }
    let (config, _) = service(vec![setting("sometimes")]).await;
    assert!(high_throughput(&config).await.unwrap_err().contains("holds sometimes"));
    let refused = r#"{"__type":"AccessDeniedException","message":"not authorized to perform: ssm:GetServiceSetting"}"#;
    let (config, _) = service(vec![(400, &[("content-type", "application/x-amz-json-1.1")], refused.into())]).await;
    assert!(high_throughput(&config).await.unwrap_err().contains("could not be read: "));
}

#[tokio::test]
async fn what_the_endpoint_reads_is_what_the_stack_says() {
    let told = |value: &str| -> Answer {
        let parameter = serde_json::json!({"Parameter": {"Name": "/serin/prod/topics", "Value": value}});
        (200, &[("content-type", "application/x-amz-json-1.1")], parameter.to_string())
    };
    let (config, asked) =
        service(vec![told(r#"{"alerts":"a","rollback":"b","endpoint_source":"DynamoDB"}"#), told(r#"{"alerts":"a","rollback":"b"}"#)])
            .await;
    assert_eq!(endpoint_source(&config, "prod").await, Ok(Some("DynamoDB".to_owned())));
    assert!(asked.lock().unwrap()[0].1.contains("/serin/prod/topics"));
    assert_eq!(endpoint_source(&config, "prod").await, Ok(None), "of a stack that is older");
    let (config, _) = service(vec![told("DynamoDB")]).await;
    assert!(endpoint_source(&config, "prod").await.unwrap_err().starts_with("parameter /serin/prod/topics: "));
}

#[tokio::test]
async fn the_busiest_minute_is_told_in_reads_a_second() {
    let now = "2026-11-22T09:00:30Z".parse::<jiff::Timestamp>().unwrap();
    let points = |sums: &[f64]| -> Answer {
        let points: Vec<_> = sums.iter().map(|sum| serde_json::json!({"Timestamp": 1_795_338_000, "Sum": sum, "Unit": "Count"})).collect();
        (200, &[], serde_json::json!({"Label": "Reads", "Datapoints": points}).to_string())
    };
    let (config, asked) = service(vec![points(&[12.0, 1_500.0, 90.0]), points(&[])]).await;
    assert_eq!(busiest_reads(&config, "prod", now).await, Ok(Some(25.0)));
    assert_eq!(busiest_reads(&config, "prod", now).await, Ok(None), "nobody called, or the endpoint is older");
    let (target, body) = asked.lock().unwrap()[0].clone();
    assert_eq!(target, "GraniteServiceVersion20100801.GetMetricStatistics");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let end = body["EndTime"].as_i64().unwrap();
    assert_eq!(jiff::Timestamp::from_second(end).unwrap().to_string(), "2026-11-22T09:00:00Z");
    // As many points as one answer may have.
    assert_eq!((end - body["StartTime"].as_i64().unwrap()) / body["Period"].as_i64().unwrap(), 1_440);
    assert_eq!((&body["MetricName"], &body["Dimensions"]), (&"Reads".into(), &serde_json::json!([{"Name": "Stage", "Value": "prod"}])));
    let (config, _) = service(vec![(403, &[], r#"{"__type":"AccessDenied","message":"not authorized"}"#.into())]).await;
    let said = busiest_reads(&config, "prod", now).await.unwrap_err();
    assert!(said.contains("cloudwatch:GetMetricStatistics") && said.contains("not authorized"), "{said}");
}

#[tokio::test]
async fn aws_s_clock_is_read_off_any_answer() {
    let now = jiff::Timestamp::now();
    let (config, asked) = service(vec![(403, &[], String::new())]).await;
    assert!(clock_ahead(&config).await.unwrap().abs() <= jiff::SignedDuration::from_secs(2));
    assert_eq!(asked.lock().unwrap()[0].1, "Action=GetCallerIdentity&Version=2011-06-15");
    let (config, _) = service(vec![(200, &[("date", "Fri, 20 Nov 2020 10:00:00 GMT")], String::new())]).await;
    let behind = clock_ahead(&config).await.unwrap();
    let expected = "2020-11-20T10:00:00Z".parse::<jiff::Timestamp>().unwrap().duration_since(now);
    assert!((behind - expected).abs() <= jiff::SignedDuration::from_secs(3), "{behind} and not {expected}");
    let (config, _) = service(vec![(200, &[("date", "soon")], String::new())]).await;
    assert_eq!(clock_ahead(&config).await.unwrap_err(), "AWS's clock could not be read: the answer has no date");
}
