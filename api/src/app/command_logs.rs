//! Reading what commands print: pages, the live stream and the download. Everything comes from the
//! database, so any server can serve it and it outlives the sandbox.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    Code, Refused,
    command::Command,
    id::{CommandId, OrganizationId},
    organization::Organization,
};
use futures_util::{Stream, stream};
use store::{PageRequest, Reach, commands::LogChunk};
use tokio::time::Instant;

use super::{
    App, Caller, DOWNLOAD_URL_LIFETIME, DownloadUrl,
    error::{Error, Result},
};
use crate::{
    bus::{Nudge, Subscription},
    places::Place,
    signing::Capability,
};

/// Chunks read from the database at a time while streaming.
const PAGE: u32 = 200;
/// A silent stream says that it is alive this often (contract, section 10.7).
const HEARTBEAT: Duration = Duration::from_millis(500);

/// A page of a log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The chunks, by rising `seq`.
    pub items: Vec<LogChunk>,
    /// Whether there are more at present.
    pub has_more: bool,
}

/// What a stream says.
#[derive(Debug, Clone)]
pub enum CommandEvent {
    /// A piece of output.
    Log(LogChunk),
    /// Nothing new, still there.
    Heartbeat(DateTime<Utc>),
    /// The command is over; nothing follows.
    Terminal(Box<Command>, DateTime<Utc>),
    /// The stream cannot go on; nothing follows.
    Error {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        message: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Reads a page of a log; works while the command runs.
///
/// # Errors
/// `not_found`, `stream_gap`.
pub async fn logs(
    app: &Arc<App>,
    caller: &Caller,
    id: CommandId,
    after_seq: u64,
    limit: u32,
) -> Result<LogPage> {
    let commands = store::commands(caller.reach());
    let command = commands.get(app.db.read(), id).await?;
    check_gap(&command, after_seq)?;
    let items = commands.logs(app.db.read(), id, after_seq, limit).await?;
    // Chunks may have been dropped since the command was read.
    if after_seq > 0 && items.first().is_some_and(|first| first.seq > after_seq + 1) {
        return Err(gap().into());
    }
    // A page may be short because its chunks are large.
    let has_more = items.last().is_some_and(|last| last.seq < command.last_seq);
    Ok(LogPage { items, has_more })
}

/// A reader that starts at the beginning gets what is retained; one that resumes must not silently
/// miss chunks.
fn check_gap(command: &Command, after_seq: u64) -> Result<()> {
    if after_seq > 0 && after_seq + 1 < command.first_seq {
        return Err(gap().into());
    }
    Ok(())
}

fn gap() -> Refused {
    Refused::field(
        Code::StreamGap,
        "afterSeq",
        "the log before this position is no longer retained",
    )
}

/// Follows a log: what is retained after `after_seq`, then live output, then exactly one end.
///
/// # Errors
/// `not_found`, `stream_gap`.
pub async fn stream(
    app: &Arc<App>,
    caller: &Caller,
    id: CommandId,
    after_seq: u64,
) -> Result<impl Stream<Item = CommandEvent> + Send + 'static + use<>> {
    let place = app.places.take(caller.org_id()).ok_or_else(|| too_many(app))?;
    let nudges = app.bus.subscribe();
    let command = store::commands(caller.reach()).get(app.db.read(), id).await?;
    check_gap(&command, after_seq)?;
    let follower = Follower {
        app: Arc::clone(app),
        reach: caller.reach(),
        id,
        after_seq,
        nudges,
        _place: place,
        ready: Vec::new().into_iter(),
        last_event: Instant::now(),
        ended: false,
    };
    Ok(stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    }))
}

/// The refusal of one more connection that is held open.
pub(super) fn too_many(app: &App) -> Error {
    Error::QuotaExceeded {
        what: "open streams and foreground commands",
        limit: u64::from(app.places.limit()),
    }
}

struct Follower {
    app: Arc<App>,
    reach: Reach,
    id: CommandId,
    after_seq: u64,
    nudges: Subscription,
    _place: Place,
    ready: std::vec::IntoIter<LogChunk>,
    last_event: Instant,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<CommandEvent> {
        if self.ended {
            return None;
        }
        let app = Arc::clone(&self.app);
        let looked = tokio::select! {
            // Without an end event: the client resumes at another server, or at this one's successor.
            () = app.draining.cancelled() => return None,
            looked = self.look() => looked,
        };
        let event = match looked {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(command = %self.id, %error, "a log stream ended early");
                self.error(Code::InternalError, "the log could not be read; resume the stream")
            }
        };
        self.last_event = Instant::now();
        match &event {
            CommandEvent::Log(chunk) => self.after_seq = chunk.seq,
            CommandEvent::Heartbeat(_) => {}
            CommandEvent::Terminal(..) | CommandEvent::Error { .. } => self.ended = true,
        }
        Some(event)
    }

    async fn look(&mut self) -> Result<CommandEvent> {
        loop {
            if let Some(chunk) = self.ready.next() {
                if chunk.seq > self.after_seq + 1 && self.after_seq > 0 {
                    return Ok(self.error(Code::StreamGap, &gap().message));
                }
                return Ok(CommandEvent::Log(chunk));
            }
            // The command first, its log second: a command seen as over has its whole log stored.
            let commands = store::commands(self.reach.clone());
            let command = commands.get(self.app.db.read(), self.id).await?;
            if command.last_seq > self.after_seq {
                let page = commands.logs(self.app.db.read(), self.id, self.after_seq, PAGE).await?;
                if !page.is_empty() {
                    self.ready = page.into_iter();
                    continue;
                }
            }
            // What is collected is a part of it: the last event tells what became of that.
            if command.is_settled() {
                return Ok(CommandEvent::Terminal(Box::new(command), self.app.clock.now()));
            }
            let silent = self.last_event.elapsed();
            if silent >= HEARTBEAT {
                return Ok(CommandEvent::Heartbeat(self.app.clock.now()));
            }
            let id = self.id;
            self.nudges.wait(HEARTBEAT - silent, |nudge| nudge == Nudge::Command(id)).await;
        }
    }

    fn error(&self, code: Code, message: &str) -> CommandEvent {
        CommandEvent::Error { code, message: message.to_owned(), at: self.app.clock.now() }
    }
}

fn download_path(id: CommandId) -> String {
    format!("/v1/commands/{id}/logs/download")
}

/// Makes a link to the whole log as text that works without a credential.
///
/// # Errors
/// `not_found`.
pub async fn log_download_url(
    app: &Arc<App>,
    caller: &Caller,
    id: CommandId,
    base: &str,
) -> Result<DownloadUrl> {
    store::commands(caller.reach()).get(app.db.read(), id).await?;
    let now = app.clock.now();
    let expires_at = now + DOWNLOAD_URL_LIFETIME;
    let path = download_path(id);
    let capability = Capability { method: "GET", path: &path };
    let token = app.signer.sign(&app.db, caller.org_id(), capability, now, expires_at).await?;
    Ok(DownloadUrl { url: format!("{base}{path}?token={token}"), expires_at })
}

/// The whole log as text, both streams in order of arrival, for whoever holds a link.
///
/// # Errors
/// `unauthorized` for a bad token, `not_found`.
pub async fn log_text(
    app: &Arc<App>,
    id: CommandId,
    token: &str,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>> {
    let path = download_path(id);
    let capability = Capability { method: "GET", path: &path };
    let org = app.signer.verify(&app.db, token, capability, app.clock.now()).await?;
    let reach = Reach::Tenant { org, projects: None };
    store::commands(reach.clone()).get(app.db.read(), id).await?;
    let pages = stream::try_unfold((Arc::clone(app), 0_u64), move |(app, after_seq)| {
        let reach = reach.clone();
        async move {
            let page = store::commands(reach)
                .logs(app.db.read(), id, after_seq, PAGE)
                .await
                .map_err(io::Error::other)?;
            let Some(last) = page.last() else { return Ok(None) };
            let next = (app, last.seq);
            let text: String = page.iter().map(|chunk| chunk.data.as_str()).collect();
            Ok(Some((Bytes::from(text), next)))
        }
    });
    Ok(pages)
}

/// Commands whose logs are deleted at a time: each may have 16 MiB.
pub const PURGE: u32 = 20;

/// Organizations whose logs are looked at in one round.
const PURGED_ORGANIZATIONS: u32 = 200;

/// Deletes logs of commands that ended before the retention time of their organization's plan, of the
/// organizations older than `after`. For the housekeeping loop. Returns how many logs went, and the
/// organization to go on after; none when these were the last.
///
/// # Errors
/// When the database does not answer.
pub async fn purge(
    app: &App,
    after: Option<OrganizationId>,
) -> Result<(u64, Option<OrganizationId>)> {
    let now = app.clock.now();
    let page = PageRequest { limit: PURGED_ORGANIZATIONS, after: after.map(OrganizationId::uuid) };
    let page = store::organizations::list(app.db.read(), page).await?;
    let since = |organization: &Organization| {
        let days = i64::from(app.config.limits(organization, now).retention_days);
        let kept = chrono::TimeDelta::try_days(days).and_then(|d| now.checked_sub_signed(d));
        (organization.id, kept.unwrap_or(chrono::DateTime::<chrono::Utc>::UNIX_EPOCH))
    };
    let retention: Vec<_> = page.items.iter().map(since).collect();
    let purged = store::commands::purge_logs(app.db.write(), &retention, PURGE).await?;
    let last = page.items.last().map(|organization| organization.id);
    Ok((purged, last.filter(|_| page.has_more)))
}
