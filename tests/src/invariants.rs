//! What holds in every world, read straight from its tables: what background work still has to do,
//! and what must be true when a story ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    artifact::object_key,
    id::{ArtifactId, OrganizationId, SandboxId},
};
use sea_orm::FromQueryResult;
use store::{Db, audit::Chain};
use uuid::Uuid;

use crate::tables::{self, rows};

/// A step that failed is tried again within this; until then only the clock can bring it on.
const RETRY: TimeDelta = TimeDelta::seconds(1);

#[derive(Debug, FromQueryResult)]
struct SandboxRow {
    id: Uuid,
    phase: String,
    ready_at: Option<i64>,
    expires_at: i64,
    ended_at: Option<i64>,
    removed_at: Option<i64>,
    reconcile_at: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct MeterRow {
    sandbox_id: Uuid,
    opened_at: i64,
    closed_at: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct CommandRow {
    #[expect(dead_code, reason = "for the failure text")]
    id: Uuid,
    status: String,
    phase: String,
    finished_at: Option<i64>,
    n_logs: i64,
    n_seqs: i64,
}

async fn sandboxes(db: &Db) -> Vec<SandboxRow> {
    let sql = "select id, phase, ready_at, expires_at, ended_at, removed_at, reconcile_at
               from sandboxes order by id";
    rows(db, sql).await
}

/// What is due for background work at `now`, or under way.
pub async fn unsettled(db: &Db, now: DateTime<Utc>, running: &[SandboxId]) -> Vec<String> {
    let running: BTreeSet<Uuid> = running.iter().map(|id| id.uuid()).collect();
    let sandboxes = sandboxes(db).await;
    let open = sandboxes.iter().filter(|row| !settled(row, now, running.contains(&row.id)));
    let mut open: Vec<_> = open.map(|row| format!("{row:?}")).collect();
    let known: BTreeSet<_> = sandboxes.iter().map(|row| row.id).collect();
    open.extend(running.difference(&known).map(|id| format!("{id} runs without a row")));
    open
}

fn settled(row: &SandboxRow, now: DateTime<Utc>, runs: bool) -> bool {
    let micros = now.timestamp_micros();
    let claimed_until = |lease: TimeDelta| (now + lease).timestamp_micros();
    let due = row.reconcile_at.is_some_and(|at| at <= micros);
    let waits_for_retry =
        row.reconcile_at.is_some_and(|at| at > micros && at <= (now + RETRY).timestamp_micros());
    match row.phase.as_str() {
        "creating" | "starting" => waits_for_retry && micros < row.expires_at,
        "ready" => {
            let lease = api::work::reconcile::BOOT_LEASE;
            let claimed = row.reconcile_at == Some(claimed_until(lease))
                && row.reconcile_at != Some(row.expires_at);
            micros < row.expires_at && !due && !claimed && runs
        }
        "destroyed" => !runs,
        _ => (row.removed_at.is_some() && !runs) || waits_for_retry,
    }
}

/// Whether the audit trail is still there to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trail {
    /// It is.
    Kept,
    /// A story was about destroying it.
    Destroyed,
}

/// What should hold and does not.
pub async fn broken(db: &Db, running: &[SandboxId], trail: Trail) -> Vec<String> {
    let sandboxes: BTreeMap<_, _> =
        sandboxes(db).await.into_iter().map(|row| (row.id, row)).collect();
    let mut wrong = wrong_sandboxes(&sandboxes, running);
    wrong.extend(wrong_meters(db, &sandboxes).await);
    wrong.extend(wrong_commands(db).await);
    wrong.extend(wrong_previews(db).await);
    wrong.extend(wrong_records(db).await);
    wrong.extend(wrong_standings(db).await);
    wrong.extend(api::app::billing::check::all(db).await.unwrap().wrong);
    if trail == Trail::Kept {
        wrong.extend(wrong_chains(db).await);
    }
    wrong
}

fn wrong_sandboxes(sandboxes: &BTreeMap<Uuid, SandboxRow>, running: &[SandboxId]) -> Vec<String> {
    let live = |row: &&SandboxRow| ["creating", "starting", "ready"].contains(&row.phase.as_str());
    let mut wrong = Vec::new();
    for id in running {
        if sandboxes.get(&id.uuid()).filter(live).is_none() {
            wrong.push(format!("the driver runs {id}, which no row wants"));
        }
    }
    for row in sandboxes.values() {
        if live(&row) == row.ended_at.is_some() {
            wrong.push(format!("a sandbox has ended exactly if it has an end: {row:?}"));
        }
        if row.phase == "destroyed" && row.removed_at.is_none() {
            wrong.push(format!("a destroyed sandbox is removed: {row:?}"));
        }
    }
    wrong
}

/// Each sandbox that was ever ready has one meter: from ready to its end, and no second past its
/// expiry. One that came up after its expiry has a meter without a second.
async fn wrong_meters(db: &Db, sandboxes: &BTreeMap<Uuid, SandboxRow>) -> Vec<String> {
    let meters: Vec<MeterRow> = rows(
        db,
        "select sandbox_id, opened_at, closed_at from meters
               where metric = 'compute_unit_seconds' order by opened_at",
    )
    .await;
    let mut wrong = Vec::new();
    for row in sandboxes.values() {
        let mine: Vec<_> = meters.iter().filter(|meter| meter.sandbox_id == row.id).collect();
        let wanted = usize::from(row.ready_at.is_some());
        if mine.len() != wanted {
            wrong.push(format!("{wanted} meter(s) wanted, there are {mine:?}: {row:?}"));
        }
        for meter in mine {
            let open = row.phase == "ready";
            if meter.closed_at.is_none() != open {
                wrong.push(format!("a meter is open exactly while ready: {meter:?} {row:?}"));
            }
            let last = row.expires_at.max(meter.opened_at);
            let late = meter.closed_at.is_some_and(|at| at > last);
            if late || Some(meter.opened_at) != row.ready_at || meter.closed_at != row.ended_at {
                wrong.push(format!("a meter runs from ready to the end: {meter:?} {row:?}"));
            }
        }
    }
    wrong
}

async fn wrong_commands(db: &Db) -> Vec<String> {
    let sql = "select c.id, c.status, s.phase, c.finished_at,
                 (select count(*) from command_logs l where l.command_id = c.id) as n_logs,
                 c.last_seq - c.first_seq + 1 as n_seqs
               from commands c join sandboxes s on s.id = c.sandbox_id order by c.id";
    let mut wrong = Vec::new();
    for row in rows::<CommandRow>(db, sql).await {
        let active = ["queued", "starting", "running"].contains(&row.status.as_str());
        let live = ["creating", "starting", "ready"].contains(&row.phase.as_str());
        if active && !live {
            wrong.push(format!("no command is active in an ended sandbox: {row:?}"));
        }
        if active == row.finished_at.is_some() {
            wrong.push(format!("a command has finished exactly if it is not active: {row:?}"));
        }
        if row.n_logs != row.n_seqs {
            wrong.push(format!("a log has no gap: {row:?}"));
        }
    }
    wrong
}

/// What can be read has its bytes, all of them counted; there are no bytes that nobody needs; and what
/// commands are to leave is looked after.
pub async fn wrong_artifacts(db: &Db, folder: &Path) -> Vec<String> {
    #[derive(Debug, FromQueryResult)]
    struct ArtifactRow {
        id: Uuid,
        org_id: Uuid,
        size_bytes: i64,
        is_there: bool,
    }
    #[derive(Debug, FromQueryResult)]
    struct CountRow {
        resource_id: String,
        amount: i64,
    }
    let sql =
        "select id, org_id, size_bytes, remove_at is not null and deleted_at is null as is_there
               from artifacts";
    let artifacts: Vec<ArtifactRow> = rows(db, sql).await;
    let sql =
        "select resource_id, amount from usage_records where metric = 'artifact_bytes_stored'";
    let counts =
        rows::<CountRow>(db, sql).await.into_iter().map(|row| (row.resource_id, row.amount));
    let counts: BTreeMap<_, _> = counts.collect();
    let mut wrong = Vec::new();
    let mut files: BTreeSet<_> = files_below(folder).into_iter().collect();
    if counts.len() != artifacts.len() {
        wrong.push(format!("each artifact is counted once: {counts:?} {artifacts:?}"));
    }
    for row in artifacts {
        let (org, id) = (OrganizationId::from_uuid(row.org_id), ArtifactId::from_uuid(row.id));
        if counts.get(&id.to_string()) != Some(&row.size_bytes) {
            wrong.push(format!("all bytes of an artifact are counted: {row:?} {counts:?}"));
        }
        let file = folder.join(object_key(org, id)).join("bytes");
        let size = std::fs::metadata(&file).ok().map(|file| file.len());
        if row.is_there && size != u64::try_from(row.size_bytes).ok() {
            wrong.push(format!("an artifact has its bytes: {row:?} {size:?}"));
        }
        if row.is_there {
            files.remove(&file);
        }
    }
    if tables::number(db, "select count(*) from artifact_writes").await == 0 {
        wrong.extend(files.iter().map(|file| format!("nobody needs {}", file.display())));
    }
    let untold = "select count(*) from commands
        where (collect_status = 'pending') > (lease_until is not null)";
    if tables::number(db, untold).await != 0 {
        wrong.push("nobody looks after what a command is to leave".to_owned());
    }
    wrong
}

/// No preview is active in an ended sandbox; every minute that is counted is a row of usage, and none of
/// an ended preview is left.
async fn wrong_previews(db: &Db) -> Vec<String> {
    let mut wrong = Vec::new();
    for (condition, why) in [
        (
            "p.ended_at is null and s.phase not in ('creating', 'starting', 'ready')",
            "active in ended sandboxes",
        ),
        ("p.ended_at is not null and p.count_at is not null", "ended and not counted to the end"),
    ] {
        let sql = format!(
            "select count(*) from previews p join sandboxes s on s.id = p.sandbox_id
             where {condition}"
        );
        let n = tables::number(db, &sql).await;
        if n != 0 {
            wrong.push(format!("{n} previews are {why}"));
        }
    }
    let uncounted = "select (select coalesce(sum(counted), 0) from previews) -
        (select coalesce(sum(amount), 0) from usage_records where metric = 'preview_minutes')";
    if tables::number(db, &format!("select cast(({uncounted}) as bigint)")).await != 0 {
        wrong.push("minutes of previews and rows of usage differ".to_owned());
    }
    wrong
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let entries = entries.map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| files_below(folder)));
    files
}

/// Nothing begins in an organization that may do nothing, and nothing runs past its cleanup.
async fn wrong_standings(db: &Db) -> Vec<String> {
    let overdue = "select count(*) from sandboxes s join organizations o on o.id = s.org_id
        where o.standing <> 'active' and (s.created_at > o.standing_since
          or (o.cleanup_at is null and s.phase in ('creating', 'starting', 'ready')))";
    let n = tables::number(db, overdue).await;
    if n == 0 { Vec::new() } else { vec![format!("{n} sandboxes of nobody who may")] }
}

/// Every organization's audit trail is as it was written, and tells of every create, run and end.
async fn wrong_chains(db: &Db) -> Vec<String> {
    #[derive(FromQueryResult)]
    struct OrganizationRow {
        id: Uuid,
    }
    let mut wrong = Vec::new();
    let organizations = rows::<OrganizationRow>(db, "select id from organizations").await;
    let organizations = organizations.into_iter().map(|row| OrganizationId::from_uuid(row.id));
    for chain in organizations.map(Chain::from).chain([Chain::Installation]) {
        if let Some((seq, what)) = api::app::audit::verify(db, chain).await.unwrap().broken {
            wrong.push(format!("entry {seq} of the audit trail of {chain}: {what}"));
        }
    }
    for (rows, actions) in [
        ("sandboxes", "'sandbox.create'"),
        ("sandboxes where ended_at is not null", "'sandbox.kill', 'sandbox.end'"),
        ("commands", "'command.run'"),
        ("artifacts", "'artifact.create'"),
        ("artifacts where deleted_at is not null", "'artifact.delete'"),
        ("previews", "'preview.create'"),
        ("previews where revoked_at is not null", "'preview.revoke'"),
    ] {
        let untold = format!(
            "select (select count(*) from {rows}) -
               (select count(*) from audit_entries where action in ({actions}))"
        );
        if tables::number(db, &untold).await != 0 {
            wrong.push(format!("the audit trail does not tell of all {rows}"));
        }
    }
    wrong
}

/// An unanswered idempotent request is one whose command can still answer it, or that writes.
async fn wrong_records(db: &Db) -> Vec<String> {
    #[derive(FromQueryResult)]
    struct RecordRow {
        path: String,
    }
    let sql = "select path from idempotency_records where status is null and command_id is null
               and id not in (select record_id from artifact_writes where record_id is not null)";
    let rows: Vec<RecordRow> = rows(db, sql).await;
    rows.iter().map(|row| format!("nothing can answer the request to {}", row.path)).collect()
}
