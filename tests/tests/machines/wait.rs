//! Waiting for what takes its time, and not for ever. Hosts may be emulated, and a hundred times as slow as
//! others.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks until there is something to see, and says how long that took.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let started = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return (seen, started.elapsed());
        }
        assert!(started.elapsed() < PATIENCE, "in vain for {PATIENCE:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
}
