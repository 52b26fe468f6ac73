//! Follows the outbox of the database.

use std::{io::Write, ops::ControlFlow, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Failure, Printer, tell};
use crate::app::{
    App,
    error::Error,
    events::feed::{self, Wanted},
};

/// Events read at a time.
const PAGE: u32 = 500;
/// Looked for again after this.
const PAUSE: Duration = Duration::from_millis(250);
/// After the database failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// After a position.
    Position(i64),
    /// After what is there.
    Now,
}

/// What to do where the outbox ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Leave,
    Wait,
}

/// Prints what is wanted.
pub(super) async fn tail<W: Write>(
    app: &Arc<App>,
    wanted: &Wanted,
    (from, at_end): (From, End),
    printer: &mut Printer<'_, W>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut cursor = match from {
        From::Position(position) => position,
        From::Now => feed::end(&app.db).await?,
    };
    if at_end == End::Wait {
        tell(&format!("following the outbox from position {cursor}"));
    }
    let mut failed = false;
    while !stop.is_cancelled() {
        let page = match feed::page(&app.db, wanted, cursor, PAGE).await {
            Ok(page) => page,
            Err(Error::Store(error @ store::Error::Unavailable(_))) if at_end == End::Wait => {
                if !failed {
                    tell(&format!("{error}; trying again"));
                }
                failed = true;
                wait(FAILURE_PAUSE, stop).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failed = false;
        for event in &page.events {
            if printer.print(event)? == ControlFlow::Break(()) {
                return Ok(printer.flush()?);
            }
        }
        printer.flush()?;
        cursor = page.next;
        match at_end {
            _ if page.has_more => {}
            End::Leave => return Ok(()),
            End::Wait => wait(PAUSE, stop).await,
        }
    }
    Ok(())
}

async fn wait(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
