//! Background work: loops that claim what is due and do it, so that any number of servers may run
//! and a server that dies leaves nothing undone for long.

pub mod announcements;
pub mod billing;
pub mod cleanup;
pub mod housekeeping;
pub mod liveness;
pub mod previews;
pub mod reconcile;
pub mod relay;
pub mod runner;

use std::{future::Future, sync::Arc, time::Duration};

use metrics::Counter;
use tracing::Instrument;

use crate::app::{App, error::Result};

/// Starts every loop. They end when `app.shutdown` is cancelled; `app.tasks` waits for them.
pub fn start(app: &Arc<App>) {
    spawn(app, "reconcile", reconcile::run);
    spawn(app, "liveness", liveness::run);
    spawn(app, "billing", billing::run);
    spawn(app, "cleanup", cleanup::run);
    spawn(app, "relay", relay::run);
    spawn(app, "adopt", runner::run);
    spawn(app, "housekeeping", housekeeping::run);
    spawn(app, "announcements", announcements::run);
    spawn(app, "previews", previews::run);
}

fn spawn<F, Fut>(app: &Arc<App>, name: &'static str, work: F)
where
    F: FnOnce(Arc<App>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let span = tracing::info_span!("work", name);
    let (shutdown, work) = (app.shutdown.clone(), work(Arc::clone(app)));
    app.tasks.spawn(
        async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = work => {}
            }
        }
        .instrument(span),
    );
}

/// Repeats a piece of work for ever: at once while it finds something, else after `pause`. A failure
/// is logged when it is new and the pause grows, so that a database that is down for an hour is
/// neither hammered nor logged ten thousand times; each counts.
pub(crate) async fn repeat<F, Fut>(pause: Duration, failed: &Counter, mut work: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    const LONGEST: Duration = Duration::from_secs(10);
    // Also for work that paces itself while all is well.
    const SHORTEST: Duration = Duration::from_millis(100);
    let mut failures = 0_u32;
    loop {
        match work().await {
            Ok(found) => {
                if failures > 0 {
                    tracing::info!(failures, "works again");
                }
                failures = 0;
                if !found {
                    tokio::time::sleep(pause).await;
                }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "failed; trying again");
                }
                failed.increment(1);
                failures = failures.saturating_add(1);
                let longer = pause.max(SHORTEST) * 2_u32.saturating_pow(failures.min(7));
                tokio::time::sleep(longer.min(LONGEST)).await;
            }
        }
    }
}
