//! Hears from other servers that a key or an organization changed, or that a preview has ended
//! (PostgreSQL's LISTEN). While
//! nothing can be heard, the authenticator is told to trust no remembered row.

use std::sync::Arc;

use store::Signal;

use crate::{app::App, bus::Nudge};

/// The announcement that some key or organization changed.
pub const KEYS: &str = "keys";
/// The announcement that some preview has ended.
pub const PREVIEWS: &str = "previews";

/// Listens for ever. Returns at once on SQLite, whose only server is this one.
pub async fn run(app: Arc<App>) {
    let Some(mut listener) = store::listen(&app.db) else { return };
    app.auth.set_channel(false);
    while let Some(signal) = listener.next().await {
        match signal {
            Signal::Up => app.auth.set_channel(true),
            Signal::Message(payload) if payload == KEYS => app.auth.forget_rows(),
            Signal::Message(payload) if payload == PREVIEWS => app.bus.publish(Nudge::Previews),
            Signal::Message(_) => {}
            Signal::Down => {
                tracing::warn!("the announcement channel is down: keys are read on each request");
                app.auth.set_channel(false);
            }
        }
    }
}
