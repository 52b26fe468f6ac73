//! Databases for tests: each test gets fresh ones, on SQLite and, if `TEST_POSTGRES_URL` names a
//! server, on PostgreSQL. Both are copies of a migrated template, so that a test does not pay for the
//! migration. They vanish with their [`TestDatabase`].

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::PathBuf,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{Db, Options};

/// The environment variable that names the PostgreSQL server to test on.
pub const POSTGRES_URL: &str = "TEST_POSTGRES_URL";
/// Connections of one test's database; a server for tests has not many.
const OPTIONS: Options = Options { max_connections: 8 };

/// A fresh, migrated database of one test.
#[derive(Debug)]
pub struct TestDatabase {
    /// `sqlite` or `postgres`, for the text of failures.
    pub name: &'static str,
    /// Its address, for connecting once more.
    pub url: String,
    /// The connection.
    pub db: Db,
    _remains: Remains,
}

/// A fresh database of each kind that can be had here.
///
/// # Panics
/// When one cannot be made.
pub async fn databases() -> Vec<TestDatabase> {
    let mut databases = vec![sqlite().await];
    databases.extend(postgres().await);
    databases
}

/// A fresh SQLite file.
///
/// # Panics
/// When it cannot be made.
pub async fn sqlite() -> TestDatabase {
    static TEMPLATE: OnceCell<Vec<u8>> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(sqlite_template).await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("test.db");
    std::fs::write(&file, template).expect("the temporary folder is writable");
    let url = sqlite_url(&file);
    let db = Db::connect(&url, OPTIONS).await.expect("the copy opens");
    TestDatabase { name: "sqlite", url, db, _remains: Remains::Folder(folder) }
}

/// A fresh PostgreSQL database; without a server, says so on standard error and gives none.
///
/// # Panics
/// When there is a server and the database cannot be made.
pub async fn postgres() -> Option<TestDatabase> {
    static SKIPPED: Once = Once::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Ok(server) = std::env::var(POSTGRES_URL) else {
        // Past the test harness, which keeps what passing tests print to itself.
        SKIPPED.call_once(|| {
            let line = format!("SKIPPED postgres: {POSTGRES_URL} is not set\n");
            std::io::stderr().write_all(line.as_bytes()).ok();
        });
        return None;
    };
    let template = postgres_template(&server).await;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let database = format!("crownest_test_{}_{number}", std::process::id());
    let admin = admin(&server).await;
    // A process of the same number may have been killed before it could clean up.
    run(&admin, &format!("drop database if exists {database} with (force)")).await;
    run(&admin, &format!("create database {database} template {template}")).await;
    let url = with_database(&server, &database);
    let db = Db::connect(&url, OPTIONS).await.expect("the copy opens");
    Some(TestDatabase {
        name: "postgres",
        url,
        db,
        _remains: Remains::Database { server, database },
    })
}

/// What is removed when a test is over.
#[derive(Debug)]
enum Remains {
    Folder(#[expect(dead_code, reason = "removes the folder when it is dropped")] TempDir),
    Database { server: String, database: String },
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Self::Database { server, database } = self {
            let (server, drop) = (server.clone(), format!("drop database {database} with (force)"));
            // The test's own runtime is ending; its connections are cut by `force`.
            let removal = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime starts").block_on(async {
                    run(&admin(&server).await, &drop).await;
                });
            });
            removal.join().ok();
        }
    }
}

async fn sqlite_template() -> Vec<u8> {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("template.db");
    let db = Db::connect(&sqlite_url(&file), OPTIONS).await.expect("the template opens");
    db.migrate().await.expect("the template is migrated");
    // Everything must be in the file itself before it is copied.
    let checkpoint = "pragma wal_checkpoint(truncate)";
    db.write().execute_unprepared(checkpoint).await.expect("the template is written");
    db.close().await.expect("the template closes");
    std::fs::read(&file).expect("the template is readable")
}

fn sqlite_url(file: &std::path::Path) -> String {
    format!("sqlite://{}", PathBuf::from(file).display())
}

/// Makes the template once per schema and server, however many test processes start together.
async fn postgres_template(server: &str) -> String {
    static NAME: OnceCell<String> = OnceCell::const_new();
    NAME.get_or_init(async || {
        let mut hash = DefaultHasher::new();
        migrations::statements().hash(&mut hash);
        let name = format!("crownest_template_{:016x}", hash.finish());
        let admin = admin(server).await;
        // A session's lock; it goes with the connection, of which this pool has one.
        run(&admin, "select pg_advisory_lock(5211904713)").await;
        let sql = format!("select 1 as one from pg_database where datname = '{name}'");
        let statement = Statement::from_string(admin.get_database_backend(), sql);
        let exists = admin.query_one_raw(statement).await.expect("the server answers").is_some();
        if !exists {
            // Under another name until it is whole.
            run(&admin, &format!("drop database if exists {name}_new with (force)")).await;
            run(&admin, &format!("create database {name}_new template template0")).await;
            let url = with_database(server, &format!("{name}_new"));
            let db = Db::connect(&url, OPTIONS).await.expect("the template opens");
            db.migrate().await.expect("the template is migrated");
            db.close().await.expect("the template closes");
            run(&admin, &format!("alter database {name}_new rename to {name}")).await;
        }
        admin.close().await.ok();
        name
    })
    .await
    .clone()
}

async fn admin(server: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(server);
    options.max_connections(1).sqlx_logging(false);
    sea_orm::Database::connect(options).await.expect("the server of TEST_POSTGRES_URL answers")
}

async fn run(c: &DatabaseConnection, sql: &str) {
    c.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The server's address with another database.
fn with_database(server: &str, database: &str) -> String {
    let (address, parameters) =
        server.split_once('?').map_or((server, None), |(a, p)| (a, Some(p)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let parameters = parameters.map(|text| format!("?{text}")).unwrap_or_default();
    format!("{}/{database}{parameters}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_an_address_changes() {
        for (server, wanted) in [
            ("postgres://u:p@h:5/postgres", "postgres://u:p@h:5/x"),
            ("postgres://u@h", "postgres://u@h/x"),
            ("postgres:///postgres?host=/run/a", "postgres:///x?host=/run/a"),
        ] {
            assert_eq!(with_database(server, "x"), wanted, "{server}");
        }
    }
}
