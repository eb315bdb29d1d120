//! Around the work: its beginning and end are told, and SIGTERM ends it.

use std::{future::Future, time::Duration};

use crate::Failure;

/// What is told of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Word<D> {
    /// It has begun.
    Started,
    /// It is done, stored and checked.
    Completed(D),
    /// It failed; the text says why and what to do.
    Failed(String),
}

/// How long a report may take, all tries together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Little depends on it, or there is little time left: two seconds for each thing that is to be written.
    Little,
    /// The run's result depends on it: five minutes for each thing that is to be written.
    Full,
}

impl Patience {
    /// The time limit.
    #[must_use]
    pub const fn limit(self) -> Duration {
        match self {
            Self::Little => Duration::from_secs(2),
            Self::Full => Duration::from_mins(5),
        }
    }
}

/// Whoever is told what becomes of a run.
pub trait Reporter<D>: Sync {
    /// Tells it. An error is one line.
    fn tell(&self, word: &Word<D>, patience: Patience) -> impl Future<Output = Result<(), String>> + Send;
}

/// Does the job and tells about it, unless `terminated` comes first.
///
/// A success is told before this returns `Ok`; if that fails, so does the run. Work that has not begun is not kept waiting by
/// an API server that is away, and SIGTERM is answered within seconds at any time.
pub async fn drive<D: Sync>(
    job: impl Future<Output = Result<D, Failure>>,
    reporter: &impl Reporter<D>,
    terminated: impl Future<Output = ()>,
) -> Result<D, Failure> {
    tokio::pin!(terminated);
    let begun = async {
        if let Err(error) = reporter.tell(&Word::Started, Patience::Little).await {
            tracing::warn!(error, "the beginning of the run could not be reported; going on");
        }
        job.await
    };
    let outcome = tokio::select! {
        // What is done is done, even if SIGTERM came at the same moment.
        biased;
        outcome = begun => outcome,
        () = &mut terminated => Err(Failure::Terminated),
    };
    match outcome {
        Ok(done) => {
            let word = Word::Completed(done);
            tokio::select! {
                told = reporter.tell(&word, Patience::Full) => told.map_err(Failure::Reporting)?,
                // The backup is stored: a few seconds more may save it from going without a record.
                () = &mut terminated => reporter.tell(&word, Patience::Little).await.map_err(Failure::Reporting)?,
            }
            match word {
                Word::Completed(done) => Ok(done),
                Word::Started | Word::Failed(_) => {
                    Err(Failure::Unexpected("a report changed its word".to_owned()))
                }
            }
        }
        // Why it was ended, and what to do, the operator knows: the deadline, the pod's deletion, the node's drain. It tells
        // that, and a word of ours would only stand in its way.
        Err(Failure::Terminated) => Err(Failure::Terminated),
        Err(failure) => {
            let word = Word::Failed(failure.to_string());
            tokio::select! {
                told = reporter.tell(&word, Patience::Full) => if let Err(error) = told {
                    tracing::error!(error, "the failure could not be reported; the operator will");
                },
                () = &mut terminated => {}
            }
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future, sync::Mutex};

    use super::*;

    /// Remembers what it was told; fails on words of this kind.
    #[derive(Default)]
    struct Recorder {
        told: Mutex<Vec<(Word<u8>, Patience)>>,
        refuses: Option<fn(&Word<u8>) -> bool>,
        hangs: Option<fn(&Word<u8>) -> bool>,
    }

    impl Reporter<u8> for Recorder {
        async fn tell(&self, word: &Word<u8>, patience: Patience) -> Result<(), String> {
            self.told.lock().unwrap().push((word.clone(), patience));
            if self.hangs.is_some_and(|hangs| hangs(word)) {
                future::pending::<()>().await;
            }
            if self.refuses.is_some_and(|refuses| refuses(word)) { Err("forbidden".into()) } else { Ok(()) }
        }
    }

    impl Recorder {
        fn words(self) -> Vec<Word<u8>> {
            self.told.into_inner().unwrap().into_iter().map(|(word, _)| word).collect()
        }
    }

    async fn never() {
        future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_success_is_told_before_it_is_one() {
        let recorder = Recorder::default();
        assert_eq!(drive(async { Ok(7) }, &recorder, never()).await.unwrap(), 7);
        assert_eq!(recorder.words(), [Word::Started, Word::Completed(7)]);
    }

    #[tokio::test]
    async fn a_success_that_cannot_be_told_is_a_failure_of_its_own_kind() {
        let recorder =
            Recorder { refuses: Some(|word| matches!(word, Word::Completed(_))), ..Recorder::default() };
        let failure = drive(async { Ok(7) }, &recorder, never()).await.unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string()), (5, "forbidden".to_owned()));
        assert_eq!(
            recorder.words(),
            [Word::Started, Word::Completed(7)],
            "a stored backup is not called failed"
        );
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_does_not_keep_the_work_from_beginning() {
        let recorder = Recorder { refuses: Some(|word| *word == Word::Started), ..Recorder::default() };
        assert!(drive(async { Ok(7) }, &recorder, never()).await.is_ok());
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_message() {
        let recorder = Recorder::default();
        let work = async { Err(Failure::Etcd("no member".into())) };
        assert_eq!(drive(work, &recorder, never()).await.unwrap_err().exit_code(), 3);
        assert_eq!(recorder.words(), [Word::Started, Word::Failed("no member".into())]);
    }

    #[tokio::test]
    async fn sigterm_ends_work_that_hangs_and_leaves_the_reason_to_the_operator() {
        let recorder = Recorder::default();
        let failure = drive(future::pending(), &recorder, tokio::time::sleep(Duration::from_millis(20)));
        assert_eq!(failure.await.unwrap_err().exit_code(), 143);
        assert_eq!(recorder.words(), [Word::Started]);
    }

    #[tokio::test]
    async fn sigterm_ends_a_report_that_hangs() {
        let recorder =
            Recorder { hangs: Some(|word| matches!(word, Word::Failed(_))), ..Recorder::default() };
        let failure = drive(
            async { Err(Failure::Etcd("no member".into())) },
            &recorder,
            tokio::time::sleep(Duration::from_millis(20)),
        );
        assert_eq!(failure.await.unwrap_err().exit_code(), 3);
    }
}
