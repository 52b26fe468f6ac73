//! How far a transfer is, for people who look at a terminal. Others are shown nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::failure::Form;

/// A bar on standard error, gone when it is dropped; none where standard error is no terminal.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows a transfer of so many bytes, or of nobody knows how many.
    pub fn of(what: &str, n_bytes: Option<u64>, form: Form) -> Self {
        let bar = match form {
            Form::Programs => ProgressBar::hidden(),
            // Hides itself where there is no terminal.
            Form::People => ProgressBar::with_draw_target(n_bytes, ProgressDrawTarget::stderr()),
        };
        let style = match n_bytes {
            Some(_) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(crate::print::clean(what));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So many bytes more are through.
    pub fn add(&self, n_bytes: usize) {
        self.0.inc(u64::try_from(n_bytes).unwrap_or(0));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
