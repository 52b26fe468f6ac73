//! What is open through previews at this server: it closes when its preview ends, whichever server ended
//! it, and counts as activity of its sandbox while it is open.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{PreviewId, SandboxId},
    preview::Preview,
};
use store::Everyone;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, error::Result},
    bus::Nudge,
    work::repeat,
};

/// An end that no message tells of is found within this.
const POLL: Duration = Duration::from_secs(1);
/// How often the activity of a sandbox is written down.
const NOTE_EVERY: TimeDelta = TimeDelta::seconds(10);

/// What is open, by preview.
#[derive(Debug, Clone, Default)]
pub struct Open(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    previews: HashMap<PreviewId, Entry>,
    /// The sandboxes that were used and when that was last written down, if it was.
    used: BTreeMap<SandboxId, Used>,
}

#[derive(Debug)]
struct Entry {
    sandbox: SandboxId,
    ends: CancellationToken,
    n: usize,
}

impl Entry {
    /// Whether it goes on. What ends is no use of a sandbox, however long some client takes to notice.
    fn is_open(&self) -> bool {
        !self.ends.is_cancelled()
    }
}

#[derive(Debug, Default)]
struct Used {
    since_noted: bool,
    noted_at: Option<DateTime<Utc>>,
}

/// One thing that is open, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    open: Open,
    preview: PreviewId,
    ends: CancellationToken,
}

impl Visit {
    /// Cancelled when the preview ends.
    #[must_use]
    pub const fn ends(&self) -> &CancellationToken {
        &self.ends
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.open.state();
        let Some(entry) = state.previews.get_mut(&self.preview) else { return };
        entry.n = entry.n.saturating_sub(1);
        let (sandbox, is_last) = (entry.sandbox, entry.n == 0);
        if is_last {
            state.previews.remove(&self.preview);
        }
        state.used.entry(sandbox).or_default().since_noted = true;
    }
}

impl Open {
    /// Notes that something opens.
    #[must_use]
    pub fn enter(&self, preview: &Preview) -> Visit {
        let mut state = self.state();
        state.used.entry(preview.sandbox_id).or_default().since_noted = true;
        let new = || Entry { sandbox: preview.sandbox_id, ends: CancellationToken::new(), n: 0 };
        let entry = state.previews.entry(preview.id).or_insert_with(new);
        entry.n += 1;
        let ends = entry.ends.clone();
        drop(state);
        Visit { open: self.clone(), preview: preview.id, ends }
    }

    /// Whether something is open into a sandbox.
    pub fn has(&self, sandbox: SandboxId) -> bool {
        self.state().previews.values().any(|entry| entry.is_open() && entry.sandbox == sandbox)
    }

    fn previews(&self) -> Vec<PreviewId> {
        self.state().previews.keys().copied().collect()
    }

    /// Closes what is open of a preview.
    fn end(&self, preview: PreviewId) {
        // What opens from now on is refused by the row; the entry goes with the last visit.
        if let Some(entry) = self.state().previews.get(&preview) {
            entry.ends.cancel();
        }
    }

    /// Takes the sandboxes whose activity is to be written down now; the others are forgotten if nothing
    /// is open there.
    fn take_used(&self, now: DateTime<Utc>) -> Vec<SandboxId> {
        let mut state = self.state();
        let State { previews, used } = &mut *state;
        for entry in previews.values().filter(|entry| entry.is_open()) {
            used.entry(entry.sandbox).or_default().since_noted = true;
        }
        let mut due = Vec::new();
        used.retain(|sandbox, used| {
            let is_due = used.noted_at.is_none_or(|noted| now - noted >= NOTE_EVERY);
            if used.since_noted && is_due {
                due.push(*sandbox);
                *used = Used { since_noted: false, noted_at: Some(now) };
                return true;
            }
            used.since_noted || !is_due
        });
        due
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches over what is open, for ever.
pub async fn watch(app: Arc<App>) {
    let mut nudges = app.bus.subscribe();
    repeat(Duration::ZERO, &app.metrics.failures.previews, || {
        let mut waiting = std::mem::replace(&mut nudges, app.bus.subscribe());
        let app = Arc::clone(&app);
        async move {
            waiting.wait(POLL, |nudge| nudge == Nudge::Previews).await;
            round(&app).await.map(|()| false)
        }
    })
    .await;
}

async fn round(app: &App) -> Result<()> {
    let proxy = &app.proxy;
    let mut known = proxy.open.previews();
    known.extend(proxy.pool.previews());
    known.sort_unstable();
    known.dedup();
    if !known.is_empty() {
        let previews = store::previews(Everyone::for_worker("proxy"));
        for ended in previews.ended_of(app.db.read(), &known).await? {
            proxy.open.end(ended);
            proxy.pool.forget(ended);
        }
        proxy.pool.tidy();
    }
    let now = app.clock.now();
    for sandbox in proxy.open.take_used(now) {
        let sandboxes = store::sandboxes(Everyone::for_worker("proxy"));
        sandboxes.touch_activity(app.db.write(), sandbox, now).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use domain::{
        id::{OrganizationId, ProjectId},
        preview::{AuthMode, SLUG_RANDOM, Slug},
    };
    use uuid::Uuid;

    use super::*;

    fn preview(n: u128) -> Preview {
        let id = Uuid::from_u128(n);
        Preview {
            id: PreviewId::from_uuid(id),
            slug: Slug::from_random([0; SLUG_RANDOM]),
            org_id: OrganizationId::from_uuid(id),
            project_id: ProjectId::from_uuid(id),
            sandbox_id: SandboxId::from_uuid(id),
            port: 80,
            auth_mode: AuthMode::Token,
            created_at: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
            revoked_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn what_is_open_of_a_preview_ends_with_it_and_leaves_nothing() {
        let open = Open::default();
        let (one, two) = (open.enter(&preview(1)), open.enter(&preview(1)));
        let other = open.enter(&preview(2));
        assert_eq!(open.previews().len(), 2);
        open.end(preview(1).id);
        assert!(one.ends().is_cancelled() && two.ends().is_cancelled());
        assert!(!other.ends().is_cancelled());
        drop((one, two, other));
        assert!(open.previews().is_empty());
    }

    #[test]
    fn activity_is_written_down_now_and_then_for_as_long_as_something_is_open() {
        let (open, mut now) = (Open::default(), DateTime::UNIX_EPOCH);
        let sandbox = preview(1).sandbox_id;
        let visit = open.enter(&preview(1));
        assert_eq!(open.take_used(now), [sandbox], "at once");
        now += NOTE_EVERY / 2;
        assert!(open.take_used(now).is_empty(), "it was just noted");
        now += NOTE_EVERY;
        assert_eq!(open.take_used(now), [sandbox], "it is still open");
        drop(visit);
        now += NOTE_EVERY;
        assert_eq!(open.take_used(now), [sandbox], "it was open until a moment ago");
        now += NOTE_EVERY;
        assert!(open.take_used(now).is_empty() && open.state().used.is_empty(), "nothing is left");
    }
}
