//! A command as a row and back.

use chrono::{DateTime, Utc};
use domain::{
    collect::Request,
    command::{CancelMode, Command, Inline, TerminationSignal},
    id::{CommandId, OrganizationId, ProjectId, SandboxId},
};
use migrations::rows::CommandRow;
use sea_orm::Value;

use super::{ACTIVE, output};
use crate::{
    db::{Sql, signed, unsigned, word},
    error::{Error, Result},
    time,
};

/// The start of every read. Output that was saved early is not shown before the end.
pub(super) fn select(condition: &str) -> Sql {
    let text = format!(
        "select c.id, c.org_id, c.project_id, c.sandbox_id, c.command_line, c.cwd, c.status,
           c.background, c.timeout_ms, c.exit_code, c.created_at, c.started_at, c.finished_at,
           c.cancel_mode, c.canceled_at, c.termination_signal, c.first_seq, c.last_seq,
           c.collect_status, c.collect_errors, o.stdout, o.stdout_truncated, o.stderr,
           o.stderr_truncated
         from commands c
         left join command_outputs o on o.command_id = c.id and c.status not in {ACTIVE}
         where {condition}"
    );
    Sql::new(text, [])
}

/// The columns that a new row has, in the order of [`to_row`].
pub(super) const STORED: &str = "id, org_id, project_id, sandbox_id, command_line, cwd, status, \
     background, timeout_ms, exit_code, created_at, started_at, finished_at, cancel_mode, \
     canceled_at, termination_signal, first_seq, last_seq, log_bytes, lease_until, \
     collect, collect_on, collect_by, collect_status, collect_errors";

pub(super) fn to_row(
    command: &Command,
    collect: Option<&Request>,
    lease_until: DateTime<Utc>,
) -> Result<[Value; 25]> {
    let items = collect.map(|request| serde_json::to_string(&request.items)).transpose();
    let (items, errors) = items
        .and_then(|items| Ok((items, serde_json::to_string(&command.collect_errors)?)))
        .map_err(|error| Error::Corrupt(format!("{} cannot be stored: {error}", command.id)))?;
    Ok([
        command.id.uuid().into(),
        command.org_id.uuid().into(),
        command.project_id.uuid().into(),
        command.sandbox_id.uuid().into(),
        command.command_line.as_str().into(),
        command.cwd.as_str().into(),
        command.status.as_str().into(),
        command.background.into(),
        command.timeout_ms.map(signed).into(),
        command.exit_code.map(i64::from).into(),
        time::micros(command.created_at).into(),
        command.started_at.map(time::micros).into(),
        command.finished_at.map(time::micros).into(),
        command.cancel_mode.map(CancelMode::as_str).into(),
        command.canceled_at.map(time::micros).into(),
        command.termination_signal.map(TerminationSignal::as_str).into(),
        signed(command.first_seq).into(),
        signed(command.last_seq).into(),
        0_i64.into(),
        command.status.is_active().then(|| time::micros(lease_until)).into(),
        items.into(),
        collect.map(|request| request.on.as_str()).into(),
        collect.map(|request| request.key_id.uuid()).into(),
        command.collect_status.as_str().into(),
        errors.into(),
    ])
}

pub(super) fn from_row(row: CommandRow) -> Result<Command> {
    let id = CommandId::from_uuid(row.id);
    let exit_code = row
        .exit_code
        .map(i32::try_from)
        .transpose()
        .map_err(|_| Error::Corrupt(format!("the exit code of {id} is no i32")))?;
    Ok(Command {
        id,
        org_id: OrganizationId::from_uuid(row.org_id),
        project_id: ProjectId::from_uuid(row.project_id),
        sandbox_id: SandboxId::from_uuid(row.sandbox_id),
        command_line: row.command_line,
        cwd: row.cwd,
        status: word(&row.status, "a command's status")?,
        background: row.background,
        timeout_ms: row.timeout_ms.map(|ms| unsigned(ms, "a command's timeout_ms")).transpose()?,
        exit_code,
        stdout: inline(row.stdout, row.stdout_truncated)?,
        stderr: inline(row.stderr, row.stderr_truncated)?,
        created_at: time::instant(row.created_at)?,
        started_at: time::optional(row.started_at)?,
        finished_at: time::optional(row.finished_at)?,
        cancel_mode: row.cancel_mode.map(|mode| word(&mode, "a cancel mode")).transpose()?,
        canceled_at: time::optional(row.canceled_at)?,
        termination_signal: row
            .termination_signal
            .map(|signal| word(&signal, "a termination signal"))
            .transpose()?,
        last_seq: unsigned(row.last_seq, "a command's last_seq")?,
        first_seq: unsigned(row.first_seq, "a command's first_seq")?,
        collect_status: word(&row.collect_status, "a command's collect_status")?,
        collect_errors: serde_json::from_str(&row.collect_errors)
            .map_err(|error| Error::Corrupt(format!("what {id} could not collect: {error}")))?,
    })
}

fn inline(stored: Option<Vec<u8>>, truncated: Option<bool>) -> Result<Option<Inline>> {
    let Some((stored, truncated)) = stored.zip(truncated) else { return Ok(None) };
    Ok(Some(Inline { text: output::text(stored)?, truncated }))
}
