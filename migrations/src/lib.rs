//! The schema of both databases and, beside it, the row structs that mirror it. No queries: those are
//! in `store`. A published migration is never edited; the next one goes forward.

pub mod constraints;
mod ddl;
mod first;
pub mod rows;

use sea_orm_migration::{MigrationTrait, MigratorTrait, async_trait};

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(first::First)]
    }
}

/// Partitions of the outbox.
pub const OUTBOX_PARTITIONS: i64 = first::events::PARTITIONS;

/// Every schema statement, for telling whether two builds have the same schema.
pub fn statements() -> impl std::hash::Hash {
    first::statements()
}
