//! The operator's tables, and what must hold of an outlook whatever is asked.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serin_core::sequential::power::{Detection, Outlook, Regression, outlook, usual_regressions};
use serin_core::sequential::{Metric, OnCap, Settings};

fn at(weight: f64, volume: f64) -> Settings {
    Settings { plan: vec![weight, 100.0], expected_calls_per_hour: volume, ..Settings::default() }
}

fn regression(metric: &str, from: f64, to: f64) -> Regression {
    Regression { metric: metric.to_owned(), from, to }
}

fn detect(settings: &Settings, metric: &str, from: f64, to: f64) -> Detection {
    outlook(settings, &[regression(metric, from, to)]).steps[0].detections[0].clone()
}

fn near(got: f64, published: f64, within: f64) {
    // The tables are rounded to whole calls.
    assert!((got - published).abs() <= within * published + 0.5, "{got} where {published} is published");
}

/// Metric, from, to; fewest canary calls of any test; canary calls at 5, 20 and 50 %.
const DETECTIONS: [(&str, f64, f64, f64, [f64; 3]); 8] = [
    ("error", 0.015, 0.40, 5.0, [8.0, 12.0, 23.0]),
    ("error", 0.015, 0.15, 25.0, [38.0, 50.0, 96.0]),
    ("error", 0.015, 0.05, 283.0, [403.0, 487.0, 815.0]),
    ("abandon", 0.06, 0.16, 85.0, [141.0, 174.0, 298.0]),
    ("abandon", 0.06, 0.11, 330.0, [540.0, 652.0, 1_078.0]),
    ("abandon", 0.06, 0.08, 2_659.0, [4_332.0, 5_139.0, 8_218.0]),
    ("transfer", 0.22, 0.30, 354.0, [602.0, 718.0, 1_161.0]),
    ("transfer", 0.22, 0.27, 1_059.0, [1_796.0, 2_135.0, 3_424.0]),
];

#[test]
fn detections_take_the_calls_of_the_published_tables() {
    for (metric, from, to, bound, calls) in DETECTIONS {
        for (weight, published) in [5.0, 20.0, 50.0].into_iter().zip(calls) {
            let detection = detect(&at(weight, 600.0), metric, from, to);
            near(detection.canary_calls, published, 0.01);
            near(detection.bound_calls, bound, 0.01);
        }
    }
    let hours = |weight, volume, metric, from, to| detect(&at(weight, volume), metric, from, to).hours.unwrap();
    near(hours(5.0, 10.0, "error", 0.015, 0.4) * 60.0, 16.0 * 60.0, 0.02);
    near(hours(5.0, 600.0, "error", 0.015, 0.15) * 60.0, 75.0, 0.02);
    near(hours(20.0, 100.0, "abandon", 0.06, 0.11) * 60.0, 32.6 * 60.0, 0.01);
    near(hours(50.0, 3_000.0, "transfer", 0.22, 0.3) * 60.0, 46.0, 0.02);
    near(hours(50.0, 20_000.0, "error", 0.015, 0.4) * 60.0, 1.0, 0.0);
}

#[test]
fn steps_clear_after_the_calls_of_the_published_table() {
    let published = [(5.0, 0.12, 26.0), (20.0, 0.06, 125.0), (25.0, 0.06, 129.0), (50.0, 0.02, 1_313.0)];
    for (weight, margin, calls) in published {
        let plan = if weight < 50.0 { vec![weight, 50.0, 100.0] } else { vec![weight, 100.0] };
        let clearance = outlook(&Settings { plan, ..Settings::default() }, &[]).steps[0].clearance.clone();
        assert_eq!((clearance.metric.as_str(), clearance.weight), ("abandon", weight));
        near(clearance.margin, margin, 1e-9);
        near(clearance.canary_calls, calls, 0.01);
    }
    let minutes = |volume: f64| -> Vec<f64> {
        let settings = Settings { expected_calls_per_hour: volume, ..Settings::default() };
        outlook(&settings, &[]).steps.iter().map(|s| (60.0 * s.clearance.hours.unwrap()).round()).collect()
    };
    assert_eq!([minutes(600.0), minutes(3_000.0), minutes(20_000.0)], [[52.0, 51.0, 263.0], [30.0, 30.0, 53.0], [30.0; 3]]);
}

#[test]
fn the_usual_regressions_are_those_of_the_tables_from_the_hint_up() {
    let usual = usual_regressions(&Settings::default());
    for (metric, from, to, _, _) in DETECTIONS {
        let same = |r: &&Regression| r.metric == metric && (r.from - from).abs() < 1e-9 && (r.to - to).abs() < 1e-9;
        assert_eq!(usual.iter().filter(same).count(), 1, "{metric} {from} {to}");
    }
    let handle: Vec<f64> = usual.iter().filter(|r| r.metric == "handle").map(|r| r.to).collect();
    assert_eq!((handle, usual.len()), (vec![0.375, 0.15], 10));
    let only_errors = Settings { metrics: vec![Metric { hint: 0.1, ..Metric::error() }], ..Settings::default() };
    assert!(usual_regressions(&only_errors).iter().all(|r| r.metric == "error" && r.from == 0.1 && r.to > 0.13));
}

#[test]
fn what_is_tolerated_or_not_watched_is_never_detected() {
    let asked = [regression("abandon", 0.06, 0.064), regression("error", 0.2, 0.1), regression("mood", 0.1, 0.9)];
    assert!(outlook(&at(5.0, 600.0), &asked).steps[0].detections.is_empty());
}

#[test]
fn the_time_cap_shortens_the_way_only_where_it_lets_the_canary_pass() {
    let full = |on_cap| outlook(&Settings { on_cap, expected_calls_per_hour: 100.0, ..Settings::default() }, &[]).hours_to_full;
    // 20 canary calls take 4 hours at 5 % and less than the cap's three above; to clear takes 5.2, 5.1 and 26.3 hours.
    assert!((full(OnCap::Advance).unwrap() - 10.0).abs() < 1e-9);
    assert!((full(OnCap::Hold).unwrap() - 36.6).abs() < 0.1);
    assert_eq!(full(OnCap::Rollback), None);
}

#[test]
fn low_power_is_said_in_one_honest_sentence() {
    let said = |weight, volume| outlook(&at(weight, volume), &[]).low_power;
    assert_eq!(said(5.0, 600.0), None);
    assert_eq!(said(10.0, 40.0), None);
    assert_eq!(
        said(10.0, 30.0).unwrap(),
        "at 30 calls an hour and 10 % canary, a day on average shows error at 15 %; \
         it does not show error at 5 %, abandon at 16 %, transfer at 30 %, handle 37.5 % longer"
    );
    assert_eq!(
        said(0.1, 600.0).unwrap(),
        "at 600 calls an hour and 0.1 % canary, a day on average shows error at 40 %; \
         it does not show error at 15 %, abandon at 16 %, transfer at 30 %, handle 37.5 % longer"
    );
    assert!(said(5.0, 0.0).unwrap().contains("shows nothing of what usually breaks; it does not show error at 40 %"));
}

fn metric() -> impl Strategy<Value = Metric> {
    let kinds = prop_oneof![Just(Metric::error()), Just(Metric::abandon()), Just(Metric::containment()), Just(Metric::handle())];
    (kinds, 1e-6f64..0.4, 1.001f64..10.0, prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0], 1e-3f64..10.0).prop_map(
        |(metric, tolerance, times, hint, weight)| Metric { tolerance, margin: (tolerance * times).min(0.5), hint, weight, ..metric },
    )
}

fn volume() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1e-300), Just(1e9), 0.0f64..30_000.0]
}

fn figures(outlook: &Outlook) -> Vec<f64> {
    let of_step = |s: &serin_core::sequential::power::Step| {
        let c = &s.clearance;
        let detections = s.detections.iter().flat_map(|d| [d.bound_calls, d.canary_calls, d.harmed_calls, d.hours.unwrap_or(0.0)]);
        detections.chain([c.margin, c.canary_calls, c.hours.unwrap_or(0.0), s.hours.unwrap_or(0.0)]).collect::<Vec<_>>()
    };
    outlook.steps.iter().flat_map(of_step).chain(outlook.hours_to_full).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_figure_is_a_number(metric in metric(), volume in volume(), weight in 0.1f64..99.0, from in -0.1f64..1.1, to in -0.1f64..1.1) {
        let asked = regression(&metric.name, from, to);
        let settings = Settings { metrics: vec![metric], ..at(weight, volume) };
        settings.check().unwrap();
        let odd = [f64::NAN, f64::INFINITY].map(|to| regression(&asked.metric, 0.1, to));
        let mut asked = [usual_regressions(&settings), odd.to_vec(), vec![asked]].concat();
        asked.push(regression(&settings.metrics[0].name, 0.0, 1.0));
        let seen = outlook(&settings, &asked);
        prop_assert!(figures(&seen).iter().all(|x| x.is_finite() && *x >= 0.0), "{:?}", seen);
        prop_assert!(!seen.steps[0].detections.is_empty());
        let reached = seen.hours_to_full.is_some();
        prop_assert!((volume > 0.0 || !reached) && (volume < 1e-200 || reached));
        prop_assert!(volume >= 40.0 || seen.low_power.is_some());
    }

    #[test]
    fn more_calls_are_never_slower(weight in 0.1f64..99.0, volume in 1.0f64..30_000.0, more in 1.0f64..10.0) {
        let (few, many) = (at(weight, volume), at(weight, volume * more));
        let usual = usual_regressions(&few);
        let (few, many) = (outlook(&few, &usual), outlook(&many, &usual));
        for (few, many) in few.steps[0].detections.iter().zip(&many.steps[0].detections) {
            prop_assert!(many.hours <= few.hours && many.harmed_calls >= few.harmed_calls && many.canary_calls == few.canary_calls);
        }
        prop_assert!(many.hours_to_full <= few.hours_to_full);
    }

    #[test]
    fn a_larger_effect_never_takes_longer(metric in metric(), weight in 0.1f64..99.0, [from, x, y] in prop::array::uniform3(0.0f64..0.5)) {
        let name = metric.name.clone();
        let (less, more) = (from + metric.tolerance + x.min(y), from + metric.tolerance + x.max(y));
        let settings = Settings { metrics: vec![metric], ..at(weight, 600.0) };
        let seen = outlook(&settings, &[regression(&name, from, less), regression(&name, from, more)]);
        if let [less, more] = &seen.steps[0].detections[..] {
            prop_assert!(more.canary_calls <= less.canary_calls * (1.0 + 1e-6) && more.bound_calls <= less.bound_calls * (1.0 + 1e-6));
        }
    }

    #[test]
    fn no_test_beats_the_bound_at_the_same_chance(weight in 0.1f64..99.0) {
        let settings = Settings { alpha: 0.01, ..at(weight, 600.0) };
        for detection in &outlook(&settings, &usual_regressions(&settings)).steps[0].detections {
            prop_assert!(detection.canary_calls > detection.bound_calls, "{:?}", detection);
        }
    }
}
