//! Runs schema statements: one text serves both databases. Conventions of all tables: ids are bare
//! UUIDs; instants are microseconds since the epoch, UTC, in a bigint; exact quantities are bigints;
//! enums and JSON are text; time never comes from the database.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

/// PostgreSQL's type names, and what SQLite's STRICT tables call the same. Without STRICT, SQLite
/// would take a text where an integer belongs and say nothing.
const TYPES: [(&str, &str); 4] =
    [(" uuid", " blob"), (" bytea", " blob"), (" bigint", " integer"), (" boolean", " integer")];

/// Runs each statement in order.
pub(crate) async fn run(c: &impl ConnectionTrait, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        c.execute_unprepared(&translate(c.get_database_backend(), statement)).await?;
    }
    Ok(())
}

fn translate(backend: DbBackend, statement: &str) -> String {
    if backend != DbBackend::Sqlite {
        return statement.to_owned();
    }
    let mut text = statement.to_owned();
    for (postgres, sqlite) in TYPES {
        text = text.replace(postgres, sqlite);
    }
    if text.trim_start().starts_with("create table") {
        text.push_str(" strict");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_reads_other_type_names_and_only_tables_are_strict() {
        let table =
            "create table a (id uuid not null, at bigint, is_b boolean, data bytea, t text)";
        assert_eq!(translate(DbBackend::Postgres, table), table);
        assert_eq!(
            translate(DbBackend::Sqlite, table),
            "create table a (id blob not null, at integer, is_b integer, data blob, t text) strict"
        );
        assert_eq!(
            translate(DbBackend::Sqlite, "create index a on b (c)"),
            "create index a on b (c)"
        );
    }
}
