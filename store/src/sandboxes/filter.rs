//! The filters of the list of sandboxes. They must agree with `Sandbox::status` to the microsecond:
//! a page that were filtered afterwards would have holes.

use chrono::{DateTime, Utc};
use domain::{id::ProjectId, sandbox::Status};

use super::{CURRENT, LIVE, row};
use crate::{db::Sql, time};

/// Which sandboxes a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxFilter {
    /// Only those of one project.
    pub project: Option<ProjectId>,
    /// Only those that show this status at `now`.
    pub status: Option<Status>,
    /// Those that are over, too; a `status` asks for what it asks for anyway.
    pub include_historical: bool,
    /// Only those on this host.
    pub host: Option<String>,
    /// Only those of this template.
    pub template: Option<String>,
    /// Only those that have all these labels.
    pub metadata: Vec<(String, String)>,
    /// The instant at which statuses are judged.
    pub now: DateTime<Utc>,
}

impl SandboxFilter {
    /// Appends the conditions; `None` when nothing can match.
    pub(super) fn apply(&self, mut sql: Sql) -> Option<Sql> {
        if let Some(project) = self.project {
            sql = sql.text(" and s.project_id = ").bind(project.uuid());
        }
        sql = match self.status {
            Some(status) => self.by_status(sql, status),
            None if self.include_historical => sql,
            None => sql.text(" and s.phase in ").text(CURRENT),
        };
        for (column, value) in [("s.host", &self.host), ("t.slug", &self.template)] {
            let Some(value) = value else { continue };
            // It comes from outside; PostgreSQL takes no NUL in a text, and no name has one.
            if value.contains('\0') {
                return None;
            }
            sql = sql.text(" and ").text(column).text(" = ").bind(value.as_str());
        }
        for (key, value) in &self.metadata {
            // They come from outside; PostgreSQL takes no NUL in a text, and no label has one.
            if key.contains('\0') || value.contains('\0') {
                return None;
            }
            sql = sql
                .text(
                    " and exists (select 1 from sandbox_metadata m
                        where m.sandbox_id = s.id and m.org_id = s.org_id and m.key = ",
                )
                .bind(key.as_str())
                .text(" and m.value = ")
                .bind(value.as_str())
                .text(")");
        }
        Some(sql)
    }

    fn by_status(&self, sql: Sql, status: Status) -> Sql {
        let now = time::micros(self.now);
        let unexpired = |sql: Sql, phase: &str| {
            sql.text(" and s.phase = '").text(phase).text("' and s.expires_at > ").bind(now)
        };
        let (active, used) = (row::active(), row::USED);
        match status {
            Status::Creating => unexpired(sql, "creating"),
            Status::Starting => unexpired(sql, "starting"),
            Status::Ready => unexpired(sql, "ready").text(&format!(" and not {used}")),
            Status::Running => unexpired(sql, "ready").text(&format!(" and {active}")),
            Status::Idle => unexpired(sql, "ready").text(&format!(" and {used} and not {active}")),
            Status::Expiring => sql
                .text(&format!(
                    " and s.phase in {CURRENT}
                      and (s.phase = 'expiring' or s.phase in {LIVE} and s.expires_at <= "
                ))
                .bind(now)
                .text(")"),
            Status::Destroyed => sql.text(" and s.phase = 'destroyed'"),
            Status::Failed => sql.text(" and s.phase = 'failed'"),
        }
    }
}

/// How many sandboxes that are not over show each status at `now`, up to where conditions and the grouping
/// by the first column may follow.
pub(crate) fn statuses(now: DateTime<Utc>) -> Sql {
    let (active, used) = (row::active(), row::USED);
    Sql::new("select case when s.phase = 'expiring' or s.expires_at <= ", [])
        .bind(time::micros(now))
        .text(&format!(
            " then 'expiring' when s.phase <> 'ready' then s.phase when {active} then 'running'
               when {used} then 'idle' else 'ready' end as status, count(*) as n
             from sandboxes s where s.phase in {CURRENT}"
        ))
}
