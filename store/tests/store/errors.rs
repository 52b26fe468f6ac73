//! What each kind of failure is called, on both databases alike.

use domain::{id::ApiKeyId, organization::Organization, sandbox::Sandbox};
use store::{ConnectionTrait, Db, Error, PageRequest, organizations, users};

use crate::fixtures::{Tenant, append, at, everyone, key, on_each, out, running};

async fn edit(db: &Db, sql: &str) {
    db.write().execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn what_is_taken_is_called_by_the_name_of_its_constraint() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let mut taken = Vec::new();
        let mut note = |result: Result<(), Error>| match result {
            Err(Error::Taken(constraint)) => taken.push(constraint),
            other => panic!("{other:?}"),
        };
        let second = domain::id::OrganizationId::generate(at(0));
        let organization = Organization { id: second, ..acme.org.clone() };
        note(organizations::insert(db.write(), &organization).await);
        let mut user = acme.user.clone();
        user.id = domain::id::UserId::generate(at(0));
        note(users::insert(db.write(), &user).await);
        let mut project = acme.project.clone();
        project.id = domain::id::ProjectId::generate(at(0));
        let tx = db.begin().await.unwrap();
        note(store::projects(acme.reach()).insert(&tx, &project).await);
        drop(tx);
        let same_lookup = key(&acme.user, &acme.key.lookup);
        let tx = db.begin().await.unwrap();
        note(store::api_keys(acme.reach()).insert(&tx, &same_lookup, "h").await);
        assert_eq!(
            taken,
            [
                "organizations_name_key",
                "users_email_key",
                "projects_one_default_per_org",
                "api_keys_lookup_key"
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn what_points_nowhere_is_missing() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = Sandbox { created_by: ApiKeyId::generate(at(0)), ..acme.sandbox() };
        let tx = db.begin().await.unwrap();
        let inserted = store::sandboxes(acme.reach()).insert(&tx, &sandbox, None).await;
        assert!(matches!(inserted, Err(Error::Missing(_))), "{inserted:?}");
    })
    .await;
}

#[tokio::test]
async fn what_breaks_a_check_is_corrupt() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let sandbox = Sandbox { ttl_ms: 0, ..acme.sandbox() };
        let tx = db.begin().await.unwrap();
        let inserted = store::sandboxes(acme.reach()).insert(&tx, &sandbox, None).await;
        assert!(matches!(inserted, Err(Error::Corrupt(_))), "{inserted:?}");
    })
    .await;
}

#[tokio::test]
async fn a_row_that_does_not_parse_is_corrupt_and_no_panic() {
    on_each(async |db| {
        let command = running(db).await;
        append(db, &command, &[out(1, "x")]).await;
        let sandboxes = store::sandboxes(everyone());
        let keys = store::api_keys(everyone());
        let sandbox = command.sandbox_id;
        let page = PageRequest { limit: 1, after: None };
        let corrupt = async |sql: &str, what: &str| {
            edit(db, sql).await;
            let result = match what {
                "sandbox" => sandboxes.get(db.read(), sandbox).await.map(|_| ()),
                "key" => keys.list(db.read(), page).await.map(|_| ()),
                "command" => {
                    store::commands(everyone()).get(db.read(), command.id).await.map(|_| ())
                }
                _ => {
                    store::commands(everyone()).logs(db.read(), command.id, 0, 9).await.map(|_| ())
                }
            };
            assert!(matches!(result, Err(Error::Corrupt(_))), "{sql}: {result:?}");
        };
        let far = i64::MAX;
        corrupt("update sandboxes set metadata = '{'", "sandbox").await;
        corrupt("update sandboxes set metadata = '{\"a b\":\"\"}'", "sandbox").await;
        edit(db, "update sandboxes set metadata = '{}'").await;
        corrupt(&format!("update sandboxes set expires_at = {far}"), "sandbox").await;
        corrupt("update api_keys set scopes = '[\"sandbox:fly\"]'", "key").await;
        corrupt("update api_keys set scopes = '{}'", "key").await;
        edit(db, "update api_keys set scopes = '[]'").await;
        corrupt("update api_keys set project_ids = '[\"prj_1\"]'", "key").await;
        corrupt("update commands set timeout_ms = -1", "command").await;
        edit(db, "update commands set timeout_ms = null").await;
        corrupt("update commands set exit_code = 5000000000", "command").await;
        corrupt(&format!("update command_logs set created_at = {far}"), "log").await;
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_gone_is_unavailable() {
    on_each(async |db| {
        db.clone().close().await.unwrap();
        assert!(matches!(db.ping().await, Err(Error::Unavailable(_))));
        assert!(matches!(db.begin().await.map(|_| ()), Err(Error::Unavailable(_))));
    })
    .await;
}
