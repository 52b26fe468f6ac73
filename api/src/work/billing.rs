//! Settles accounts when they are due: each minute while something is metered, and at the very instant
//! at which credit ends.

use std::{sync::Arc, time::Duration};

use super::repeat;
use crate::{
    app::{App, billing::tick},
    bus::Nudge,
};

/// Looked for again after this even without a nudge: other servers' accounts, and the clock.
const PAUSE: Duration = Duration::from_millis(250);

/// Settles for ever.
pub async fn run(app: Arc<App>) {
    let mut nudges = app.bus.subscribe();
    let failed = app.metrics.failures.billing.clone();
    repeat(Duration::ZERO, &failed, move || {
        let app = Arc::clone(&app);
        let mut waiting = std::mem::replace(&mut nudges, app.bus.subscribe());
        async move {
            let more = tick::round(&app).await?;
            if !more {
                waiting.wait(PAUSE, |nudge| nudge == Nudge::Billing).await;
            }
            Ok(more)
        }
    })
    .await;
}
