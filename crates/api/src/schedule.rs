//! The schema of a schedule: CEL rules that accept what the CronJob API accepts.
//!
//! Kubernetes parses a CronJob's schedule with robfig/cron's `ParseStandard` (pkg/apis/batch/validation). These rules never
//! accept what that parser refuses. They refuse a few things that it happens to accept and nobody means: `*-5`, `,5`, `+5`,
//! tabs between the fields, `@every` with a zero, negative or sub-second period.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// Bounds the cost of the rules, which the API server estimates from it.
const MAX_LENGTH: usize = 100;

const NO_NAMES: &[&str] = &[];
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One of the five fields of a schedule.
struct Field {
    title: &'static str,
    low: usize,
    high: usize,
    /// Names of the values from `low` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { title: "minute", low: 0, high: 59, names: NO_NAMES },
    Field { title: "hour", low: 0, high: 23, names: NO_NAMES },
    Field { title: "day of month", low: 1, high: 31, names: NO_NAMES },
    Field { title: "month", low: 1, high: 12, names: MONTHS },
    Field { title: "day of week", low: 0, high: 6, names: DAYS },
];

const WORDS: &str = "self.split(' ').filter(w, w != '')";

impl Field {
    /// CEL: the number that the text `e` stands for, or -1.
    fn value(&self, e: &str) -> String {
        let number = format!("({e}.matches('^[0-9]{{1,9}}$') ? int({e}) : -1)");
        if self.names.is_empty() {
            return number;
        }
        let named = self.names.iter().zip(self.low..).map(|(name, value)| format!("'{name}': {value}"));
        let map = format!("{{{}}}", named.collect::<Vec<_>>().join(", "));
        format!("({e} in {map} ? {map}[{e}] : {number})")
    }

    /// CEL: whether the field at this place of the schedule is a list of values, ranges and steps within the bounds.
    fn rule(&self, place: usize) -> String {
        let (low, high) = (self.low, self.high);
        let range = "i.split('/')[0]";
        let (first, last) = (format!("{range}.split('-')[0]"), format!("{range}.split('-')[1]"));
        let (only, first, last) = (self.value(range), self.value(&first), self.value(&last));
        let step = "i.split('/').size() == 1 || (i.split('/').size() == 2 \
                    && i.split('/')[1].matches('^[0-9]{1,9}$') && int(i.split('/')[1]) > 0)";
        let single = format!("{range}.split('-').size() == 1 && {only} >= {low} && {only} <= {high}");
        let span = format!(
            "{range}.split('-').size() == 2 && {first} >= {low} && {first} <= {last} && {last} <= {high}"
        );
        let item = format!("({step}) && ({range} in ['*', '?'] || ({single}) || ({span}))");
        let words = WORDS.replace("self", "self.lowerAscii()");
        format!("self.startsWith('@') || {WORDS}.size() != 5 || {words}[{place}].split(',').all(i, {item})")
    }

    fn message(&self) -> String {
        let names = match self.names {
            [] => String::new(),
            [first, .., last] => format!(" or names ({} to {})", first.to_uppercase(), last.to_uppercase()),
            [one] => format!(" or {one}"),
        };
        format!(
            "schedule, {}: expected values from {} to {}{names}, as *, lists (1,2), ranges (1-5) and steps (*/5)",
            self.title, self.low, self.high
        )
    }
}

/// Schema of `spec.schedule`.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    let shape = format!(
        "self.startsWith('@') ? (self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') \
         || (self.matches('{EVERY}') && self.matches('[1-9]'))) : {WORDS}.size() == 5"
    );
    let mut rules = vec![json!({
        "rule": shape,
        "message": "schedule: expected five fields (minute hour day-of-month month day-of-week), \
                    a macro such as @daily, or a period such as @every 5m",
    })];
    for (place, field) in FIELDS.iter().enumerate() {
        rules.push(json!({ "rule": field.rule(place), "message": field.message() }));
    }
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_LENGTH,
        "x-kubernetes-validations": rules,
    })
}

/// A Go duration of whole seconds or more, each unit at most once and short enough never to overflow.
const EVERY: &str = "^@every ([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_stay_within_what_an_api_server_takes() {
        let schema = schema(&mut SchemaGenerator::default());
        let rules = schema.get("x-kubernetes-validations").and_then(|r| r.as_array()).unwrap();
        assert_eq!(rules.len(), 6);
        let size: usize = rules.iter().map(|r| r["rule"].as_str().unwrap().len()).sum();
        assert!(size < 12_000, "{size} bytes of rules");
    }

    #[test]
    fn messages_name_the_field_and_what_is_expected() {
        assert!(
            FIELDS[4].message().contains("day of week: expected values from 0 to 6 or names (SUN to SAT)")
        );
    }
}
