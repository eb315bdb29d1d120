//! What is to be done about a Job.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::failure::Verdict;

/// A pod that does not start is given this long before that is called a failure. The kubelet tries a pod that it could not set
/// up again after 10 to 15 seconds (`backOffPeriod` with jitter), so a volume that was slow is there by then.
pub const GRACE: SignedDuration = SignedDuration::from_secs(20);
/// Time between two looks at a pod that is being set up: the kubelet's events do not change the pod.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is known of a Job.
#[derive(Clone, Debug)]
pub struct State {
    /// What became of it.
    pub verdict: Verdict,
    /// Whether its failure has been told.
    pub told: bool,
    /// When it was created.
    pub created: Timestamp,
    /// When it is ended if its pod has not started.
    pub start_timeout: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Wait,
    /// Look again after this time.
    LookAgain(Duration),
    /// Tell that the run failed.
    Tell(String),
    /// Tell that the run failed, and end the Job, which would otherwise keep the next run from starting.
    TellAndEnd(String),
    /// End the Job, whose failure has been told.
    End,
}

/// What is to be done about a Job in this state.
#[must_use]
pub fn decide(state: &State) -> Action {
    let age = state.now.duration_since(state.created);
    let too_long = age >= state.start_timeout;
    match (&state.verdict, state.told) {
        (Verdict::Succeeded | Verdict::Running, _) | (Verdict::Failed(_), true) => Action::Wait,
        (Verdict::Failed(message), false) => Action::Tell(message.clone()),
        (Verdict::CannotStart(_) | Verdict::Starting(_), true) if too_long => Action::End,
        (Verdict::CannotStart(_) | Verdict::Starting(_), true) => {
            Action::LookAgain(until(state.start_timeout - age))
        }
        (Verdict::CannotStart(message), false) if too_long => Action::TellAndEnd(message.clone()),
        (Verdict::CannotStart(message), false) if age >= GRACE => Action::Tell(message.clone()),
        (Verdict::CannotStart(_), false) => Action::LookAgain(until(GRACE - age)),
        (Verdict::Starting(what), false) if too_long => {
            let seconds = state.start_timeout.as_secs();
            Action::TellAndEnd(format!("the job has not started within {seconds} s and was ended: {what}"))
        }
        (Verdict::Starting(_), false) => Action::LookAgain(LOOK_AGAIN),
    }
}

/// A little later than the time itself, so that it has come by then.
fn until(time: SignedDuration) -> Duration {
    Duration::try_from(time).unwrap_or_default() + Duration::from_millis(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(verdict: Verdict, told: bool, second: i64) -> Action {
        let at = |second| Timestamp::from_second(second).unwrap();
        decide(&State {
            verdict,
            told,
            created: at(0),
            start_timeout: SignedDuration::from_secs(300),
            now: at(second),
        })
    }

    fn stuck() -> Verdict {
        Verdict::CannotStart("no image".into())
    }

    #[test]
    fn a_success_needs_nothing() {
        assert_eq!(after(Verdict::Succeeded, false, 9999), Action::Wait);
    }

    #[test]
    fn a_running_job_is_left_alone_however_long_it_takes() {
        assert_eq!(after(Verdict::Running, false, 3000), Action::Wait);
    }

    #[test]
    fn a_failure_is_told_once() {
        assert_eq!(after(Verdict::Failed("m".into()), false, 1), Action::Tell("m".into()));
        assert_eq!(after(Verdict::Failed("m".into()), true, 1), Action::Wait);
    }

    #[test]
    fn a_job_that_cannot_start_is_told_after_the_grace_and_within_thirty_seconds() {
        assert!(GRACE < SignedDuration::from_secs(30));
        let Action::LookAgain(wait) = after(stuck(), false, 5) else { panic!() };
        assert!(wait > Duration::from_secs(15) && wait < Duration::from_secs(16));
        assert_eq!(after(stuck(), false, 20), Action::Tell("no image".into()));
    }

    #[test]
    fn a_job_that_has_not_started_after_five_minutes_is_ended() {
        assert_eq!(after(stuck(), true, 299), Action::LookAgain(Duration::from_millis(1050)));
        assert_eq!(after(stuck(), true, 300), Action::End);
        assert_eq!(after(stuck(), false, 300), Action::TellAndEnd("no image".into()));
        let Action::TellAndEnd(message) = after(Verdict::Starting("pulling".into()), false, 300) else {
            panic!()
        };
        assert!(message.contains("300 s") && message.ends_with("pulling"), "{message}");
    }

    #[test]
    fn a_slow_start_is_watched() {
        assert_eq!(after(Verdict::Starting("pulling".into()), false, 60), Action::LookAgain(LOOK_AGAIN));
    }
}
