//! Ends what runs of suspended organizations when their grace period is over, and of closed ones.

use std::{sync::Arc, time::Duration};

use super::repeat;
use crate::app::{App, admin::standing};

/// How often is looked: by so much a grace period may seem longer than it is billed.
const PAUSE: Duration = Duration::from_secs(1);

/// Cleans up for ever.
pub async fn run(app: Arc<App>) {
    repeat(PAUSE, &app.metrics.failures.cleanup, || standing::clean_due(&app)).await;
}
