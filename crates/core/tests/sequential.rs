//! What must hold of the judge whatever comes in.
#![allow(clippy::unwrap_used)]

mod calls;

use calls::{Draw, Rates, USUAL, minute, settings, tally};
use proptest::prelude::*;
use serin_core::sequential::{Action, Counter, Figure, Metric, OnCap, Reading, Reason, Sequential, Settings, Tally, Window};

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0u32), 4 => 1u32..20, 2 => 1u32..2_000, 1 => 1u32..10_000_000]
}

/// A cohort's minute: nothing, all bad in one way, or anything that adds up.
fn cohort() -> impl Strategy<Value = Tally> {
    (count(), 0usize..6, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..3_600.0, 1.0f64..4.0).prop_map(|(calls, shape, a, b, mean, spread)| {
        let calls = f64::from(calls);
        let (x, y) = ((calls * a.min(b)).floor(), (calls * (a - b).abs()).floor());
        let [abandons, transfers, errors] = match shape {
            0 => [0.0, 0.0, calls],
            1 => [calls, 0.0, 0.0],
            2 => [0.0, calls, 0.0],
            3 => [0.0; 3],
            4 => [x, y, 0.0],
            _ => [0.0, x, y],
        };
        let handled = calls - abandons;
        let sum = handled * mean;
        tally([calls, abandons, transfers, errors, calls - abandons - transfers - errors, handled, sum, sum * mean * spread])
    })
}

fn window() -> impl Strategy<Value = Window> {
    (0i64..90, 0u32..3, prop_oneof![Just(5.0), Just(20.0), Just(50.0), Just(0.1), Just(100.0)], cohort(), cohort())
        .prop_map(|(start, revision, weight, stable, canary)| Window { start, revision, weight, stable, canary })
}

fn all_five() -> Settings {
    let mut settings = Settings::default();
    settings.metrics.push(Metric::containment());
    settings
}

fn started() -> Sequential {
    Sequential::start(all_five()).unwrap().0
}

fn history() -> impl Strategy<Value = Vec<Vec<Window>>> {
    prop::collection::vec(prop::collection::vec(window(), 0..8), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_that_is_counted_makes_it_lose_its_numbers(looks in history()) {
        let mut judge = started();
        for windows in looks {
            let said = judge.look(judge.weight(), Reading::Windows(&windows));
            let evidence = judge.evidence();
            prop_assert!((0.0..=100.0).contains(&said.weight));
            prop_assert!(evidence.harm.is_finite() && evidence.harm >= 0.0 && evidence.share.is_finite());
            prop_assert!(evidence.metrics.iter().all(|m| m.harm.is_finite() && m.clear.iter().all(|c| c.is_finite())));
            let sentence = said.reason.to_string();
            prop_assert!(!sentence.contains("NaN") && !sentence.contains("inf"), "{}", sentence);
        }
    }

    #[test]
    fn silence_moves_nothing(looks in history(), unreadable: bool) {
        let mut judge = started();
        let mut rolled_back = false;
        for windows in looks {
            rolled_back = judge.look(judge.weight(), Reading::Windows(&windows)).action == Action::Rollback;
        }
        let before = judge.evidence();
        let said = judge.look(judge.weight(), if unreadable { Reading::Unreadable } else { Reading::Windows(&[]) });
        prop_assert!(said.action == Action::Hold || (rolled_back && said.action == Action::Rollback));
        prop_assert_eq!(judge.evidence(), before);
    }

    #[test]
    fn minutes_without_a_call_never_roll_back_and_never_advance(minutes in 1i64..400) {
        let mut judge = started();
        for start in 0..minutes {
            let none = tally([0.0; 8]);
            let said = judge.look(5.0, Reading::Windows(&[Window { start, revision: 0, weight: 5.0, stable: none, canary: none }]));
            prop_assert_eq!(said.action, Action::Hold);
        }
    }

    #[test]
    fn the_order_of_windows_within_a_look_is_nothing(looks in history(), turn in 0usize..8) {
        let (mut forward, mut turned) = (started(), started());
        for mut windows in looks {
            // Two different reports under one revision contradict each other: no order of them is right.
            windows.sort_by_key(|w| (w.start, w.revision));
            windows.dedup_by_key(|w| (w.start, w.revision));
            let said = forward.look(forward.weight(), Reading::Windows(&windows));
            let middle = turn.min(windows.len());
            windows.rotate_left(middle);
            windows[middle..].reverse();
            prop_assert_eq!(turned.look(turned.weight(), Reading::Windows(&windows)), said);
        }
        prop_assert!(forward == turned);
    }

    #[test]
    fn a_report_that_comes_twice_counts_once(looks in history()) {
        let (mut once, mut twice) = (started(), started());
        for mut windows in looks {
            windows.sort_by_key(|w| (w.start, w.revision));
            windows.dedup_by_key(|w| w.start);
            once.look(5.0, Reading::Windows(&windows));
            twice.look(5.0, Reading::Windows(&windows));
            twice.look(5.0, Reading::Windows(&windows));
        }
        let (once, twice) = (once.evidence(), twice.evidence());
        prop_assert_eq!((once.harm, once.share), (twice.harm, twice.share));
    }

    #[test]
    fn one_more_bad_canary_call_never_speaks_for_the_canary(seed: u64, volume in 20.0f64..3_000.0, minutes in 1i64..60, which in 0usize..3) {
        let mut draw = Draw::seeded(seed);
        let mut judge = Sequential::start(settings(volume, USUAL, &mut draw)).unwrap().0;
        let weight = judge.weight();
        for start in 0..minutes {
            let window = minute(&mut draw, start, weight, volume, USUAL, USUAL);
            judge.look(weight, Reading::Windows(&[window]));
        }
        let counter = [Counter::Errors, Counter::Abandons, Counter::Transfers][which];
        let mut last = minute(&mut draw, minutes, weight, volume, USUAL, USUAL);
        let contained = last.canary.get(Counter::Contained).unwrap();
        prop_assume!(contained >= 1.0);
        let mut worse = judge.clone();
        judge.look(weight, Reading::Windows(&[last]));
        let bad = last.canary.get(counter).unwrap();
        last.canary = last.canary.with(Counter::Contained, contained - 1.0).with(counter, bad + 1.0);
        worse.look(weight, Reading::Windows(&[last]));
        let (judge, worse) = (judge.evidence(), worse.evidence());
        prop_assert!(worse.metrics[which].harm >= judge.metrics[which].harm * (1.0 - 1e-9));
        for (less, more) in worse.metrics[which].clear.iter().zip(judge.metrics[which].clear) {
            prop_assert!(*less <= more + 1e-9);
        }
    }

    #[test]
    fn a_judge_that_was_written_down_goes_on_as_if_nothing_had_happened(looks in history(), cut in 0usize..12) {
        let (mut kept, mut restored) = (started(), started());
        for (at, windows) in looks.iter().enumerate() {
            if at == cut {
                restored = serde_json::from_str(&serde_json::to_string(&restored).unwrap()).unwrap();
            }
            let said = kept.look(kept.weight(), Reading::Windows(windows));
            prop_assert_eq!(restored.look(restored.weight(), Reading::Windows(windows)), said);
        }
        prop_assert!(kept == restored);
    }
}

fn play(volume: f64, canary: Rates, minutes: i64, mut report: impl FnMut(Window) -> Window) -> (Sequential, Vec<(Action, Reason)>) {
    let mut draw = Draw::seeded(42);
    let (mut judge, mut said) = (Sequential::start(settings(volume, USUAL, &mut draw)).unwrap().0, Vec::new());
    for start in 0..minutes {
        let window = report(minute(&mut draw, start, judge.weight(), volume, USUAL, canary));
        let judgement = judge.look(judge.weight(), Reading::Windows(&[window]));
        said.push((judgement.action, judgement.reason));
    }
    (judge, said)
}

#[test]
fn calls_that_never_reach_the_canary_are_a_sample_ratio_mismatch_and_no_pass() {
    let (judge, said) = play(3_000.0, USUAL, 400, |w| Window { canary: tally([0.0; 8]), ..w });
    let reason = said.last().unwrap().1.to_string();
    assert!(reason.starts_with("INCONCLUSIVE sample-ratio mismatch: 0.0 % of the calls reached the canary where 5 %"), "{reason}");
    assert!(judge.evidence().share_alert && said.iter().all(|(action, _)| *action == Action::Hold));
}

#[test]
fn a_required_metric_that_nobody_measures_holds_by_name() {
    let without = |t: Tally| {
        [Counter::Calls, Counter::Errors, Counter::Transfers, Counter::Contained]
            .into_iter()
            .fold(Tally::default(), |out, c| out.with(c, t.get(c).unwrap()))
    };
    let (_, said) = play(3_000.0, USUAL, 300, |w| Window { stable: without(w.stable), canary: without(w.canary), ..w });
    let (action, reason) = said.last().unwrap();
    assert_eq!((*action, reason), (Action::Hold, &Reason::Unavailable { metric: "abandon".into() }));
    assert!(said.iter().all(|(action, _)| *action == Action::Hold));
}

#[test]
fn an_optional_metric_that_nobody_measures_counts_for_neither_side() {
    let without = |t: Tally| {
        [Counter::Calls, Counter::Errors, Counter::Abandons, Counter::Transfers, Counter::Contained]
            .into_iter()
            .fold(Tally::default(), |out, c| out.with(c, t.get(c).unwrap()))
    };
    let (_, said) = play(3_000.0, USUAL, 200, |w| Window { stable: without(w.stable), canary: without(w.canary), ..w });
    assert!(said.iter().any(|(action, _)| *action == Action::Promote));
}

#[test]
fn a_minute_that_grows_counts_once_and_in_full() {
    let mut draw = Draw::seeded(3);
    let endless = Settings { min_step: 1_000, max_step: 1_001, ..all_five() };
    let (mut whole, mut late) = (Sequential::start(endless.clone()).unwrap().0, Sequential::start(endless).unwrap().0);
    let windows: Vec<Window> = (0..120).map(|start| minute(&mut draw, start, 5.0, 3_000.0, USUAL, USUAL)).collect();
    for window in &windows {
        whole.look(5.0, Reading::Windows(&[*window]));
        let none = Window { stable: tally([0.0; 8]), canary: tally([0.0; 8]), ..*window };
        late.look(5.0, Reading::Windows(&[none]));
        late.look(5.0, Reading::Windows(&[Window { revision: 2, ..*window }]));
        late.look(5.0, Reading::Windows(&[Window { revision: 1, ..none }]));
    }
    for (whole, late) in whole.evidence().metrics.iter().zip(late.evidence().metrics) {
        assert_eq!(whole.sides, late.sides);
        assert!((whole.clear[2] - late.clear[2]).abs() < 1.0, "{whole:?} {late:?}");
    }
}

#[test]
fn the_state_does_not_grow() {
    let size = |minutes| serde_json::to_string(&play(600.0, USUAL, minutes, |w| w).0).unwrap().len();
    let (young, old) = (size(60), size(3_000));
    assert!(old < young + young / 10, "{young} bytes after an hour, {old} after two days");
}

#[test]
fn a_rate_of_the_users_own_and_falling_containment_roll_back() {
    let mut settings = all_five();
    let own = Figure::Rate { bad: Counter::Own1, of: Counter::Own2 };
    settings.metrics.push(Metric::rate("wrong language", own, 0.01, 0.05, 0.1));
    for (fault, own) in [("containment", 0.1_f64), ("wrong language", 0.4)] {
        let mut judge = Sequential::start(settings.clone()).unwrap().0;
        let mut reason = String::new();
        for start in 0..120 {
            let cohort = |calls: f64, contained: f64, own: f64| {
                let rest = calls - contained;
                tally([calls, (0.1 * rest).round(), 0.0, 0.0, contained, 0.0, 0.0, 0.0]).with(Counter::Own1, own).with(Counter::Own2, calls)
            };
            let canary = cohort(10.0, if fault == "containment" { 4.0 } else { 7.0 }, (10.0 * own).round());
            let window = Window { start, revision: 0, weight: 5.0, stable: cohort(190.0, 133.0, 19.0), canary };
            let said = judge.look(5.0, Reading::Windows(&[window]));
            if said.action == Action::Rollback {
                reason = said.reason.to_string();
                break;
            }
        }
        let expected = if fault == "containment" { "calls not served by the flow 60.0 % of" } else { "wrong language 40.0 % of" };
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[test]
fn the_time_cap_does_what_the_policy_says() {
    let mut draw = Draw::seeded(5);
    for (on_cap, expected) in [(OnCap::Advance, Action::Advance), (OnCap::Hold, Action::Hold), (OnCap::Rollback, Action::Rollback)] {
        let mut judge = Sequential::start(Settings { on_cap, ..settings(100.0, USUAL, &mut draw) }).unwrap().0;
        let mut last = None;
        for start in 0..181 {
            let cohort = |calls: f64| tally([calls, 0.0, 0.0, 0.0, calls, calls, 240.0 * calls, 57_600.0 * calls]);
            // Too few calls to exclude anything, none of them bad.
            let (stable, canary) = (cohort(f64::from(u8::from(start % 3 == 0))), cohort(f64::from(u8::from(start % 8 == 0))));
            let said = judge.look(20.0, Reading::Windows(&[Window { start, revision: 0, weight: 20.0, stable, canary }]));
            if start >= 179 && last.is_none() {
                last = Some(said);
            }
        }
        assert_eq!(last.map(|l| l.action), Some(expected));
    }
}

#[test]
fn decisions_explain_themselves() {
    let bad = Rates { error: 0.15, ..USUAL };
    let (_, said) = play(600.0, bad, 300, |w| w);
    let sentence = |wanted: Action| said.iter().find(|(action, _)| *action == wanted).map(|(_, reason)| reason.to_string()).unwrap();
    assert_says(
        &sentence(Action::Rollback),
        "errors 18.5 % of 27 canary calls against 1.6 % of 432 stable calls: worse than the tolerated rise of 0.5 points; a canary within it would look this bad in fewer than one of 172 rollouts",
    );
    let (_, said) = play(600.0, USUAL, 300, |w| w);
    let told: Vec<String> = said.iter().map(|(_, reason)| reason.to_string()).collect();
    assert_says(&told[10], "baking: 11 of 30 minutes with data, 4 canary calls (at least 20)");
    assert_says(
        &told[60],
        "abandoned calls 15.6 % of 32 canary calls against 4.4 % of 608 stable calls: no harm is proven, but a rise of 12 points cannot be ruled out yet",
    );
    let (judge, first) = Sequential::start(Settings { expected_calls_per_hour: 20_000.0, ..Settings::default() }).unwrap();
    assert_eq!(judge.weight(), 1.4);
    assert_says(
        &first.reason.to_string(),
        "starting at 1.4 %, below the plan: at this volume a few minutes of it already tell whether the change is broken",
    );
}

#[test]
fn the_first_weight_follows_the_volume() {
    let first = |volume, look_every| {
        let settings = Settings { expected_calls_per_hour: volume, look_every, ..Settings::default() };
        Sequential::start(settings).unwrap().1.weight
    };
    assert_eq!([first(10.0, 1), first(399.0, 15), first(400.0, 1), first(3_000.0, 1)], [10.0, 10.0, 5.0, 5.0]);
    assert_eq!([first(20_000.0, 1), first(20_000.0, 15), first(0.0, 1)], [1.4, 0.5, 10.0]);
}

#[test]
fn a_weight_set_by_hand_is_judged_as_it_is_and_the_plan_goes_on_from_there() {
    let (mut judge, mut draw) = (Sequential::start(settings(3_000.0, USUAL, &mut Draw::seeded(1))).unwrap().0, Draw::seeded(8));
    let mut weight = 30.0;
    for start in 0..200 {
        let said = judge.look(weight, Reading::Windows(&[minute(&mut draw, start, weight, 3_000.0, USUAL, USUAL)]));
        if said.action == Action::Advance {
            weight = said.weight;
            break;
        }
        assert_eq!((said.action, said.weight), (Action::Hold, 30.0));
    }
    assert_eq!(weight, 50.0);
}

fn assert_says(got: &str, want: &str) {
    assert_eq!(got, want);
}

#[test]
fn settings_that_do_not_hold_together_are_refused_by_name() {
    let refused = |settings: Settings| Sequential::start(settings).unwrap_err();
    assert!(refused(Settings { plan: vec![5.0, 50.0], ..Settings::default() }).contains("plan [5.0, 50.0]"));
    assert!(refused(Settings { plan: vec![100.0], ..Settings::default() }).contains("plan [100.0]"));
    assert!(refused(Settings { look_every: 0, ..Settings::default() }).contains("look_every 0"));
    assert!(refused(Settings { max_step: 30, ..Settings::default() }).contains("max_step 30"));
    assert!(refused(Settings { alpha: 0.0, ..Settings::default() }).contains("alpha 0"));
    assert!(refused(Settings { metrics: vec![], ..Settings::default() }).contains("0 metrics"));
    assert!(
        refused(Settings { metrics: vec![Metric { tolerance: 0.1, ..Metric::error() }], ..Settings::default() })
            .contains("error: tolerance 0.1")
    );
}
