//! The schema: migrated at the same time, and with the names that the code relies on.

use std::collections::BTreeSet;

use store::{Backend, ConnectionTrait, Db, Options};

use crate::fixtures::on_each;

async fn texts(db: &Db, sql: &str) -> BTreeSet<String> {
    let statement = sea_orm::Statement::from_string(db.read().get_database_backend(), sql);
    let rows = db.read().query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_number_of_processes_may_migrate_at_once() {
    for database in store::testing::databases().await {
        if database.db.backend() == Backend::Postgres {
            let empty = "drop schema public cascade; create schema public";
            database.db.write().execute_unprepared(empty).await.unwrap();
        }
        let url = database.url.replace("test.db", "folders/that/are/new/test.db");
        let connect = || async {
            let db = Db::connect(&url, Options { max_connections: 2 }).await.unwrap();
            db.migrate().await.unwrap();
            db.migrate().await.unwrap();
            db
        };
        let (a, b, c) = tokio::join!(connect(), connect(), connect());
        assert_eq!(texts(&a, "select slug from templates").await.len(), 4, "{}", database.name);
        for db in [a, b, c] {
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_unique_constraint_has_its_name_in_the_list() {
    on_each(async |db| {
        let list = migrations::constraints::UNIQUE;
        if db.backend() == Backend::Postgres {
            let sql =
                "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
                       where i.indisunique and not i.indisprimary
                         and c.relnamespace = 'public'::regnamespace";
            let wanted = list.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(texts(db, sql).await, wanted);
        } else {
            let sql = "select (select group_concat(m.name || '.' || c.name, ', ')
                               from pragma_index_info(i.name) c)
                       from sqlite_master m join pragma_index_list(m.name) i
                       where m.type = 'table' and i.\"unique\" and i.origin <> 'pk'";
            let wanted = list.iter().map(|(_, columns)| (*columns).to_owned()).collect();
            assert_eq!(texts(db, sql).await, wanted);
        }
    })
    .await;
}

#[tokio::test]
async fn tables_of_tenants_carry_the_organization() {
    on_each(async |db| {
        let (tables, with_org) = if db.backend() == Backend::Postgres {
            (
                "select table_name::text from information_schema.tables
                 where table_schema = 'public'",
                "select table_name::text from information_schema.columns
                 where table_schema = 'public' and column_name = 'org_id' and is_nullable = 'NO'",
            )
        } else {
            (
                "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'",
                "select m.name from sqlite_master m join pragma_table_info(m.name) c
                 where m.type = 'table' and c.name = 'org_id' and c.\"notnull\"",
            )
        };
        let without: BTreeSet<_> =
            texts(db, tables).await.difference(&texts(db, with_org).await).cloned().collect();
        let installation = [
            "admin_keys",
            "organizations",
            "outbox_partitions",
            "pricing_versions",
            "seaql_migrations",
            "signing_keys",
            "template_versions",
            "templates",
        ];
        assert_eq!(without, installation.map(str::to_owned).into());
    })
    .await;
}
