//! What billing costs: settling usage, and asking for it.

mod history;
mod settle;
mod usage;

use std::path::Path;

use anyhow::{Result, ensure};
use store::Db;

use crate::{postgres::Postgres, table::Table};

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    postgres: &Postgres,
    folder: &Path,
) -> Result<()> {
    settle::measure(table, postgres, folder).await?;
    usage::measure(table, programs, postgres, folder).await
}

/// Whoever wrote the books, they must be right.
async fn check(db: &Db) -> Result<u64> {
    let found = api::app::billing::check::all(db).await?;
    ensure!(found.wrong.is_empty(), "the books are wrong: {:#?}", found.wrong);
    Ok(found.n_transactions)
}
