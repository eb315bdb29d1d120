//! Chance that is the same in every run.

use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{Backup, KeepRules};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 366 * DAY;

/// How the times of a set of backups lie.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// Several in each hour, over three days.
    Minutes,
    /// One in most hours, over weeks.
    Hours,
    /// One on most days, over years.
    Days,
    /// Anywhere in fifteen years.
    Years,
    /// To the nanosecond before, at and after the turn of an hour, day, week, month or year, leap days and the weeks 53
    /// of 2015 and 2020 among them.
    Turns,
    /// Around the ends of months, where a month earlier is not easily said.
    MonthEnds,
}

impl Spread {
    pub const ALL: [Self; 6] =
        [Self::Minutes, Self::Hours, Self::Days, Self::Years, Self::Turns, Self::MonthEnds];
}

/// A sequence of numbers that its seed decides.
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { seed, thrown: 0 }
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.thrown += 1;
        let hash = Sha256::digest([self.seed.to_be_bytes(), self.thrown.to_be_bytes()].concat());
        u64::from_be_bytes(hash[..8].try_into().unwrap()) % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// Backups of distinct times, some pinned, in no order.
    pub fn backups(&mut self, spread: Spread) -> Vec<Backup<u64>> {
        let number = if self.one_in(8) { 1 + self.below(3) } else { 20 + self.below(100) };
        let start = timestamp("2010-01-01T00:00:00Z") + seconds(self.below(5 * YEAR));
        let mut times: Vec<Timestamp> = (0..number).map(|_| self.time(spread, start)).collect();
        if self.one_in(6) {
            times.push(timestamp("2101-05-31T08:00:00Z"));
        }
        let mut backups: Vec<_> = Vec::new();
        for time in times {
            if !backups.iter().any(|backup: &Backup<u64>| backup.time == time) {
                let (key, pinned) = (self.below(u64::MAX), self.one_in(20));
                backups.push(Backup { key, time, pinned });
            }
        }
        backups
    }

    fn time(&mut self, spread: Spread, start: Timestamp) -> Timestamp {
        match spread {
            Spread::Minutes => start + seconds(self.below(3 * DAY)),
            Spread::Hours => start + seconds(self.below(500) * HOUR + self.below(60)),
            Spread::Days => start + seconds(self.below(1500) * DAY + self.below(2 * HOUR)),
            Spread::Years => start + seconds(self.below(15 * YEAR)),
            Spread::Turns => {
                let turn = self.one_of(&[
                    "2015-12-28T00:00:00Z",
                    "2016-01-01T00:00:00Z",
                    "2016-01-04T00:00:00Z",
                    "2016-02-29T00:00:00Z",
                    "2016-03-01T00:00:00Z",
                    "2018-12-31T00:00:00Z",
                    "2019-01-01T00:00:00Z",
                    "2019-07-01T00:00:00Z",
                    "2020-02-29T23:00:00Z",
                    "2020-12-28T00:00:00Z",
                    "2021-01-01T00:00:00Z",
                    "2021-01-04T00:00:00Z",
                    "2023-01-01T00:00:00Z",
                    "2023-01-02T00:00:00Z",
                    "2024-02-29T00:00:00Z",
                    "2024-12-30T00:00:00Z",
                ]);
                let hours = seconds(self.below(4) * HOUR);
                timestamp(turn) + hours + SignedDuration::from_nanos(self.one_of(&[-1, 0, 1]))
            }
            Spread::MonthEnds => {
                let turn = timestamp("2020-01-01T12:00:00Z") + seconds(self.below(60) * 30 * DAY);
                let date = jiff::tz::Offset::UTC.to_datetime(turn).first_of_month();
                let first = jiff::tz::Offset::UTC.to_timestamp(date).unwrap();
                first + seconds(self.below(8) * DAY) - seconds(4 * DAY)
            }
        }
    }

    /// Rules, at least one of them.
    pub fn rules(&mut self) -> KeepRules {
        loop {
            let rules = KeepRules {
                last: self.count(),
                hourly: self.count(),
                daily: self.count(),
                weekly: self.count(),
                monthly: self.count(),
                yearly: self.count(),
                within: self.one_in(3).then(|| {
                    let text = self.one_of(&[
                        "1h", "5h", "1d", "7d", "30d", "1m", "2m", "3m", "6m", "13m", "1y", "2y", "1y1m1d1h",
                        "1y5m7d2h", "1m30h", "11m31d", "300y",
                    ]);
                    text.parse().unwrap()
                }),
            };
            if rules != KeepRules::default() {
                return rules;
            }
        }
    }

    fn count(&mut self) -> Option<NonZeroU32> {
        if !self.one_in(4) {
            return None;
        }
        let limit = self.one_of(&[3, 10, 40, 1000]);
        NonZeroU32::new(1 + u32::try_from(self.below(limit)).unwrap())
    }
}

pub fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn seconds(number: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(number).unwrap())
}
