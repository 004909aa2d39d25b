//! The drawing is fair: the share of the canary, the order of the draws, the buckets behind them, and what two rollouts have in common.
//! And whoever was drawn stays on that side.
//!
//! Each figure is tested with a false-alarm probability of 1e-6. There are 60 of them, so at another seed a fair drawing fails with a
//! probability below 1e-4, however the figures depend on each other; at this one it passes each time. One pass asks several routers about
//! the same ids: their keys differ, and that their draws have nothing in common is what the pass tests as well.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // `--nocapture` shows the figures

mod calls;

use calls::Draw;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serin_core::cohort::{Caller, Cohort, Labels, Parameters, Router, Split, SplitKey, Stickiness};
use serin_core::weight::Weight;

const SEED: u64 = 20_261_122;
/// Draws of each router, and the buckets they fall into.
const DRAWS: usize = 10_000_000;
const BUCKETS: usize = 10_000;
/// Two-sided probability of a figure this far out where the drawing is fair; the same in standard deviations.
const ALARM: f64 = 1e-6;
const DEVIATIONS: f64 = 4.8916;

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

/// What the endpoint reads of a rollout (stage, flow, id).
fn parameters([stage, flow, rollout]: [&str; 3], stickiness: Stickiness, weight: Weight) -> Parameters {
    let split = Split {
        rollout: rollout.into(),
        labels: Labels { stable: "v1".into(), canary: "v2".into() },
        stickiness,
        key: SplitKey::derive(stage, flow, rollout),
    };
    Parameters {
        percentage: Some(weight.to_string()),
        revision: 1,
        rollout: Some(serde_json::to_string(&split).unwrap()),
        halt: None,
        heartbeat: Some(now().to_string()),
    }
}

/// A router and what came of its draws.
struct Drawn {
    name: String,
    weight: Weight,
    router: Router,
    canary: usize,
    canary_runs: usize,
    last: Option<(Cohort, usize)>,
    /// Draws by bucket.
    buckets: Vec<u32>,
    /// Draws by the distance from the bucket before: even too, where buckets are even and do not follow from each other.
    steps: Vec<u32>,
}

impl Drawn {
    fn new(of: [&str; 3], stickiness: Stickiness, percent: &str) -> Drawn {
        let weight = percent.parse().unwrap();
        Drawn {
            name: format!("{} by {stickiness:?} at {percent} %", of.join("/")),
            weight,
            router: Router::read(&parameters(of, stickiness, weight)),
            canary: 0,
            canary_runs: 0,
            last: None,
            buckets: vec![0; BUCKETS],
            steps: vec![0; BUCKETS],
        }
    }

    /// The bucket of one more call.
    fn ask(&mut self, caller: Caller<'_>, now: Timestamp) -> usize {
        let answer = self.router.assign(caller, now, 0);
        let bucket = usize::from(answer.bucket);
        let before = self.last.replace((answer.cohort, bucket));
        self.buckets[bucket] += 1;
        if answer.cohort == Cohort::Canary {
            self.canary += 1;
            self.canary_runs += usize::from(before.is_none_or(|(cohort, _)| cohort == Cohort::Stable));
        }
        if let Some((_, before)) = before {
            self.steps[distance(before, bucket)] += 1;
        }
        bucket
    }

    fn figures(&self) -> Vec<(String, bool)> {
        let canary = match self.weight {
            // Nobody and everybody are promises, not expectations.
            Weight::ZERO => self.canary == 0,
            Weight::FULL => self.canary == DRAWS,
            weight => binomial(self.canary, DRAWS, weight.percent() / 100.0) > ALARM,
        };
        vec![
            (format!("{}: {} of {DRAWS} are canary", self.name, self.canary), canary),
            (format!("{}: {} runs of canary", self.name, self.canary_runs), runs(self.canary_runs, self.canary, DRAWS) > ALARM),
            even(format!("{}: buckets", self.name), &self.buckets),
            even(format!("{}: steps from bucket to bucket", self.name), &self.steps),
        ]
    }
}

/// What two routers made of the same calls.
struct Pair {
    /// Draws by the two hundredths that the buckets lie in.
    hundredths: Vec<u32>,
    /// Draws by the distance of the two buckets.
    distances: Vec<u32>,
}

impl Pair {
    fn new() -> Pair {
        Pair { hundredths: vec![0; BUCKETS], distances: vec![0; BUCKETS] }
    }

    fn note(&mut self, one: usize, other: usize) {
        self.hundredths[one / 100 * 100 + other / 100] += 1;
        self.distances[distance(one, other)] += 1;
    }

    fn figures(&self, one: &Drawn, other: &Drawn) -> Vec<(String, bool)> {
        let named = |what: &str| format!("{} beside {}: {what}", one.name, other.name);
        vec![even(named("100 x 100 table"), &self.hundredths), even(named("distances"), &self.distances)]
    }
}

/// Steps from a bucket up to another one, past the last to the first.
fn distance(from: usize, to: usize) -> usize {
    if to >= from { to - from } else { to + BUCKETS - from }
}

/// Asks all routers about `DRAWS` calls with such ids, and compares the first router with each other one.
fn play<const N: usize>(mut drawn: Vec<Drawn>, mut id: impl FnMut(usize) -> [u8; N], by_number: bool) {
    let (now, mut pairs) = (now(), Vec::new());
    pairs.resize_with(drawn.len() - 1, Pair::new);
    for i in 0..DRAWS {
        let id = id(i);
        let text = std::str::from_utf8(&id).unwrap();
        let caller = Caller { conversation: Some(text), number: by_number.then_some(text) };
        let (first, others) = drawn.split_first_mut().unwrap();
        let one = first.ask(caller, now);
        for (other, pair) in others.iter_mut().zip(&mut pairs) {
            pair.note(one, other.ask(caller, now));
        }
    }
    let mut figures: Vec<_> = drawn.iter().flat_map(Drawn::figures).collect();
    figures.extend(drawn[1..].iter().zip(&pairs).flat_map(|(other, pair)| pair.figures(&drawn[0], other)));
    figures.iter().for_each(|(figure, _)| println!("{figure}"));
    let unfair: Vec<_> = figures.into_iter().filter(|(_, fair)| !fair).collect();
    assert!(unfair.is_empty(), "seed {SEED}: {unfair:#?}");
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A UUID of these bits, as Genesys Cloud writes conversation ids; the version and variant are those of random ones.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    let bits = u128::from(high) << 64 | u128::from(low);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = [b'-'; 36];
    let mut digit = 32;
    for (at, byte) in text.iter_mut().enumerate() {
        if ![8, 13, 18, 23].contains(&at) {
            digit -= 1;
            *byte = HEX[(bits >> (4 * digit)) as usize & 15];
        }
    }
    text
}

const FIRST: [&str; 3] = ["test", "main_ivr", "r-20261122-1"];
const SECOND: [&str; 3] = ["test", "main_ivr", "r-20261122-2"];

#[test]
fn conversations_are_drawn_fairly_at_every_weight_and_anew_by_every_rollout() {
    let mut draw = Draw::seeded(SEED);
    let by = |of, percent| Drawn::new(of, Stickiness::Conversation, percent);
    let drawn = vec![
        by(FIRST, "50"),
        by(SECOND, "5"),
        by(["test", "main_ivr", "r-20261123-1"], "1"),
        by(["test", "billing_ivr", "r-20261122-1"], "0.01"),
        by(["prod", "main_ivr", "r-20261122-1"], "99.99"),
        // The same letters in a row.
        by(["testm", "ain_ivr", "r-20261122-1"], "0"),
        by(["test", "main_ivrr", "-20261122-1"], "100"),
    ];
    play(drawn, |_| uuid(draw.bits(), draw.bits()), false);
}

#[test]
fn ids_that_follow_each_other_are_drawn_as_fairly_as_random_ones() {
    let by = |of, percent| Drawn::new(of, Stickiness::Conversation, percent);
    play(vec![by(FIRST, "5"), by(SECOND, "50")], |i| uuid(SEED, i as u64), false);
}

#[test]
fn callers_whose_numbers_follow_each_other_are_drawn_fairly_and_anew_by_every_rollout() {
    let by = |of, percent| Drawn::new(of, Stickiness::Caller, percent);
    // The few that look withheld are drawn by the same text as a conversation.
    let number = |i: usize| {
        let mut text = *b"tel:+49301.......";
        let mut rest = i;
        for byte in text[10..].iter_mut().rev() {
            *byte = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        text
    };
    play(vec![by(FIRST, "1"), by(SECOND, "50")], number, true);
}

#[test]
fn a_weight_takes_as_many_buckets_as_it_has_basis_points() {
    for points in 0..=10_000 {
        let weight = Weight::from_basis_points(points).unwrap();
        let router = Router::read(&parameters(FIRST, Stickiness::Call, weight));
        let canary = |draw| router.assign(Caller::default(), now(), draw).cohort == Cohort::Canary;
        let (last, next) = (points.checked_sub(1), Some(points).filter(|next| *next < 10_000));
        assert!(last.is_none_or(canary) && !next.is_some_and(canary), "{weight} %");
    }
}

/// ln n!, by Stirling's series.
fn ln_factorial(n: usize) -> f64 {
    let x = n as f64;
    match n {
        0..20 => (2..=n).map(|k| (k as f64).ln()).sum(),
        _ => x * x.ln() - x + (std::f64::consts::TAU * x).ln() / 2.0 + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)),
    }
}

fn ln_choose(n: usize, k: usize) -> f64 {
    if k > n { f64::NEG_INFINITY } else { ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) }
}

/// Probability of a count at least so far from the middle of its distribution: twice the smaller tail, summed outwards.
fn two_sided(count: usize, most: usize, ln_probability: impl Fn(usize) -> f64) -> f64 {
    let at = |k: usize| ln_probability(k).exp();
    let falls = count == most || (count > 0 && at(count + 1) < at(count));
    let tail: Box<dyn Iterator<Item = usize>> = if falls { Box::new(count..=most) } else { Box::new((0..=count).rev()) };
    let mut sum = 0.0;
    for k in tail {
        let more = at(k);
        sum += more;
        if more <= sum * 1e-12 {
            break;
        }
    }
    (2.0 * sum).min(1.0)
}

/// The exact binomial test.
fn binomial(count: usize, of: usize, share: f64) -> f64 {
    two_sided(count, of, |k| ln_choose(of, k) + k as f64 * share.ln() + (of - k) as f64 * (1.0 - share).ln())
}

/// The runs test of Wald and Wolfowitz, exact: given how many are canary, the runs of them are as many as the gaps between the others that
/// they fill, which is hypergeometric. A normal distribution would do at 50 %, not where 1,000 of 10^7 are canary.
fn runs(count: usize, canary: usize, of: usize) -> f64 {
    let others = of - canary;
    if canary == 0 || others == 0 {
        return f64::from(count == usize::from(canary > 0));
    }
    let all = ln_choose(of, canary);
    two_sided(count, canary.min(others + 1), |k| {
        if k == 0 { f64::NEG_INFINITY } else { ln_choose(canary - 1, k - 1) + ln_choose(others + 1, k) - all }
    })
}

/// The chi-square test of cells that should be even, two-sided: too even is no chance either. With so many degrees of freedom the cube
/// root is normal (Wilson and Hilferty).
fn even(what: String, cells: &[u32]) -> (String, bool) {
    let mean = cells.iter().map(|n| f64::from(*n)).sum::<f64>() / cells.len() as f64;
    let square: f64 = cells.iter().map(|n| (f64::from(*n) - mean).powi(2) / mean).sum();
    let freedom = (cells.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    let deviations = ((square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    (format!("{what}: chi-square {square:.0} of {freedom}, {deviations:+.1} standard deviations"), deviations.abs() < DEVIATIONS)
}

#[test]
fn the_tests_are_those_of_the_textbook() {
    let near = |p: f64, expected: f64| assert!((p / expected - 1.0).abs() < 1e-6, "{p} is not {expected}");
    near(binomial(0, 10, 0.5), 2.0 / 1024.0);
    near(binomial(9, 10, 0.5), 22.0 / 1024.0);
    near(binomial(10, 10, 0.5), 2.0 / 1024.0);
    near(binomial(5, 10, 0.5), 1.0);
    // 2 of 4 are canary: 3 of the 6 orders have one run of them, 3 have two. 3 of 6: 4, 12 and 4 of the 20.
    near(runs(1, 2, 4), 1.0);
    near(runs(1, 3, 6), 0.4);
    near(runs(3, 3, 6), 0.4);
    // 1,000 canary calls of 10^7 lie apart; hardly ever are two pairs of them neighbours.
    assert!(runs(1_000, 1_000, DRAWS) > 0.5 && runs(994, 1_000, DRAWS) < ALARM);
    // With so many draws the normal distribution is as good: 4.8916 standard deviations are 7,734 draws.
    assert!(binomial(5_000_000 + 7_700, DRAWS, 0.5) > ALARM && binomial(5_000_000 - 7_700, DRAWS, 0.5) > ALARM);
    assert!(binomial(5_000_000 + 7_770, DRAWS, 0.5) < ALARM && binomial(5_000_000 - 7_770, DRAWS, 0.5) < ALARM);
    let mut cells = vec![1_000; BUCKETS];
    assert!(!even("too even".into(), &cells).1);
    // A bucket that is never drawn, among ones that are drawn by chance.
    let mut draw = Draw::seeded(SEED);
    cells.iter_mut().for_each(|n| *n = (1_000.0 + 1_000f64.sqrt() * draw.normal()) as u32);
    assert!(even("fair".into(), &cells).1);
    cells[9_999] = 0;
    assert!(!even("one is never drawn".into(), &cells).1);
}

fn seeded() -> ProptestConfig {
    let told = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match told.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(SEED), ..told },
        RngSeed::Fixed(_) => told,
    }
}

fn weight() -> impl Strategy<Value = Weight> {
    prop_oneof![1 => Just(0), 1 => Just(10_000), 1 => (0u16..=100).prop_map(|whole| whole * 100), 4 => 0..=10_000u16]
        .prop_map(|points| Weight::from_basis_points(points).unwrap())
}

fn stickiness() -> impl Strategy<Value = Stickiness> {
    prop_oneof![Just(Stickiness::Conversation), Just(Stickiness::Caller), Just(Stickiness::Call)]
}

/// An id, a number, anything that a trunk may send, or nothing.
fn told() -> impl Strategy<Value = Option<String>> {
    let uuid = any::<(u64, u64)>().prop_map(|(high, low)| String::from_utf8(uuid(high, low).to_vec()).unwrap());
    let number = prop_oneof!["(tel:|sip:)?\\+?[0-9]{4,17}(;ext=[0-9]{2})?(@10\\.0\\.0\\.1)?", "\\+?[0-9]( ?[0-9]{3}){2,4}"];
    proptest::option::of(prop_oneof![uuid, number, ".*"])
}

proptest! {
    // The same cases every time; PROPTEST_RNG_SEED=n PROPTEST_CASES=m tries others.
    #![proptest_config(ProptestConfig { cases: 1_000, ..seeded() })]

    /// Of one call, at two weights of a rollout, asked twice each.
    #[test]
    fn a_call_keeps_its_side_and_a_higher_weight_only_adds_callers(
        rollout in "r-[0-9]{8}-[0-9]", by in stickiness(), weights in (weight(), weight()),
        conversation in told(), number in told(), draws in (0u16..10_000, 0u16..10_000),
    ) {
        let (low, high) = (weights.0.min(weights.1), weights.0.max(weights.1));
        let router = |weight| Router::read(&parameters(["test", "main_ivr", &rollout], by, weight));
        let (low_router, high_router) = (router(low), router(high));
        let caller = Caller { conversation: conversation.as_deref(), number: number.as_deref() };
        let answer = low_router.assign(caller, now(), draws.0);
        let raised = high_router.assign(caller, now(), draws.0);
        // Where the call is drawn stands in the bucket, which no weight changes.
        prop_assert_eq!((answer.bucket, answer.weight, answer.fallback), (raised.bucket, low, None));
        prop_assert!(raised.cohort >= answer.cohort, "{} at {low}, {} at {high}", answer.cohort, raised.cohort);
        for (answer, weight) in [(answer, low), (raised, high)] {
            prop_assert!(answer.bucket < 10_000);
            prop_assert_eq!(answer.cohort == Cohort::Canary, answer.bucket < weight.basis_points());
            prop_assert_eq!(answer.label, if answer.cohort == Cohort::Canary { "v2" } else { "v1" });
            // What is shown of the bucket, 1 to 100, tells the side wherever the weight is a whole percentage.
            let shown = answer.bucket / 100 + 1;
            if weight.basis_points() % 100 == 0 {
                prop_assert_eq!(answer.cohort == Cohort::Canary, shown <= weight.basis_points() / 100);
            }
        }
        // Only what nothing identifies, or is meant to, is drawn by the draw.
        let again = low_router.assign(caller, now(), draws.1);
        let drawn_by_the_draw = match by {
            Stickiness::Call => true,
            _ if conversation.as_deref().is_some_and(|id| !id.is_empty()) => false,
            Stickiness::Conversation => true,
            Stickiness::Caller => (answer.bucket, again.bucket) == draws,
        };
        prop_assert_eq!(again.bucket, if drawn_by_the_draw { draws.1 } else { answer.bucket });
    }

    /// By conversation the number does not count; by caller the conversation does not where there is a number; by call neither does.
    #[test]
    fn only_what_is_named_keeps_a_caller_on_a_side(
        digits in "[1-9][0-9]{9,14}", ids in ("[a-f0-9]{8}", "[a-f0-9]{8}"), draw in 0u16..10_000,
    ) {
        prop_assume!(ids.0 != ids.1 && !digits.ends_with("0000000"));
        let bucket = |by, conversation: &str, number: &str| {
            let router = Router::read(&parameters(FIRST, by, Weight::FULL));
            router.assign(Caller { conversation: Some(conversation), number: Some(number) }, now(), draw).bucket
        };
        let (plain, as_sip) = (format!("+{digits}"), format!("sip:{digits}@10.0.0.1:5060;user=phone"));
        prop_assert_eq!(bucket(Stickiness::Caller, &ids.0, &plain), bucket(Stickiness::Caller, &ids.1, &as_sip));
        prop_assert_eq!(bucket(Stickiness::Conversation, &ids.0, &plain), bucket(Stickiness::Conversation, &ids.0, "anonymous"));
        prop_assert_eq!(bucket(Stickiness::Caller, &ids.0, "anonymous"), bucket(Stickiness::Conversation, &ids.0, &plain));
        prop_assert_eq!(bucket(Stickiness::Call, &ids.0, &plain), draw);
    }

    /// A contained rollout, a heartbeat that stands, and whatever cannot be read.
    #[test]
    fn who_is_not_drawn_is_stable(
        by in stickiness(), weight in weight(), conversation in told(), number in told(), draw in any::<u16>(), garbage in ".*",
        which in 0usize..8,
    ) {
        let whole = parameters(FIRST, by, weight);
        let unreadable = serde_json::from_str::<Split>(&garbage).is_err() && garbage.parse::<Weight>().is_err();
        prop_assume!(unreadable && garbage.parse::<Timestamp>().is_err());
        let router = match which {
            0 => Router::read(&Parameters { halt: Some(FIRST[2].into()), ..whole }),
            1 => Router::read(&Parameters { heartbeat: None, ..whole }),
            2 => Router::read(&Parameters { heartbeat: Some("2026-11-22T09:54:59Z".into()), ..whole }),
            3 => Router::read(&Parameters { heartbeat: Some(garbage), ..whole }),
            4 => Router::read(&Parameters { percentage: Some(garbage), ..whole }),
            5 => Router::read(&Parameters { rollout: Some(garbage), ..whole }),
            6 => Router::read(&Parameters { rollout: None, percentage: None, ..whole }),
            _ => Router::unreadable(Some(&Router::read(&whole))),
        };
        let answer = router.assign(Caller { conversation: conversation.as_deref(), number: number.as_deref() }, now(), draw);
        prop_assert_eq!((answer.cohort, answer.weight), (Cohort::Stable, Weight::ZERO));
        prop_assert!(answer.label != "v2" && answer.bucket < 10_000);
        // Halted is no fault, and at 0 nobody misses a heartbeat.
        prop_assert_eq!(answer.fallback.is_none(), which == 0 || (1..=3).contains(&which) && weight == Weight::ZERO);
    }
}
