//! Which previews have minutes that are not usage yet, and the note that they are. Any number of
//! processes may ask at the same time.

use chrono::{DateTime, Utc};
use domain::id::{PreviewId, SandboxId};
use migrations::rows::PreviewMinutesRow;
use sea_orm::ConnectionTrait;

use super::Previews;
use crate::{
    db::{Sql, Tx},
    error::{Error, Result},
    time,
};

/// A preview of which a minute may have begun that is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The preview.
    pub id: PreviewId,
    /// Its sandbox.
    pub sandbox_id: SandboxId,
    /// When its minutes began to be counted: nothing is charged before the sandbox is ready. `None`: it
    /// never was.
    pub from: Option<DateTime<Utc>>,
    /// When it ended; `None` = it is active.
    pub ended_at: Option<DateTime<Utc>>,
    /// Up to when it is known that it was active: an active one's sandbox was seen alive then, and is
    /// to end no sooner.
    pub known_until: DateTime<Utc>,
    /// How many minutes are counted.
    pub counted: i64,
}

impl Previews {
    /// The previews with a minute that has begun by what is known of them at `now`, the most overdue
    /// first.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach))]
    pub async fn unfinished(
        &self,
        c: &impl ConnectionTrait,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Unfinished>> {
        // What runs is counted only up to where nothing can end it any more before that.
        let sql = Sql::new(
            "select p.id, p.sandbox_id, p.created_at, p.ended_at, p.counted, s.ready_at,
               s.seen_alive_at, s.expires_at, o.cleanup_at, a.stops_at
             from previews p join sandboxes s on s.id = p.sandbox_id
               join organizations o on o.id = p.org_id
               left join billing_accounts a on a.org_id = p.org_id
             where p.count_at is not null and p.count_at <= $1
               and (p.ended_at is not null or (s.ready_at is not null
                 and s.seen_alive_at > p.count_at and s.expires_at > p.count_at
                 and (o.cleanup_at is null or o.cleanup_at > p.count_at)
                 and (a.stops_at is null or a.stops_at > p.count_at)))",
            [time::micros(now).into()],
        );
        let sql = self.within(sql).text(" order by p.count_at, p.id limit ");
        let rows: Vec<PreviewMinutesRow> = sql.bind(i64::from(limit)).all(c).await?;
        rows.into_iter().map(|row| unfinished(&row, now)).collect()
    }

    /// Notes that further minutes are usage, and when the next one begins; `None` = none will.
    ///
    /// # Errors
    /// [`Error::Stale`] when somebody else counted some of them, or it ended meanwhile.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, preview = %of.id))]
    pub async fn mark_counted(
        &self,
        tx: &Tx,
        of: &Unfinished,
        counted: i64,
        count_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let active = if of.ended_at.is_none() { "p.ended_at is null" } else { "true" };
        let sql = Sql::new(
            "update previews as p set counted = $3, count_at = $4
             where p.id = $1 and p.counted = $2 and ",
            [
                of.id.uuid().into(),
                of.counted.into(),
                counted.into(),
                count_at.map(time::micros).into(),
            ],
        );
        match self.within(sql.text(active)).execute(tx).await? {
            0 => Err(Error::Stale),
            _ => Ok(()),
        }
    }
}

fn unfinished(row: &PreviewMinutesRow, now: DateTime<Utc>) -> Result<Unfinished> {
    let bounds = [row.seen_alive_at, Some(row.expires_at), row.cleanup_at, row.stops_at];
    let known = bounds.into_iter().flatten().fold(time::micros(now), i64::min);
    Ok(Unfinished {
        id: PreviewId::from_uuid(row.id),
        sandbox_id: SandboxId::from_uuid(row.sandbox_id),
        from: time::optional(row.ready_at.map(|ready| ready.max(row.created_at)))?,
        ended_at: time::optional(row.ended_at)?,
        known_until: time::instant(row.ended_at.unwrap_or(known))?,
        counted: row.counted,
    })
}
