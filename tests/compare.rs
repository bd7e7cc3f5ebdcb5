//! The arithmetic of the comparison with the twins: medians and spreads, the words for a
//! difference, the judgement of targets, and which measurements are discarded.

#[path = "../benches/versus/compare/arithmetic.rs"]
mod arithmetic;

use arithmetic::{
    Allowance, Better, Difference, MachineTime, OTHERS_SHARE_MAX, Outcome, Side, Spread,
    is_disturbed, paired_ratios, share_of_others,
};

fn spread(figures: &[f64]) -> Spread {
    Spread::of(figures).expect("there is a figure")
}

#[test]
fn a_spread_has_the_middle_and_both_ends_whatever_the_order() {
    let odd = spread(&[5.0, 1.0, 9.0, 2.0, 7.0]);
    assert_eq!((odd.lowest, odd.median, odd.highest, odd.rounds), (1.0, 5.0, 9.0, 5));
    let even = spread(&[4.0, 1.0, 2.0, 9.0]);
    assert_eq!(even.median, 3.0, "the mean of the two in the middle");
    let single = spread(&[3.0]);
    assert_eq!((single.lowest, single.median, single.highest), (3.0, 3.0, 3.0));
    assert_eq!(Spread::of(&[]), None);
}

#[test]
fn one_wild_round_moves_the_spread_and_not_the_median() {
    let calm = spread(&[10.0, 11.0, 12.0, 10.5, 11.5]);
    let wild = spread(&[10.0, 11.0, 1_200.0, 10.5, 11.5]);
    assert_eq!(calm.median, wild.median);
    assert_eq!(wild.highest, 1_200.0);
}

#[test]
fn ratios_pair_the_figures_of_a_round() {
    // Both double from round to round: side by side the ratio is the same in all of them.
    let ours = [Some(1.0), Some(2.0), Some(4.0)];
    let theirs = [Some(2.0), Some(4.0), Some(8.0)];
    assert_eq!(paired_ratios(&ours, &theirs), [0.5, 0.5, 0.5]);
}

#[test]
fn a_round_without_one_of_the_two_has_no_ratio() {
    let ours = [Some(1.0), None, Some(3.0), Some(4.0)];
    let theirs = [Some(2.0), Some(2.0), None, Some(0.0)];
    assert_eq!(paired_ratios(&ours, &theirs), [0.5]);
    assert_eq!(paired_ratios(&ours[..1], &theirs), [0.5], "the longer one's rest is left out");
}

#[test]
fn a_difference_is_told_only_where_every_round_agrees() {
    let word = |ratios: &[f64], better| Difference::of(&spread(ratios), better).word();
    assert_eq!(word(&[0.8, 0.9, 0.99], Better::Lower), "better");
    assert_eq!(word(&[0.8, 0.9, 0.99], Better::Higher), "worse");
    assert_eq!(word(&[1.2, 1.01], Better::Higher), "better");
    assert_eq!(word(&[1.2, 1.01], Better::Lower), "worse");
    assert_eq!(word(&[0.5, 0.6, 1.001], Better::Lower), "within the noise");
    assert_eq!(word(&[0.9, 1.0], Better::Lower), "within the noise", "1 itself is no difference");
    assert_eq!(word(&[0.1], Better::Lower), "one round", "which shows no noise");
}

#[test]
fn a_target_is_judged_by_the_median_and_says_where_rounds_disagree() {
    let outcome = |figures: &[f64], side| Outcome::of(&spread(figures), side, 1.0);
    assert_eq!(outcome(&[1.1, 1.2, 1.3], Side::AtLeast), Outcome::Met);
    assert_eq!(outcome(&[0.9, 1.0, 1.1], Side::AtLeast), Outcome::MetWithinNoise);
    assert_eq!(outcome(&[0.9, 0.99, 1.1], Side::AtLeast), Outcome::MissedWithinNoise);
    assert_eq!(outcome(&[0.7, 0.8, 0.9], Side::AtLeast), Outcome::Missed);
    assert_eq!(outcome(&[0.7, 0.8, 0.9], Side::AtMost), Outcome::Met);
    assert_eq!(outcome(&[1.0, 1.0], Side::AtMost), Outcome::Met, "the bound itself is allowed");
    assert_eq!(outcome(&[1.1, 1.2], Side::AtMost), Outcome::Missed);
    let told = |figures: &[f64]| (outcome(figures, Side::AtMost).words(), figures.len());
    assert_eq!(told(&[0.9, 1.0, 1.1]), ("met, not in every round", 3));
    assert_eq!(told(&[0.9, 1.2, 1.3]), ("missed, not in every round", 3));
    assert_eq!(Outcome::MetWithinNoise.is_met(), Some(true));
    assert_eq!(Outcome::MissedWithinNoise.is_met(), Some(false));
}

#[test]
fn one_round_is_no_evidence_on_either_side_of_a_bound() {
    for figure in [0.9, 1.0, 1.1] {
        let outcome = Outcome::of(&spread(&[figure]), Side::AtMost, 1.0);
        assert_eq!((outcome, outcome.is_met()), (Outcome::OneRound, None));
        assert_eq!(outcome.words(), "one round, no evidence");
    }
}

#[test]
fn what_others_used_is_what_neither_we_nor_nobody_did() {
    let before = MachineTime { busy_s: 100.0, idle_s: 50.0, own_s: 30.0 };
    // Two processors for 10 s: 12 s busy, 9 of them ours.
    let after = MachineTime { busy_s: 112.0, idle_s: 58.0, own_s: 39.0 };
    assert!((share_of_others(&before, &after) - 0.15).abs() < 1e-12);
    assert!(is_disturbed(share_of_others(&before, &after)));
    let quiet = MachineTime { own_s: 41.5, ..after };
    assert!((share_of_others(&before, &quiet) - 0.025).abs() < 1e-12);
    assert!(!is_disturbed(share_of_others(&before, &quiet)));
}

#[test]
fn a_share_is_never_beyond_its_range() {
    let before = MachineTime::default();
    // The ticks of the machine are coarser than those of a process.
    let ours_alone = MachineTime { busy_s: 1.0, idle_s: 1.0, own_s: 1.02 };
    assert_eq!(share_of_others(&before, &ours_alone), 0.0);
    assert_eq!(share_of_others(&before, &before), 0.0, "no time has passed");
    assert!(!is_disturbed(OTHERS_SHARE_MAX), "so much is allowed");
}

#[test]
fn disturbed_measurements_are_repeated_until_the_allowance_is_used_up() {
    let mut allowance = Allowance::new(2);
    assert!(!allowance.discards(false, true), "a quiet one counts");
    assert!(allowance.discards(true, true));
    assert!(allowance.discards(true, true));
    assert!(!allowance.discards(true, true), "the third counts in spite of it");
    assert_eq!((allowance.discarded, allowance.kept_disturbed), (2, 1));
}

#[test]
fn nothing_is_repeated_when_time_is_over() {
    let mut allowance = Allowance::new(2);
    assert!(!allowance.discards(true, false));
    assert_eq!((allowance.discarded, allowance.kept_disturbed), (0, 1));
}
