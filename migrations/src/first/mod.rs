//! The first schema: every table of the first version, by noun.

mod admin;
mod audit;
mod billing;
mod commands;
pub(crate) mod events;
mod previews;
mod records;
mod sandboxes;
mod templates;
mod tenants;

use sea_orm::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::ddl;

pub(crate) struct First;

impl MigrationName for First {
    fn name(&self) -> &str {
        "m20261122_000001_first"
    }
}

pub(crate) const fn statements() -> [&'static [&'static str]; 10] {
    [
        admin::STATEMENTS,
        tenants::STATEMENTS,
        templates::STATEMENTS,
        billing::STATEMENTS,
        sandboxes::STATEMENTS,
        commands::STATEMENTS,
        previews::STATEMENTS,
        records::STATEMENTS,
        events::STATEMENTS,
        audit::STATEMENTS,
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = manager.get_connection();
        for noun in statements() {
            ddl::run(c, noun).await?;
        }
        templates::seed(c).await?;
        billing::seed(c).await?;
        events::seed(c).await
    }
}
