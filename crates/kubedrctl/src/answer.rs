//! What a command has found, for people and for programs.

use std::io::{self, Write};

use console::Term;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::{Output, terminal_is_dumb},
    failure::Failure,
};

/// What a command has found.
#[derive(Debug)]
pub struct Answer {
    /// For people: whole lines.
    text: String,
    /// For programs.
    document: Value,
    /// Why the command fails although there is an answer.
    failure: Option<Failure>,
}

impl Answer {
    /// An answer: its lines, and what they tell.
    pub fn new(text: String, document: &impl Serialize) -> Result<Self, Failure> {
        let document =
            serde_json::to_value(document).map_err(|error| Failure::Unexpected(error.to_string()))?;
        Ok(Self { text, document, failure: None })
    }

    /// The same, with a reason to fail.
    pub fn with_failure(self, failure: Option<Failure>) -> Self {
        Self { failure, ..self }
    }

    /// An answer that is only a failure.
    pub fn failed(failure: Failure) -> Self {
        let document = json!({ "error": failure.to_string(), "exitCode": failure.exit_code() });
        Self { text: String::new(), document, failure: Some(failure) }
    }

    /// Prints the answer and why it is none; gives the exit code.
    pub fn print(&self, output: Output, name: &str) -> i32 {
        let text = match output {
            Output::Text => self.text.clone(),
            Output::Json => format!("{:#}\n", self.document),
        };
        let printed = io::stdout().lock().write_all(text.as_bytes());
        let code = match &self.failure {
            None => 0,
            Some(failure) => {
                // Work that was interrupted has left its progress there.
                let terminal = Term::stderr();
                if terminal.is_term() && !terminal_is_dumb() {
                    let _ = terminal.clear_line();
                }
                // Nobody is left to be told that this cannot be told.
                let _ = writeln!(io::stderr(), "{name}: {failure}");
                failure.exit_code()
            }
        };
        match printed {
            // Whoever reads has seen enough: `kubedrctl list backups | head`.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(io::stderr(), "{name}: cannot print the answer: {error}");
                if code == 0 { kubedr_api::names::exit_code::UNEXPECTED } else { code }
            }
            _ => code,
        }
    }
}
