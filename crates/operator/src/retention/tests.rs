//! What the rules promise, in examples and for chance sets of backups. That they are restic's is shown in
//! `against_restic`.

use super::dice::{Dice, Spread, timestamp};
use super::*;

const NOW: &str = "2030-01-01T00:00:00Z";

fn rules(set: impl FnOnce(&mut KeepRules)) -> KeepRules {
    let mut rules = KeepRules::default();
    set(&mut rules);
    rules
}

/// Backups of these times, named by them; with a `!` they are pinned.
fn backups(times: &[&'static str]) -> Vec<Backup<&'static str>> {
    let backup = |key: &&'static str| {
        let time = key.trim_end_matches('!');
        let rest = &"2020-01-01T00:00:00Z"[time.len()..];
        Backup { key: *key, time: timestamp(&format!("{time}{rest}")), pinned: key.ends_with('!') }
    };
    times.iter().map(backup).collect()
}

fn gone<'a>(backups: &'a [Backup<&'static str>], rules: &KeepRules) -> Vec<&'a str> {
    expired(backups, rules, timestamp(NOW)).into_iter().copied().collect()
}

fn why(backups: &[Backup<&'static str>], rules: &KeepRules) -> Vec<String> {
    let line = |judged: Judged<'_, &str>| {
        let reasons: Vec<_> = judged.reasons.iter().map(ToString::to_string).collect();
        format!("{}: {}", judged.backup.key, reasons.join(", "))
    };
    judge(backups, rules, timestamp(NOW)).into_iter().map(line).collect()
}

fn up_to(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

#[test]
fn what_is_beyond_a_count_goes_the_oldest_first() {
    let backups = backups(&["2024-01-04", "2024-01-01", "2024-01-03", "2024-01-05", "2024-01-02"]);
    assert_eq!(gone(&backups, &rules(|r| r.last = up_to(3))), ["2024-01-01", "2024-01-02"]);
}

#[test]
fn without_rules_nothing_goes() {
    let backups = backups(&["2024-01-01", "2024-01-02"]);
    assert_eq!(gone(&backups, &KeepRules::default()), [""; 0]);
    assert_eq!(why(&backups, &KeepRules::default())[1], "2024-01-01: no rules");
}

#[test]
fn of_no_backups_none_is_kept_and_none_goes() {
    assert_eq!(judge::<&str>(&[], &rules(|r| r.daily = up_to(3)), timestamp(NOW)), []);
}

#[test]
fn each_rule_says_what_it_keeps() {
    let backups = backups(&[
        "2024-01-09T23:30",
        "2024-01-09T23",
        "2024-01-09",
        "2024-01-08",
        "2024-01-07",
        "2023-12-31",
    ]);
    let rules = rules(|r| {
        r.daily = up_to(2);
        r.weekly = up_to(2);
        r.within = Some("1h".parse().unwrap());
    });
    assert_eq!(
        why(&backups, &rules),
        [
            "2024-01-09T23:30: newest snapshot, within 1h, daily snapshot, weekly snapshot",
            "2024-01-09T23: within 1h",
            "2024-01-09: ",
            "2024-01-08: daily snapshot",
            "2024-01-07: weekly snapshot",
            "2023-12-31: ",
        ]
    );
}

#[test]
fn a_history_shorter_than_its_rule_keeps_its_oldest_backup() {
    let backups = backups(&["2024-03-01", "2024-02-01", "2024-01-01"]);
    let rules = rules(|r| r.yearly = up_to(3));
    assert_eq!(gone(&backups, &rules), ["2024-02-01"]);
    assert_eq!(why(&backups, &rules)[2], "2024-01-01: oldest yearly snapshot");
}

#[test]
fn weeks_are_those_of_the_iso_calendar() {
    let backups = backups(&["2021-01-04", "2021-01-03T23", "2021-01-01", "2020-12-28", "2020-12-27"]);
    assert_eq!(gone(&backups, &rules(|r| r.weekly = up_to(3))), ["2020-12-28", "2021-01-01"]);
}

#[test]
fn within_ends_just_after_its_length() {
    let backups = backups(&["2024-02-29T12", "2024-01-29T12:00:01", "2024-01-29T12"]);
    assert_eq!(gone(&backups, &rules(|r| r.within = Some("1m".parse().unwrap()))), ["2024-01-29T12"]);
}

#[test]
fn a_pinned_backup_stays_and_takes_its_place_in_the_rules() {
    let backups = backups(&["2024-01-03", "2024-01-02T20!", "2024-01-02T10", "2024-01-01!", "2023-12-31"]);
    assert_eq!(gone(&backups, &rules(|r| r.daily = up_to(2))), ["2023-12-31", "2024-01-02T10"]);
}

#[test]
fn a_backup_from_the_future_neither_ends_the_newest_real_one_nor_moves_within() {
    let backups = backups(&["2099-01-01", "2024-01-02", "2024-01-01", "2023-12-01"]);
    assert_eq!(gone(&backups, &rules(|r| r.last = up_to(1))), ["2023-12-01", "2024-01-01"]);
    let within = rules(|r| r.within = Some("7d".parse().unwrap()));
    assert_eq!(gone(&backups, &within), ["2023-12-01"]);
    let nothing_else = &backups[..1];
    assert_eq!(gone(nothing_else, &within), [""; 0]);
}

#[test]
fn of_the_same_instant_the_greater_key_is_the_newer() {
    let time = timestamp("2024-01-01T00:00:00Z");
    let backup = |key| Backup { key, time, pinned: false };
    for order in [["a", "b"], ["b", "a"]] {
        let backups = order.map(backup);
        assert_eq!(expired(&backups, &rules(|r| r.last = up_to(1)), timestamp(NOW)), [&"a"]);
    }
}

/// For each of some hundred chance sets with chance rules: the set, the rules and the dice.
fn by_chance(mut promise: impl FnMut(&[Backup<u64>], &KeepRules, &mut Dice)) {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        for spread in Spread::ALL {
            let (backups, rules) = (dice.backups(spread), dice.rules());
            promise(&backups, &rules, &mut dice);
        }
    }
}

fn keys(backups: &[Backup<u64>], rules: &KeepRules) -> Vec<u64> {
    expired(backups, rules, timestamp(NOW)).into_iter().copied().collect()
}

#[test]
fn the_newest_and_the_pinned_stay_and_the_oldest_go_first() {
    let mut some_went = 0;
    by_chance(|backups, rules, _| {
        let gone = keys(backups, rules);
        let of = |key: &u64| backups.iter().find(|backup| backup.key == *key).unwrap();
        let newest = backups.iter().max_by_key(|backup| backup.time).unwrap();
        assert!(!gone.contains(&newest.key));
        assert!(!gone.iter().any(|key| of(key).pinned));
        assert!(gone.iter().map(|key| of(key).time).is_sorted());
        some_went += usize::from(!gone.is_empty());
    });
    assert!(some_went > 100, "{some_went}");
}

#[test]
fn when_what_expired_is_gone_nothing_more_expires() {
    by_chance(|backups, rules, _| {
        let gone = keys(backups, rules);
        let left: Vec<_> = backups.iter().filter(|backup| !gone.contains(&backup.key)).cloned().collect();
        assert_eq!(keys(&left, rules), [0; 0], "{rules:?}");
    });
}

#[test]
fn the_order_in_which_backups_are_given_does_not_matter() {
    by_chance(|backups, rules, _| {
        let mut same_times = backups.to_vec();
        same_times.extend(backups.iter().map(|backup| Backup { key: !backup.key, ..backup.clone() }));
        let reversed: Vec<_> = same_times.iter().rev().cloned().collect();
        assert_eq!(keys(&same_times, rules), keys(&reversed, rules));
    });
}

#[test]
fn another_rule_never_costs_a_backup() {
    by_chance(|backups, rules, dice| {
        let another = dice.rules();
        let both = KeepRules {
            last: rules.last.max(another.last),
            hourly: rules.hourly.max(another.hourly),
            daily: rules.daily.max(another.daily),
            weekly: rules.weekly.max(another.weekly),
            monthly: rules.monthly.max(another.monthly),
            yearly: rules.yearly.max(another.yearly),
            within: rules.within.or(another.within),
        };
        let gone = keys(backups, rules);
        assert!(keys(backups, &both).iter().all(|key| gone.contains(key)), "{rules:?} {both:?}");
    });
}
