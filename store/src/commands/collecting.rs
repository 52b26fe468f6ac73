//! What commands are to leave as artifacts: read by whoever collects, and closed once.

use domain::{
    collect::{CollectError, CollectStatus, Request},
    id::{ApiKeyId, CommandId},
};
use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

use super::Commands;
use crate::{
    db::{Sql, Tx, word},
    error::{Error, Result},
};

impl Commands {
    /// The files that a command is asked for and that nobody has looked after to the end.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn wanted_of(
        &self,
        c: &impl ConnectionTrait,
        id: CommandId,
    ) -> Result<Option<Request>> {
        let sql = Sql::new(
            "select c.collect, c.collect_on, c.collect_by from commands c
             where c.collect_status = 'pending' and c.id = ",
            [],
        );
        let row: Option<WantedRow> = self.within(sql.bind(id.uuid())).one(c).await?;
        row.map(|row| from_row(id, row)).transpose()
    }

    /// Says what became of the files; false = somebody else has.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, command = %id))]
    pub async fn close_collection(
        &self,
        tx: &Tx,
        id: CommandId,
        status: CollectStatus,
        errors: &[CollectError],
    ) -> Result<bool> {
        let errors = serde_json::to_string(errors)
            .map_err(|error| Error::Corrupt(format!("{id} cannot be stored: {error}")))?;
        let sql = Sql::new(
            "update commands as c set collect_status = $2, collect_errors = $3, lease_until = null
             where c.id = $1 and c.collect_status = 'pending'",
            [id.uuid().into(), status.as_str().into(), errors.into()],
        );
        Ok(self.within(sql).execute(tx).await? == 1)
    }
}

#[derive(FromQueryResult)]
struct WantedRow {
    collect: String,
    collect_on: String,
    collect_by: Uuid,
}

fn from_row(id: CommandId, row: WantedRow) -> Result<Request> {
    let items = serde_json::from_str(&row.collect)
        .map_err(|error| Error::Corrupt(format!("what {id} is to collect: {error}")))?;
    Ok(Request {
        items,
        on: word(&row.collect_on, "a command's collect_on")?,
        key_id: ApiKeyId::from_uuid(row.collect_by),
    })
}
