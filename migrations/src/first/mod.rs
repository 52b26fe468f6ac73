//! The first schema: every table of the first version, by noun.

mod commands;
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

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let c = manager.get_connection();
        ddl::run(c, tenants::STATEMENTS).await?;
        ddl::run(c, templates::STATEMENTS).await?;
        templates::seed(c).await?;
        ddl::run(c, sandboxes::STATEMENTS).await?;
        ddl::run(c, commands::STATEMENTS).await?;
        ddl::run(c, records::STATEMENTS).await
    }
}
