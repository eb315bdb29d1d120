//! The duration of `keepWithin`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// A duration of the calendar as restic writes it: `1y5m7d2h` is a year, five months, seven days and two hours. It is
/// longer than nothing.
///
/// The units may come in any order, each once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    years: u32,
    months: u32,
    days: u32,
    hours: u32,
}

/// Why a text is no [`Within`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithinError {
    /// It is empty.
    #[error("the duration is empty: expected one such as `1y5m7d2h`")]
    Empty,
    /// All its numbers are zero.
    #[error("the duration `{0}` is zero: raise it, or leave the rule out")]
    Zero(String),
    /// It has a minus sign.
    #[error("the duration `{0}` is negative: remove the minus sign")]
    Negative(String),
    /// It has something else where a number has to be.
    #[error("the duration `{input}` has no number before `{found}`: expected one such as `1y5m7d2h`")]
    NoNumber {
        /// The whole.
        input: String,
        /// What is there.
        found: char,
    },
    /// It ends with a number.
    #[error(
        "the duration `{input}` has no unit after `{number}`: expected `y` (years), `m` (months), `d` (days) or `h` (hours)"
    )]
    NoUnit {
        /// The whole.
        input: String,
        /// The number.
        number: String,
    },
    /// It has a unit that restic does not know, such as a week.
    #[error(
        "the duration `{input}` has the unknown unit `{unit}`: expected `y` (years), `m` (months), `d` (days) or `h` (hours)"
    )]
    UnknownUnit {
        /// The whole.
        input: String,
        /// The unit.
        unit: char,
    },
    /// It has a unit twice; restic would take the last.
    #[error("the duration `{input}` has the unit `{unit}` twice: add the numbers up")]
    Repeated {
        /// The whole.
        input: String,
        /// The unit.
        unit: char,
    },
    /// A number is beyond all use.
    #[error(
        "the duration `{input}` has the number `{number}`, which is too large: expected at most 4294967295"
    )]
    TooLarge {
        /// The whole.
        input: String,
        /// The number.
        number: String,
    },
}

impl Within {
    /// The instant this long before another, in UTC; the earliest of all if it lies before that.
    ///
    /// The day is counted from the first of the month that years and months lead to, as in Go: a month before 31 March is
    /// "31 February", which is 3 March, or 2 March in a leap year.
    #[must_use]
    pub fn before(self, time: Timestamp) -> Timestamp {
        self.checked_before(time).unwrap_or(Timestamp::MIN)
    }

    fn checked_before(self, time: Timestamp) -> Option<Timestamp> {
        let Self { years, months, days, hours } = self;
        let from = Offset::UTC.to_datetime(time);
        let months = i64::from(from.year()) * 12 + i64::from(from.month())
            - 1
            - i64::from(years) * 12
            - i64::from(months);
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
        let first = Date::new(year, month, 1).ok()?.to_datetime(from.time());
        let days = i64::from(from.day()) - 1 - i64::from(days);
        let hours = SignedDuration::from_hours(days * 24 - i64::from(hours));
        Offset::UTC.to_timestamp(first).ok()?.checked_add(hours).ok()
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { years, months, days, hours } = *self;
        for (number, unit) in [(years, 'y'), (months, 'm'), (days, 'd'), (hours, 'h')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Within {
    type Err = WithinError;

    fn from_str(text: &str) -> Result<Self, WithinError> {
        let input = || text.to_owned();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(WithinError::Empty);
        }
        if rest.contains('-') {
            return Err(WithinError::Negative(input()));
        }
        let (mut years, mut months, mut days, mut hours) = (None, None, None, None);
        while let Some(found) = rest.chars().next() {
            let unit_and_rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let number = &rest[..rest.len() - unit_and_rest.len()];
            if number.is_empty() {
                return Err(WithinError::NoNumber { input: input(), found });
            }
            let mut rest_of_it = unit_and_rest.chars();
            let Some(unit) = rest_of_it.next() else {
                return Err(WithinError::NoUnit { input: input(), number: number.to_owned() });
            };
            rest = rest_of_it.as_str();
            let place = match unit {
                'y' => &mut years,
                'm' => &mut months,
                'd' => &mut days,
                'h' => &mut hours,
                _ => return Err(WithinError::UnknownUnit { input: input(), unit }),
            };
            let value: u32 = number
                .parse()
                .map_err(|_| WithinError::TooLarge { input: input(), number: number.to_owned() })?;
            if place.replace(value).is_some() {
                return Err(WithinError::Repeated { input: input(), unit });
            }
        }
        match [years, months, days, hours].map(Option::unwrap_or_default) {
            [0, 0, 0, 0] => Err(WithinError::Zero(input())),
            [years, months, days, hours] => Ok(Self { years, months, days, hours }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(text: &str) -> Within {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn before(text: &str, time: &str) -> String {
        within(text).before(time.parse().unwrap()).to_string()
    }

    #[test]
    fn durations_are_read_as_restic_reads_them_and_written_as_it_writes_them() {
        for (text, written) in [
            ("1y5m7d2h", "1y5m7d2h"),
            ("2h7d5m1y", "1y5m7d2h"),
            (" 30d ", "30d"),
            ("010d", "10d"),
            ("0y12m", "12m"),
            ("4294967295h", "4294967295h"),
        ] {
            assert_eq!(within(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, part) in [
            ("", "is empty"),
            ("  ", "is empty"),
            ("0d", "`0d` is zero"),
            ("0y0m0d0h", "is zero"),
            ("-7d", "`-7d` is negative"),
            ("1y-7d", "`1y-7d` is negative"),
            ("2w", "unknown unit `w`"),
            ("30D", "unknown unit `D`"),
            ("30", "no unit after `30`"),
            ("1y30", "no unit after `30`"),
            ("d", "no number before `d`"),
            ("1y d", "no number before ` `"),
            ("1.5d", "unknown unit `.`"),
            ("+7d", "no number before `+`"),
            ("٣d", "no number before `٣`"),
            ("1y1y", "has the unit `y` twice"),
            ("0d7d", "has the unit `d` twice"),
            ("4294967296d", "`4294967296`, which is too large"),
        ] {
            let error = text.parse::<Within>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_month_before_its_missing_day_is_a_day_of_the_month_after() {
        assert_eq!(before("1m", "2023-03-31T12:00:00Z"), "2023-03-03T12:00:00Z");
        assert_eq!(before("1m", "2024-03-31T12:00:00Z"), "2024-03-02T12:00:00Z");
        assert_eq!(before("1y", "2024-02-29T00:00:00Z"), "2023-03-01T00:00:00Z");
        assert_eq!(before("4y", "2024-02-29T00:00:00Z"), "2020-02-29T00:00:00Z");
        assert_eq!(before("1m", "2024-12-31T00:00:00.5Z"), "2024-12-01T00:00:00.5Z");
    }

    #[test]
    fn years_and_months_go_before_days_and_days_before_hours() {
        assert_eq!(before("1y5m7d2h", "2024-08-01T01:00:00Z"), "2023-02-21T23:00:00Z");
        assert_eq!(before("1m1d", "2023-03-31T00:00:00Z"), "2023-03-02T00:00:00Z");
        assert_eq!(before("14m", "2024-01-15T00:00:00Z"), "2022-11-15T00:00:00Z");
        assert_eq!(before("25h", "2024-03-01T00:00:00Z"), "2024-02-28T23:00:00Z");
    }

    #[test]
    fn a_duration_that_leads_before_all_time_is_no_overflow() {
        for text in ["4294967295y", "4294967295m", "4294967295d", "4294967295h", "20000y"] {
            let time = within(text).before("2024-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(time, Timestamp::MIN, "{text}");
        }
    }
}
