//! When keys were last used, tenants' and operators' alike.

use chrono::{DateTime, Utc};
use domain::id::Id;
use sea_orm::ConnectionTrait;

use crate::{db::Sql, error::Result, time};

/// Writes when keys of a table were last used, many at a time; an earlier instant than the stored one
/// is dropped. A key whose row somebody else is changing is skipped: this must never wait or deadlock.
pub(crate) async fn write<T>(
    c: &impl ConnectionTrait,
    table: &'static str,
    used: &[(Id<T>, DateTime<Utc>)],
) -> Result<()> {
    for part in used.chunks(1_000) {
        let rows = part.iter().map(|(id, at)| [id.uuid().into(), time::micros(*at).into()]);
        Sql::new("with used(id, at) as (values ", [])
            .rows(rows)
            .text("), free as materialized (select id from ")
            .text(table)
            .text(" where id in (select id from used)")
            .lock(c, "for no key update skip locked")
            .text(") update ")
            .text(table)
            .text(
                " as k set last_used_at = used.at from used
                 where k.id = used.id and k.id in (select id from free)
                   and (k.last_used_at is null or k.last_used_at < used.at)",
            )
            .execute(c)
            .await?;
    }
    Ok(())
}
