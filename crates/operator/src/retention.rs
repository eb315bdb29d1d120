//! Which backups of a policy are kept, and why: restic's `forget`, for records.
//!
//! The rules are those of restic 0.16 and later, with the same names and the same results:
//! - Backups are looked at from the newest to the oldest. A rule with a count keeps the newest one of each of the last
//!   `n` hours, days, ISO weeks, months or years *that have a backup*; `last` keeps the last `n`. Hours without a backup
//!   do not count, and neither does the time that has passed since the newest.
//! - A rule that has not used up its count keeps the oldest backup too, so that a history grows to its full length.
//!   restic does so since 0.16.0: 0.14 and 0.15 remove that backup.
//! - `within` keeps all that is younger than the newest backup by less than a duration ([`Within`]).
//! - What one rule keeps is kept. Each rule counts for itself.
//! - A pinned backup is kept, and is looked at by the rules as if it were not pinned: the newest of its day, it is the
//!   daily one. So restic does with `--keep-tag`.
//!
//! The calendar is UTC's. restic takes the offset that a snapshot was stored with, which is UTC for all that our jobs and
//! KubeDR's made.
//!
//! In three points this goes beyond restic, always to keep more:
//! - The newest backup is kept whatever the rules say. If its time lies in the future, because a node's clock was wrong,
//!   the newest that does not is kept as well.
//! - No rules at all keep everything.
//! - Of two backups of the same instant the one with the greater key counts as the newer, in whatever order they are
//!   given, so that the answer depends on nothing but the backups. restic takes them as the storage lists them.

pub mod within;

use std::fmt;
use std::num::NonZeroU32;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

pub use within::Within;

/// A backup, as far as the rules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup<K> {
    /// What the caller knows it by.
    pub key: K,
    /// The time of the snapshot.
    pub time: Timestamp,
    /// Whether it is kept whatever the rules say.
    pub pinned: bool,
}

/// How many backups are kept. A rule that is absent keeps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// The last ones.
    pub last: Option<NonZeroU32>,
    /// The newest of each of so many hours.
    pub hourly: Option<NonZeroU32>,
    /// The newest of each of so many days.
    pub daily: Option<NonZeroU32>,
    /// The newest of each of so many weeks, which begin on Monday.
    pub weekly: Option<NonZeroU32>,
    /// The newest of each of so many months.
    pub monthly: Option<NonZeroU32>,
    /// The newest of each of so many years.
    pub yearly: Option<NonZeroU32>,
    /// All of this time before the newest backup.
    pub within: Option<Within>,
}

impl KeepRules {
    fn counts(&self) -> Vec<Count> {
        let Self { last, hourly, daily, weekly, monthly, yearly, within: _ } = self;
        let rules = [
            (Rule::Last, last),
            (Rule::Hourly, hourly),
            (Rule::Daily, daily),
            (Rule::Weekly, weekly),
            (Rule::Monthly, monthly),
            (Rule::Yearly, yearly),
        ];
        let present = rules.into_iter().filter_map(|(rule, count)| Some((rule, (*count)?.get())));
        present.map(|(rule, left)| Count { rule, left, kept: None }).collect()
    }
}

/// A rule with a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Any backup.
    Last,
    /// The newest of an hour.
    Hourly,
    /// The newest of a day.
    Daily,
    /// The newest of an ISO week.
    Weekly,
    /// The newest of a month.
    Monthly,
    /// The newest of a year.
    Yearly,
}

impl Rule {
    /// Whether the rule keeps only one of two backups of these times.
    fn takes_for_one(self, a: DateTime, b: DateTime) -> bool {
        let week = |time: DateTime| {
            let week = time.date().iso_week_date();
            (week.year(), week.week())
        };
        match self {
            Self::Last => false,
            Self::Hourly => (a.date(), a.hour()) == (b.date(), b.hour()),
            Self::Daily => a.date() == b.date(),
            Self::Weekly => week(a) == week(b),
            Self::Monthly => (a.year(), a.month()) == (b.year(), b.month()),
            Self::Yearly => a.year() == b.year(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last snapshot",
            Self::Hourly => "hourly snapshot",
            Self::Daily => "daily snapshot",
            Self::Weekly => "weekly snapshot",
            Self::Monthly => "monthly snapshot",
            Self::Yearly => "yearly snapshot",
        })
    }
}

/// Why a backup is kept. In words where restic has some, those of `restic forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest, or the newest that is not in the future.
    Newest,
    /// It is pinned.
    Pinned,
    /// There are no rules.
    NoRules,
    /// It is so much younger than the newest, or less.
    Within(Within),
    /// A rule with a count keeps it.
    Rule(Rule),
    /// It is the oldest, and this rule's count is not used up.
    Oldest(Rule),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest snapshot"),
            Self::Pinned => f.write_str("pinned"),
            Self::NoRules => f.write_str("no rules"),
            Self::Within(within) => write!(f, "within {within}"),
            Self::Rule(rule) => rule.fmt(f),
            Self::Oldest(rule) => write!(f, "oldest {rule}"),
        }
    }
}

/// A backup and why it is kept; no reason: it has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<'a, K> {
    /// The backup.
    pub backup: &'a Backup<K>,
    /// All that keeps it.
    pub reasons: Vec<Reason>,
}

/// What the rules say of each backup of one policy, the newest first.
///
/// A backup whose time is after `now` is judged by the rules like any other, but `within` is not measured from it.
#[must_use]
pub fn judge<'a, K: Ord>(backups: &'a [Backup<K>], rules: &KeepRules, now: Timestamp) -> Vec<Judged<'a, K>> {
    let mut newest_first: Vec<&Backup<K>> = backups.iter().collect();
    newest_first.sort_by(|a, b| (b.time, &b.key).cmp(&(a.time, &a.key)));

    let newest_past = newest_first.iter().position(|backup| backup.time <= now);
    let cutoff = rules.within.map(|within| {
        let newest = newest_past.map(|number| newest_first[number].time);
        (within, newest.map_or(Timestamp::MIN, |newest| within.before(newest)))
    });
    let mut counts = rules.counts();
    let no_rules = *rules == KeepRules::default();
    let oldest = newest_first.len().saturating_sub(1);

    let judged = newest_first.into_iter().enumerate().map(|(number, backup)| {
        let mut reasons = Vec::new();
        reasons.extend((number == 0 || newest_past == Some(number)).then_some(Reason::Newest));
        reasons.extend(backup.pinned.then_some(Reason::Pinned));
        reasons.extend(no_rules.then_some(Reason::NoRules));
        reasons.extend(
            cutoff.filter(|(_, cutoff)| backup.time > *cutoff).map(|(within, _)| Reason::Within(within)),
        );
        let time = Offset::UTC.to_datetime(backup.time);
        reasons.extend(counts.iter_mut().filter_map(|count| count.keep(time, number == oldest)));
        Judged { backup, reasons }
    });
    judged.collect()
}

/// Keys of the backups that no rule keeps, the oldest first: the order to delete them in.
///
/// Once these are gone, the same rules find nothing more to delete.
#[must_use]
pub fn expired<'a, K: Ord>(backups: &'a [Backup<K>], rules: &KeepRules, now: Timestamp) -> Vec<&'a K> {
    let newest_first = judge(backups, rules, now);
    let expired = newest_first.into_iter().rev().filter(|judged| judged.reasons.is_empty());
    expired.map(|judged| &judged.backup.key).collect()
}

/// What is left of a rule's count on the way from the newest to the oldest.
#[derive(Debug)]
struct Count {
    rule: Rule,
    left: u32,
    kept: Option<DateTime>,
}

impl Count {
    fn keep(&mut self, time: DateTime, is_oldest: bool) -> Option<Reason> {
        let again = self.kept.is_some_and(|kept| self.rule.takes_for_one(kept, time));
        if self.left == 0 || (again && !is_oldest) {
            return None;
        }
        self.left -= 1;
        self.kept = Some(time);
        Some(if again { Reason::Oldest(self.rule) } else { Reason::Rule(self.rule) })
    }
}

#[cfg(test)]
mod against_restic;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod tests;
