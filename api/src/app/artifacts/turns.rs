//! Turns to write artifacts: a few at a time in this process, and fewer of one organization, so that its
//! long copies leave some to everybody else. Nothing is kept of who neither has a turn nor waits for one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::id::OrganizationId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::super::error::{Error, Result};
use crate::blobs::UPLOADS;

/// Turns that one organization can have at a time, for what it asks for and what its commands leave.
const OF_EACH: usize = 2;

/// The turns of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns {
    all: Arc<Semaphore>,
    lines: Arc<Mutex<HashMap<OrganizationId, Line>>>,
}

/// An organization's own turns, and how many have one or wait for one.
#[derive(Debug)]
struct Line {
    own: Arc<Semaphore>,
    n: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _turn: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _in_line: InLine,
}

#[derive(Debug)]
struct InLine {
    turns: Turns,
    org: OrganizationId,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(UPLOADS)), lines: Arc::default() }
    }
}

impl Turns {
    /// Waits for a turn of an organization.
    ///
    /// # Errors
    /// `Overloaded` when none comes until then.
    pub async fn take(&self, org: OrganizationId, until: Instant) -> Result<Turn> {
        let (in_line, own) = self.stand(org);
        let turn = async {
            // Its own first: who waits for that takes nothing from anybody else.
            let own = own.acquire_owned().await.ok()?;
            let turn = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _turn: turn, _own: own, _in_line: in_line })
        };
        match timeout_at(until, turn).await {
            Ok(Some(turn)) => Ok(turn),
            Ok(None) | Err(_) => Err(Error::Overloaded("too many artifacts are being written")),
        }
    }

    fn stand(&self, org: OrganizationId) -> (InLine, Arc<Semaphore>) {
        let mut lines = self.lines();
        let line = lines
            .entry(org)
            .or_insert_with(|| Line { own: Arc::new(Semaphore::new(OF_EACH)), n: 0 });
        line.n += 1;
        (InLine { turns: self.clone(), org }, Arc::clone(&line.own))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<OrganizationId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.org) {
            line.n -= 1;
            if line.n == 0 {
                lines.remove(&self.org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn nobody_takes_all_turns() {
        let org = |n| OrganizationId::from_uuid(Uuid::from_u128(n));
        let (turns, soon) = (Turns::default(), Duration::from_millis(20));
        let now = |n| turns.take(org(n), Instant::now() + soon);
        let (first, second) = (now(1).await.unwrap(), now(1).await.unwrap());
        assert!(matches!(now(1).await, Err(Error::Overloaded(_))), "it has its two");
        let others = [now(2).await.unwrap(), now(2).await.unwrap(), now(3).await.unwrap()];
        let last = now(4).await.unwrap();
        assert!(now(5).await.is_err(), "those were all");
        let (waiting, ()) =
            tokio::join!(turns.take(org(1), Instant::now() + Duration::from_secs(20)), async {
                drop(first)
            });
        assert!(waiting.is_ok(), "one that waits gets what becomes free");
        drop((second, others, last, waiting));
        assert!(turns.lines().is_empty(), "nothing is kept of who has none");
        assert_eq!(turns.all.available_permits(), UPLOADS);
    }
}
