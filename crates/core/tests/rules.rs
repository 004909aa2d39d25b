//! The guides' rules, exactly as they are written there: threshold (003), hysteresis (002), consecutive (004), not-worse (001).
#![allow(clippy::unwrap_used)]

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::{Analysis, Breach, Doubt, Measured, Proof, Verdict, analyze};
use serin_core::measurement::{Comparison, Counts, InForce, Window};
use serin_core::policy::Policy;
use serin_core::weight::Weight;
use std::ops::Range;

fn at(minute: i64) -> Timestamp {
    "2026-11-20T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

/// Calls of a minute, with so many errors, hang-ups and transfers among them.
fn calls(calls: u32, errors: u32, abandons: u32, transfers: u32) -> Counts {
    Counts { calls, errors, abandons, transfers, contained: calls - errors - abandons - transfers, ..Counts::default() }
}

fn minutes(range: Range<i64>, stable: Counts, canary: Counts) -> Vec<Window> {
    range.map(|n| Window { start: at(n), counts: Comparison { stable, canary } }).collect()
}

fn policy(json: &str) -> Policy {
    serde_json::from_str(json).unwrap()
}

/// A rule by itself: the absolute limit beside it is out of reach.
fn only(rule: &str) -> Policy {
    policy(&format!(r#"{{"rule":{{{rule}}},"errors":{{"percent":100}}}}"#))
}

/// What is said of windows at a weight in force since minute 0.
fn at_weight(policy: &Policy, percent: f64, baseline: Option<Counts>, windows: &[Window], now: i64) -> Analysis {
    let weights = [InForce { weight: Weight::try_from(percent).unwrap(), since: at(0) }];
    analyze(&Measured { policy, weights: &weights, windows, summary: None, baseline }, at(now))
}

fn verdict(policy: &Policy, windows: &[Window], now: i64) -> Verdict {
    at_weight(policy, 5.0, None, windows, now).verdict
}

fn failed(verdict: Verdict) -> Breach {
    match verdict {
        Verdict::Fail(breach) => breach,
        other => panic!("expected a failed verdict, found {other:?}"),
    }
}

fn fails(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fail(_))
}

const THRESHOLD: &str = r#""kind":"threshold""#;
const HYSTERESIS: &str = r#""kind":"hysteresis""#;
const CONSECUTIVE: &str = r#""kind":"consecutive""#;
const NOT_WORSE: &str = r#""kind":"not-worse""#;

// ---- threshold -------------------------------------------------------------------------------------------------------------

#[test]
fn threshold_looks_first_after_a_quarter_of_an_hour_and_passes_equal_cohorts() {
    let equal = minutes(0..60, calls(50, 0, 3, 0), calls(5, 0, 0, 0));
    assert_eq!(verdict(&only(THRESHOLD), &equal, 14), Verdict::Inconclusive(Doubt::NoLookYet { at: at(15) }));
    let analysis = at_weight(&only(THRESHOLD), 5.0, None, &equal, 35);
    assert_eq!(analysis.verdict, Verdict::Pass);
    assert_eq!(analysis.data_minutes, 28, "5 minutes of long calls and 2 of settling are left out");
}

#[test]
fn threshold_takes_back_at_one_look_where_abandons_are_more_than_two_points_above_stables() {
    let stable = calls(100, 0, 6, 20);
    let exactly = minutes(0..60, stable, calls(50, 0, 4, 10));
    assert_eq!(verdict(&only(THRESHOLD), &exactly, 15), Verdict::Pass, "two points are not more than two");
    let mut above = exactly;
    above[7].counts.canary = calls(50, 0, 5, 10);
    let breach = failed(verdict(&only(THRESHOLD), &above, 15));
    assert_eq!((breach.sides.metric.as_str(), breach.proof), ("abandon", Proof::InARow(1)));
    assert_eq!((breach.sides.canary.sum, breach.sides.canary.calls), (33.0, 400.0));
    assert!((breach.limit - 0.08).abs() < 1e-12, "{}", breach.limit);
}

#[test]
fn threshold_takes_back_at_one_look_where_transfers_are_more_than_five_points_above_stables() {
    let stable = calls(100, 0, 6, 20);
    let exactly = minutes(0..60, stable, calls(20, 0, 1, 5));
    assert_eq!(verdict(&only(THRESHOLD), &exactly, 15), Verdict::Pass, "five points are not more than five");
    let mut above = exactly;
    above[7].counts.canary = calls(20, 0, 1, 6);
    let breach = failed(verdict(&only(THRESHOLD), &above, 15));
    assert_eq!((breach.sides.metric.as_str(), breach.proof), ("transfer", Proof::InARow(1)));
}

#[test]
fn a_difference_of_exactly_the_points_is_no_breach_whatever_the_fractions() {
    // 11/75 and 10/60 differ by two points, though their nearest floating-point numbers differ by a hair more.
    for (stable, canary) in [((75, 11), (60, 10)), ((75, 2), (150, 7)), ((75, 11), (90, 15))] {
        let seen = minutes(5..6, calls(stable.0, 0, stable.1, 0), calls(canary.0, 0, canary.1, 0));
        assert_eq!(verdict(&only(THRESHOLD), &seen, 15), Verdict::Pass, "{stable:?} {canary:?}");
    }
}

#[test]
fn threshold_looks_back_an_hour_and_no_further() {
    let bad = minutes(0..130, calls(100, 0, 6, 20), calls(10, 0, 4, 2));
    let look = |now| failed(verdict(&only(THRESHOLD), &bad, now)).sides.canary.calls;
    assert_eq!(look(60), 10.0 * 53.0, "minutes 5 to 57: the young cohort and what is not settled are left out");
    assert_eq!(look(120), 10.0 * 58.0, "minutes 60 to 117");
    let mut healed = bad;
    healed.iter_mut().filter(|w| w.start >= at(30)).for_each(|w| w.counts.canary = calls(10, 0, 0, 2));
    assert!(fails(&verdict(&only(THRESHOLD), &healed, 75)));
    assert_eq!(verdict(&only(THRESHOLD), &healed, 90), Verdict::Pass, "what was bad is more than an hour ago");
}

#[test]
fn threshold_says_nothing_on_fewer_than_twenty_canary_calls_however_bad_they_are() {
    let seen = minutes(5..9, calls(50, 0, 3, 0), calls(4, 0, 1, 3));
    assert_eq!(verdict(&only(THRESHOLD), &seen, 31), Verdict::Inconclusive(Doubt::TooFewCalls { seen: 16, needed: 20 }));
    let enough = minutes(5..10, calls(50, 0, 3, 0), calls(4, 0, 1, 3));
    assert!(fails(&verdict(&only(THRESHOLD), &enough, 31)));
}

#[test]
fn threshold_says_the_same_whenever_it_is_asked_within_the_same_look() {
    // Every minute is another mixture, so that a look that moved with the clock would show.
    let mut seen = minutes(0..200, calls(100, 0, 6, 20), calls(10, 0, 0, 2));
    for (n, window) in seen.iter_mut().enumerate() {
        window.counts.canary = calls(10, 0, 4 * u32::from(n % 7 < n / 40), 2);
    }
    let mut verdicts = Vec::new();
    for look in 1..12 {
        let first = verdict(&only(THRESHOLD), &seen, 15 * look);
        for minute in 1..15 {
            assert_eq!(verdict(&only(THRESHOLD), &seen, 15 * look + minute), first, "look {look}, {minute} minutes later");
        }
        verdicts.push(fails(&first));
    }
    assert!(verdicts.contains(&true) && verdicts.contains(&false), "{verdicts:?}");
}

#[test]
fn a_breach_limit_of_two_wants_two_looks_in_a_row_however_often_it_is_asked() {
    let twice = only(r#""kind":"threshold","breach_limit":2"#);
    let bad = minutes(0..60, calls(50, 0, 3, 0), calls(5, 0, 1, 0));
    for now in 15..30 {
        let Verdict::Inconclusive(Doubt::Breaching { breach, limit: 2 }) = verdict(&twice, &bad, now) else { panic!("minute {now}") };
        assert_eq!(breach.proof, Proof::InARow(1));
    }
    for now in 30..45 {
        let breach = failed(verdict(&twice, &bad, now));
        assert_eq!((breach.sides.metric.as_str(), breach.proof), ("abandon", Proof::InARow(2)), "minute {now}");
    }
}

#[test]
fn two_bad_looks_with_a_good_or_an_empty_one_between_them_are_not_two_in_a_row() {
    let twice = only(r#""kind":"threshold","breach_limit":2,"lookback":15"#);
    let (bad, good) = (calls(10, 0, 3, 0), calls(10, 0, 0, 0));
    for between in [good, calls(0, 0, 0, 0)] {
        let mut seen = minutes(0..45, calls(100, 0, 6, 0), bad);
        seen.iter_mut().filter(|w| w.start >= at(13) && w.start < at(28)).for_each(|w| w.counts.canary = between);
        let said: Vec<bool> = [15, 30, 45].map(|now| fails(&verdict(&twice, &seen, now))).into();
        assert_eq!(said, [false; 3], "{between:?}");
        assert!(matches!(verdict(&twice, &seen, 45), Verdict::Inconclusive(Doubt::Breaching { limit: 2, .. })));
    }
}

#[test]
fn without_a_stable_call_in_the_look_there_is_nothing_to_compare_with() {
    let lonely = minutes(0..30, calls(0, 0, 0, 0), calls(10, 0, 3, 0));
    assert_eq!(verdict(&only(THRESHOLD), &lonely, 20), Verdict::Inconclusive(Doubt::NoBaseline));
    assert_eq!(verdict(&only(NOT_WORSE), &lonely, 20), Verdict::Inconclusive(Doubt::NoBaseline));
}

// ---- hysteresis ------------------------------------------------------------------------------------------------------------

/// Intervals of five minutes from minute 5 on, told by the canary's calls of each minute.
fn intervals(stable: Counts, canary: &[Counts]) -> Vec<Window> {
    let of = |(n, canary): (usize, &Counts)| minutes(5 + 5 * n as i64..10 + 5 * n as i64, stable, *canary);
    canary.iter().enumerate().flat_map(of).collect()
}

const WELL: Counts = Counts { calls: 20, errors: 0, abandons: 1, transfers: 0, contained: 19, times: None, queue: None };
const ERRING: Counts = Counts { calls: 20, errors: 2, abandons: 0, transfers: 0, contained: 18, times: None, queue: None };
const STABLE: Counts = Counts { calls: 100, errors: 0, abandons: 6, transfers: 20, contained: 74, times: None, queue: None };

#[test]
fn hysteresis_takes_back_after_two_intervals_in_a_row_above_five_percent_errors() {
    let rule = only(HYSTERESIS);
    let seen = intervals(STABLE, &[WELL, ERRING, ERRING, WELL]);
    let Verdict::Inconclusive(Doubt::Breaching { breach, limit: 2 }) = verdict(&rule, &seen, 17) else { panic!("one interval") };
    assert_eq!((breach.sides.metric.as_str(), breach.limit), ("error", 0.05));
    assert!(!fails(&verdict(&rule, &seen, 21)), "the second interval has ended, its counts have not settled");
    let breach = failed(verdict(&rule, &seen, 22));
    assert_eq!((breach.sides.metric.as_str(), breach.proof, breach.limit), ("error", Proof::InARow(2), 0.05));
}

#[test]
fn hysteresis_forgets_a_bad_interval_after_a_good_one() {
    let rule = only(HYSTERESIS);
    let seen = intervals(STABLE, &[ERRING, WELL, ERRING, WELL, ERRING, WELL]);
    assert!((5..45).all(|now| !fails(&verdict(&rule, &seen, now))));
    assert_eq!(verdict(&rule, &seen, 37), Verdict::Pass);
}

#[test]
fn hysteresis_takes_exactly_its_limits_for_no_breach() {
    let five_percent = Counts { calls: 20, errors: 1, abandons: 0, transfers: 0, contained: 19, ..Counts::default() };
    assert_eq!(verdict(&only(HYSTERESIS), &intervals(STABLE, &[five_percent; 4]), 30), Verdict::Pass);
    // 12 + 5 points and 29 + 5 points, which floating-point sums miss by a hair.
    for stable in [12, 18, 29, 35] {
        let seen = intervals(calls(100, 0, stable, 0), &[calls(100, 0, stable + 5, 0); 4]);
        assert_eq!(verdict(&only(HYSTERESIS), &seen, 30), Verdict::Pass, "{stable} % and five points");
    }
}

#[test]
fn hysteresis_takes_back_abandons_more_than_five_points_above_the_baseline_however_high_that_is() {
    for stable in [0, 2, 6, 10, 20] {
        let seen = intervals(calls(100, 0, stable, 0), &[calls(100, 0, stable + 6, 0); 2]);
        let breach = failed(verdict(&only(HYSTERESIS), &seen, 17));
        assert_eq!((breach.sides.metric.as_str(), breach.proof), ("abandon", Proof::InARow(2)), "stable {stable} %");
    }
}

#[test]
fn hysteresis_takes_errors_in_one_interval_and_abandons_in_the_next_for_two_in_a_row() {
    let seen = intervals(STABLE, &[ERRING, calls(20, 0, 3, 0)]);
    assert!(fails(&verdict(&only(HYSTERESIS), &seen, 17)));
}

#[test]
fn an_interval_with_fewer_than_ten_canary_calls_neither_breaks_nor_makes_a_run() {
    let rule = only(HYSTERESIS);
    // Nine calls in an interval: one a minute, and two in four of the minutes.
    let nine = |errors: u32| {
        let mut interval = [calls(2, errors.min(2), 0, 0); 5];
        interval[4] = calls(1, errors.min(1), 0, 0);
        interval
    };
    let tell = |parts: &[[Counts; 5]]| -> Vec<Window> {
        parts.iter().flatten().enumerate().flat_map(|(n, canary)| minutes(5 + n as i64..6 + n as i64, STABLE, *canary)).collect()
    };
    let seen = tell(&[[ERRING; 5], nine(0), [ERRING; 5]]);
    assert!(fails(&verdict(&rule, &seen, 22)), "nine good calls do not break the run");
    let seen = tell(&[[WELL; 5], [ERRING; 5], nine(1), nine(1)]);
    assert!(!fails(&verdict(&rule, &seen, 27)), "nine bad calls do not make one");
    let mut ten = nine(0);
    ten[4] = calls(2, 0, 0, 0);
    assert!(!fails(&verdict(&rule, &tell(&[[ERRING; 5], ten, [ERRING; 5]]), 22)), "ten good calls do break it");
}

// ---- consecutive -----------------------------------------------------------------------------------------------------------

/// Minutes from 5 on, told by the canary's calls; `None` is a minute of which nothing is known.
fn told(canary: &[Option<Counts>]) -> Vec<Window> {
    canary.iter().enumerate().filter_map(|(n, c)| c.map(|c| minutes(5 + n as i64..6 + n as i64, STABLE, c)[0])).collect()
}

#[test]
fn consecutive_takes_back_after_three_minutes_in_a_row_above_five_percent_errors() {
    let rule = only(CONSECUTIVE);
    let seen = told(&[Some(WELL), Some(ERRING), Some(ERRING), Some(ERRING)]);
    assert!((5..11).all(|now| !fails(&verdict(&rule, &seen, now))), "two minutes are not three");
    let breach = failed(verdict(&rule, &seen, 11));
    assert_eq!((breach.sides.metric.as_str(), breach.proof, breach.limit), ("error", Proof::InARow(3), 0.05));
    assert_eq!((breach.sides.canary.sum, breach.sides.canary.calls), (6.0, 60.0));
    assert!(!fails(&verdict(&rule, &told(&[Some(ERRING), Some(ERRING), Some(WELL), Some(ERRING), Some(ERRING)]), 30)));
}

#[test]
fn consecutive_takes_a_ratio_and_never_a_count() {
    let rule = only(CONSECUTIVE);
    let many = told(&[Some(calls(1000, 50, 0, 0)); 20]);
    assert_eq!(verdict(&rule, &many, 40), Verdict::Pass, "fifty errors a minute are exactly 5.0 %, which is no breach");
    assert!(fails(&verdict(&rule, &told(&[Some(calls(1000, 51, 0, 0)); 3]), 40)));
    assert!(fails(&verdict(&rule, &told(&[Some(calls(19, 1, 0, 0)); 3]), 40)), "one of nineteen is more");
}

#[test]
fn consecutive_ignores_minutes_without_a_canary_call() {
    let rule = only(CONSECUTIVE);
    let (none, bad) = (Some(calls(0, 0, 0, 0)), Some(ERRING));
    assert!(fails(&verdict(&rule, &told(&[bad, none, none, bad, none, bad]), 30)), "they do not break the run");
    let long: Vec<Option<Counts>> = [bad].into_iter().chain([none; 20]).chain([bad]).chain([none; 20]).chain([bad]).collect();
    assert!(fails(&verdict(&rule, &told(&long), 90)), "nor do many, while stable shows that we see");
    assert!(!fails(&verdict(&rule, &told(&[bad, none, none, bad, none]), 30)), "and they do not make one");
}

#[test]
fn a_gap_in_the_data_ends_a_run() {
    let rule = only(CONSECUTIVE);
    let bad = Some(ERRING);
    assert!(fails(&verdict(&rule, &told(&[bad, None, None, bad, None, bad]), 30)), "a late minute or two are no gap");
    let gap: Vec<Option<Counts>> = [bad, bad].into_iter().chain([None; 6]).chain([bad, bad]).collect();
    assert!(!fails(&verdict(&rule, &told(&gap), 60)));
    let after: Vec<Option<Counts>> = gap.into_iter().chain([bad]).collect();
    assert!(fails(&verdict(&rule, &told(&after), 60)), "after it three are counted anew");
}

#[test]
fn consecutive_goes_on_by_the_clock_where_only_errors_count() {
    let seen = minutes(0..60, STABLE, calls(20, 0, 6, 6));
    assert_eq!(verdict(&only(CONSECUTIVE), &seen, 40), Verdict::Pass);
    let few = minutes(5..8, STABLE, calls(5, 0, 0, 0));
    assert_eq!(verdict(&only(CONSECUTIVE), &few, 40), Verdict::Inconclusive(Doubt::TooFewCalls { seen: 15, needed: 20 }));
    let limit_beside = policy(r#"{"rule":{"kind":"consecutive"},"errors":{"percent":1}}"#);
    let four_percent = minutes(0..60, STABLE, calls(25, 1, 0, 0));
    assert_eq!(verdict(&limit_beside, &four_percent, 40), Verdict::Pass, "it is the errors' rule itself: no second limit beside it");
}

// ---- not-worse -------------------------------------------------------------------------------------------------------------

#[test]
fn not_worse_goes_on_once_the_canary_hangs_up_no_more_than_stable() {
    let equal = minutes(0..40, calls(100, 0, 6, 20), calls(50, 0, 3, 25));
    assert_eq!(verdict(&only(NOT_WORSE), &equal, 40), Verdict::Pass, "equal is not worse, and transfers do not count");
    let better = minutes(0..40, calls(100, 0, 6, 20), calls(50, 0, 2, 10));
    assert_eq!(verdict(&only(NOT_WORSE), &better, 40), Verdict::Pass);
    let few = minutes(5..8, STABLE, calls(5, 0, 0, 0));
    assert_eq!(verdict(&only(NOT_WORSE), &few, 40), Verdict::Inconclusive(Doubt::TooFewCalls { seen: 15, needed: 20 }));
}

#[test]
fn not_worse_waits_otherwise_and_never_takes_back() {
    for abandons in [4, 10, 24] {
        let seen = minutes(0..300, calls(100, 0, 6, 20), calls(50, 0, abandons, 0));
        for now in (10..300).step_by(10) {
            let Verdict::Inconclusive(Doubt::Worse { sides }) = verdict(&only(NOT_WORSE), &seen, now) else { panic!("{abandons} {now}") };
            assert_eq!(sides.metric, "abandon");
        }
    }
}

#[test]
fn not_worse_compares_the_whole_step() {
    let mut seen = minutes(0..200, calls(100, 0, 6, 0), calls(10, 0, 0, 0));
    seen.iter_mut().filter(|w| w.start < at(20)).for_each(|w| w.counts.canary = calls(10, 0, 4, 0));
    assert!(matches!(verdict(&only(NOT_WORSE), &seen, 90), Verdict::Inconclusive(Doubt::Worse { .. })), "60 of 830 are 7.2 %");
    assert_eq!(verdict(&only(NOT_WORSE), &seen, 140), Verdict::Pass, "60 of 1330 are 4.5 %");
}

// ---- at 100 % --------------------------------------------------------------------------------------------------------------

#[test]
fn at_100_percent_the_rules_compare_with_stables_calls_before() {
    let before = Some(calls(1000, 15, 60, 220));
    let at_full =
        |rule: &str, canary: Counts| at_weight(&only(rule), 100.0, before, &minutes(0..40, calls(0, 0, 0, 0), canary), 40).verdict;
    let same = calls(100, 1, 6, 22);
    for rule in [THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        assert_eq!(at_full(rule, same), Verdict::Pass, "{rule}");
    }
    let abandons = failed(at_full(THRESHOLD, calls(100, 1, 9, 22)));
    assert_eq!((abandons.sides.metric.as_str(), abandons.sides.stable.calls), ("abandon", 1000.0));
    assert_eq!(failed(at_full(THRESHOLD, calls(100, 1, 6, 28))).sides.metric, "transfer");
    assert_eq!(failed(at_full(HYSTERESIS, calls(100, 1, 12, 22))).sides.stable.sum, 60.0);
    assert_eq!(at_full(HYSTERESIS, calls(100, 1, 11, 22)), Verdict::Pass);
    assert!(matches!(at_full(NOT_WORSE, calls(100, 1, 7, 22)), Verdict::Inconclusive(Doubt::Worse { .. })));
}

#[test]
fn at_100_percent_callers_who_still_come_out_of_stable_do_not_stand_in_for_it() {
    let leftover = minutes(0..40, calls(1, 0, 1, 0), calls(100, 1, 9, 22));
    let said = at_weight(&only(THRESHOLD), 100.0, Some(calls(1000, 15, 60, 220)), &leftover, 40).verdict;
    assert_eq!(failed(said).sides.stable.calls, 1000.0);
}

#[test]
fn at_100_percent_without_a_baseline_threshold_and_not_worse_only_count_calls() {
    for rule in [THRESHOLD, NOT_WORSE] {
        let said = |canary, until| at_weight(&only(rule), 100.0, None, &minutes(5..until, calls(0, 0, 0, 0), canary), 60).verdict;
        assert_eq!(said(calls(5, 0, 2, 2), 8), Verdict::Inconclusive(Doubt::TooFewCalls { seen: 15, needed: 20 }), "{rule}");
        assert_eq!(said(calls(5, 0, 2, 2), 9), Verdict::Pass, "{rule}");
    }
}

#[test]
fn at_100_percent_without_a_baseline_hysteresis_and_consecutive_keep_their_limit_on_errors() {
    for rule in [HYSTERESIS, CONSECUTIVE] {
        let said = |canary| at_weight(&only(rule), 100.0, None, &minutes(5..30, calls(0, 0, 0, 0), canary), 60).verdict;
        assert_eq!(said(calls(20, 1, 9, 9)), Verdict::Pass, "{rule}");
        assert_eq!(failed(said(calls(20, 2, 0, 0))).sides.metric, "error", "{rule}");
    }
}

#[test]
fn the_bake_rule_judges_at_100_percent_and_nowhere_else() {
    let policy = policy(r#"{"rule":{"kind":"not-worse"},"bake_rule":{"kind":"threshold"},"errors":{"percent":100}}"#);
    let seen = minutes(0..40, calls(100, 0, 6, 0), calls(50, 0, 6, 0));
    let said = |percent, baseline| at_weight(&policy, percent, baseline, &seen, 40).verdict;
    assert!(matches!(said(50.0, None), Verdict::Inconclusive(Doubt::Worse { .. })));
    assert!(fails(&said(100.0, Some(calls(1000, 0, 60, 0)))));
}

// ---- the limit on errors beside the rules ------------------------------------------------------------------------------------

#[test]
fn errors_above_five_percent_in_three_windows_of_ten_calls_take_back_under_every_rule_but_the_errors_own() {
    for rule in [THRESHOLD, HYSTERESIS, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        // Windows are pooled until they hold ten canary calls: three minutes each.
        let bad = minutes(5..14, calls(50, 0, 3, 0), calls(4, 1, 0, 0));
        assert!((5..16).all(|now| !fails(&verdict(&policy, &bad, now))), "{rule}");
        let breach = failed(verdict(&policy, &bad, 16));
        assert_eq!((breach.sides.metric.as_str(), breach.proof, breach.sides.canary.calls), ("error", Proof::InARow(3), 36.0), "{rule}");
        let exactly = minutes(5..60, calls(50, 0, 3, 0), calls(20, 1, 0, 0));
        assert!(!fails(&verdict(&policy, &exactly, 40)), "{rule}: 5.0 % is no breach");
        let mended: Vec<Window> = told(&[Some(ERRING), Some(ERRING), Some(WELL), Some(ERRING), Some(ERRING), Some(WELL)]);
        assert!(!fails(&verdict(&policy, &mended, 40)), "{rule}: never three in a row");
    }
}

#[test]
fn one_failed_call_at_night_is_no_alarm() {
    let night = minutes(5..6, calls(0, 0, 0, 0), calls(1, 1, 0, 0));
    for rule in [THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        assert!(matches!(verdict(&policy, &night, 16), Verdict::Inconclusive(_)), "{rule}");
    }
}

#[test]
fn calls_that_ended_right_after_a_step_prove_nothing() {
    // Four in ten: below the trip-wire, which looks at the young minutes too.
    let young = minutes(0..5, calls(50, 0, 3, 0), calls(20, 8, 0, 0));
    for rule in [THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        assert!(!fails(&verdict(&policy, &young, 60)), "{rule}");
    }
}

#[test]
fn minutes_without_a_call_are_not_data() {
    let silent = minutes(0..60, Counts::default(), Counts::default());
    for rule in [r#""kind":"sequential""#, THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        let analysis = at_weight(&policy, 5.0, None, &silent, 60);
        assert_eq!((analysis.data_minutes, analysis.last_data), (0, None), "{rule}");
        assert!(matches!(analysis.verdict, Verdict::Inconclusive(_)), "{rule}");
    }
}

#[test]
fn a_limit_that_stable_shares_does_not_keep_the_rule_from_looking() {
    // A back end both flows call fails for every tenth caller, and the canary loses a fifth of its callers besides.
    let seen = minutes(0..40, calls(100, 10, 6, 0), calls(20, 2, 4, 0));
    for rule in [THRESHOLD, HYSTERESIS] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        assert_eq!(failed(verdict(&policy, &seen, 31)).sides.metric, "abandon", "{rule}");
    }
}

#[test]
fn errors_that_stable_shared_do_not_excuse_those_it_does_not_share_later() {
    for rule in [THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        let mut seen = minutes(0..120, calls(100, 10, 6, 0), calls(20, 2, 0, 0));
        let shared = verdict(&policy, &seen, 20);
        assert!(matches!(shared, Verdict::Inconclusive(Doubt::Shared { .. })), "{rule}: {shared:?}");
        seen.iter_mut().filter(|w| w.start >= at(20)).for_each(|w| w.counts.stable = calls(100, 0, 6, 0));
        let breach = failed(verdict(&policy, &seen, 60));
        assert_eq!(breach.sides.metric, "error", "{rule}: stable is well again, and the canary stands by itself");
    }
}

#[test]
fn errors_that_both_cohorts_had_for_a_while_do_not_hold_the_step_for_ever() {
    for rule in [THRESHOLD, HYSTERESIS, CONSECUTIVE, NOT_WORSE] {
        let policy = policy(&format!(r#"{{"rule":{{{rule}}}}}"#));
        let mut seen = minutes(0..200, calls(100, 10, 6, 0), calls(20, 2, 0, 0));
        seen.iter_mut().filter(|w| w.start >= at(20)).for_each(|w| w.counts = Comparison { stable: STABLE, canary: WELL });
        assert_eq!(verdict(&policy, &seen, 180), Verdict::Pass, "{rule}: both have been well for hours");
    }
}
