//! The one screen.

use anstyle::{AnsiColor, Style};
use console::measure_text_width;
use jiff::{SignedDuration, Timestamp};

use super::judge::{LocationState, LocationStatus, OperatorState, PolicyState, PolicyStatus, Status};
use crate::{
    table::{Cell, Table, numbers, words},
    terminal::{Screen, plain},
};

/// The one screen.
pub fn render(status: &Status, screen: Screen) -> String {
    let wrong = status.problems.len()
        + status.policies.iter().map(|policy| policy.problems.len()).sum::<usize>()
        + status.locations.iter().map(|location| location.problems.len()).sum::<usize>();
    let verdict = match wrong {
        0 => "everything is as it should be".to_owned(),
        1 => "1 problem".to_owned(),
        _ => format!("{wrong} problems"),
    };
    let mut lines = wrapped(&format!("{}: {verdict}", status.namespace), "", screen);
    for problem in &status.problems {
        lines.extend(wrapped(problem, "  ", screen));
    }
    if !status.policies.is_empty() {
        lines.push(String::new());
        let problems = status.policies.iter().map(|policy| policy.problems.as_slice());
        lines.extend(with_problems(policies(status).lines(screen), problems, screen));
    }
    if !status.locations.is_empty() {
        lines.push(String::new());
        let problems = status.locations.iter().map(|location| location.problems.as_slice());
        lines.extend(with_problems(locations(status).lines(screen), problems, screen));
    }
    lines.push(String::new());
    let operator = match status.operator {
        OperatorState::Ready => "ready",
        OperatorState::NotReady => "NOT READY",
        OperatorState::Missing => "MISSING",
        OperatorState::Unknown => "unknown (its Deployment may not be seen)",
    };
    lines.extend(wrapped(&format!("operator: {operator}; records in all: {}", status.records), "", screen));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn policies(status: &Status) -> Table<6> {
    let mut table = Table::new([
        words("POLICY", 0),
        words("STATE", 0),
        words("SUCCESS", 1),
        words("NEXT RUN", 2),
        numbers("RECORDS", 4),
        words("LOCATION", 3),
    ]);
    for policy in &status.policies {
        let PolicyStatus { name, state, last_success, next_run, records, location, .. } = policy;
        table.push([
            name.into(),
            Cell::styled(state.word(), policy_style(*state)),
            last_success.map_or_else(|| "never".to_owned(), |time| ago(time, status.time)).into(),
            next_run.map_or_else(|| "-".to_owned(), |time| ahead(time, status.time)).into(),
            records.to_string().into(),
            location.into(),
        ]);
    }
    table
}

fn locations(status: &Status) -> Table<6> {
    let mut table = Table::new([
        words("LOCATION", 0),
        words("STATE", 0),
        words("LOOKED AT", 1),
        words("CHECKED", 2),
        numbers("RECORDS", 3),
        words("REPOSITORY", 4),
    ]);
    for location in &status.locations {
        let LocationStatus { name, state, repository, last_validation, last_check, records, .. } = location;
        let when =
            |time: &Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |time| ago(time, status.time));
        table.push([
            name.into(),
            Cell::styled(state.word(), location_style(*state)),
            when(last_validation).into(),
            when(last_check).into(),
            records.to_string().into(),
            repository.into(),
        ]);
    }
    table
}

fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}

fn policy_style(state: PolicyState) -> Style {
    match state {
        PolicyState::Ok | PolicyState::Running => colour(AnsiColor::Green),
        PolicyState::New | PolicyState::Paused => colour(AnsiColor::Yellow),
        PolicyState::Failed | PolicyState::Overdue | PolicyState::NotReady => colour(AnsiColor::Red).bold(),
    }
}

fn location_style(state: LocationState) -> Style {
    match state {
        LocationState::Ok => colour(AnsiColor::Green),
        LocationState::Initializing => colour(AnsiColor::Yellow),
        LocationState::NotReady
        | LocationState::Unavailable
        | LocationState::Damaged
        | LocationState::Incomplete
        | LocationState::Overdue => colour(AnsiColor::Red).bold(),
    }
}

/// Each row with its problems below it.
fn with_problems<'a>(
    lines: Vec<String>,
    problems: impl Iterator<Item = &'a [String]>,
    screen: Screen,
) -> Vec<String> {
    let below = std::iter::once(&[][..]).chain(problems);
    let rows = lines.into_iter().zip(below).flat_map(|(line, problems)| {
        let told = problems.iter().flat_map(|problem| wrapped(problem, "  ", screen));
        std::iter::once(line).chain(told).collect::<Vec<_>>()
    });
    rows.collect()
}

/// A text in lines that the screen has room for; a word that is longer stays whole.
fn wrapped(text: &str, indent: &str, screen: Screen) -> Vec<String> {
    let room = screen.width.unwrap_or(usize::MAX);
    let mut lines: Vec<String> = Vec::new();
    for word in plain(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

/// How long ago a time was.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(time)))
}

fn ahead(time: Timestamp, now: Timestamp) -> String {
    format!("in {}", span(time.duration_since(now)))
}

/// A span in its largest unit that still says something.
fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
