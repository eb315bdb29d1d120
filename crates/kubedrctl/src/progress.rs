//! How far a command has come, on standard error, if that is a terminal.

use std::{sync::Arc, time::Duration};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kubedr_repo::Watch;

use crate::args::terminal_is_dumb;

/// A line on the terminal that goes when this is dropped. Without a terminal there is none.
pub struct Progress(ProgressBar);

impl Progress {
    /// Says what is being done.
    pub fn begin(what: &'static str) -> Self {
        let shown = Term::stderr().is_term() && !terminal_is_dumb();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Says what is being done now.
    pub fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Shows the bytes of what is being done now, once they are known.
    pub fn watch(&self, what: &'static str) -> Watch {
        let bar = self.0.clone();
        bar.set_message(what);
        Arc::new(move |progress| {
            if bar.length() != Some(progress.total) {
                bar.set_length(progress.total);
                bar.set_style(style("{msg} {wide_bar} {bytes}/{total_bytes}"));
            }
            bar.set_position(progress.done);
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A template that is none would show nothing but the default.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
