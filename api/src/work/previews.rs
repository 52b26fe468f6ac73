//! Counts the minutes of previews as they begin.

use std::{sync::Arc, time::Duration};

use super::repeat;
use crate::app::{App, previews::minutes};

/// How often is looked for minutes that have begun.
const PAUSE: Duration = Duration::from_secs(2);

/// Counts for ever.
pub async fn run(app: Arc<App>) {
    repeat(PAUSE, &app.metrics.failures.previews, || minutes::round(&app)).await;
}
