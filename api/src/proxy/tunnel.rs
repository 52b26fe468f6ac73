//! What follows an upgrade to WebSocket: bytes both ways, until either side closes, nothing passes any
//! more, the preview ends or the server does.

use std::{sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::Instrument;

use super::silence::Activity;
use crate::app::App;

/// Both sides hand their connections over within this, the answer being sent meanwhile.
const HANDOVER: Duration = Duration::from_secs(30);
/// Bytes read at a time, in each direction.
const BUFFER: usize = 16 << 10;

/// Joins two connections once both are handed over. `kept` is dropped at the end.
pub fn join<K: Send + 'static>(
    app: &Arc<App>,
    ends: tokio_util::sync::CancellationToken,
    (client, activity): (OnUpgrade, Activity),
    upstream: OnUpgrade,
    kept: K,
) {
    let (draining, idle_limit) = (app.draining.clone(), super::idle_limit(app));
    app.proxy.tasks.spawn(
        async move {
            let carried = async {
                let handover = async { tokio::try_join!(client, upstream) };
                let Ok(Ok((client, upstream))) = timeout(HANDOVER, handover).await else { return };
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                // However it ends, both sides have been told.
                let _ = tokio::io::copy_bidirectional_with_sizes(
                    &mut client,
                    &mut upstream,
                    BUFFER,
                    BUFFER,
                )
                .await;
            };
            tokio::select! {
                () = carried => {}
                () = activity.ceases(idle_limit) => {}
                () = ends.cancelled() => {}
                () = draining.cancelled() => {}
            }
            drop(kept);
        }
        .in_current_span(),
    );
}
