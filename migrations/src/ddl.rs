//! Runs schema statements: one text serves both databases. Conventions of all tables: ids are bare
//! UUIDs; instants are microseconds since the epoch, UTC, in a bigint; exact quantities are bigints;
//! enums and JSON are text; time never comes from the database.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

/// PostgreSQL's words, and what SQLite calls the same. The types are those of STRICT tables: without
/// STRICT, SQLite would take a text where an integer belongs and say nothing.
///
/// `desc nulls last` marks the indexes that lists are read from, newest first. Lists ask for their
/// ids in this order; no null is among them, but for PostgreSQL the primary key has another order
/// then. Else it may read that key backwards, and to its end for an organization that has been idle
/// for long. SQLite has no such order in an index and needs none.
const WORDS: [(&str, &str); 6] = [
    // A number that rises with every row.
    (" bigint generated always as identity primary key", " integer primary key autoincrement"),
    (" uuid", " blob"),
    (" bytea", " blob"),
    (" bigint", " integer"),
    (" boolean", " integer"),
    (" desc nulls last", " desc"),
];

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
    for (postgres, sqlite) in WORDS {
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
    fn only_sqlite_reads_other_words() {
        for (postgres, sqlite) in [
            (
                "create table a (id uuid not null, at bigint, b boolean, data bytea, t text)",
                "create table a (id blob not null, at integer, b integer, data blob, t text) strict",
            ),
            ("create index a on b (c, d desc nulls last)", "create index a on b (c, d desc)"),
            ("create index a on b (c)", "create index a on b (c)"),
        ] {
            assert_eq!(translate(DbBackend::Postgres, postgres), postgres);
            assert_eq!(translate(DbBackend::Sqlite, postgres), sqlite);
        }
    }
}
