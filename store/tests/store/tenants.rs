//! Organizations, users, projects, keys, templates and signing keys.

use domain::{
    id::{OrganizationId, SigningKeyId, TemplateVersionId},
    limits::Plan,
    organization::Standing,
    scope::{Scope, ScopeSet},
};
use store::{
    ConnectionTrait, PageRequest, api_keys, organizations,
    signing_keys::{self, SigningKey},
    templates, users,
};

use crate::fixtures::{Tenant, at, base, everyone, key, micros, on_each};

#[tokio::test]
async fn what_is_written_is_read() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        assert_eq!(organizations::get(db.read(), acme.org.id).await.unwrap(), acme.org);
        let found = organizations::find_by_name(db.read(), "acme").await.unwrap();
        assert_eq!(found, Some(acme.org.clone()));
        assert_eq!(organizations::find_by_name(db.read(), "none").await.unwrap(), None);
        let found = users::find_by_email(db.read(), acme.org.id, "dev@acme.test").await.unwrap();
        assert_eq!(found, Some(acme.user.clone()));
        assert_eq!(users::get(db.read(), acme.org.id, acme.user.id).await.unwrap(), acme.user);
        let projects = store::projects(acme.reach());
        assert_eq!(projects.get(db.read(), acme.other.id).await.unwrap(), acme.other);
        assert_eq!(projects.default(db.read()).await.unwrap(), acme.project);
        let found = projects.find_by_name(db.read(), "other").await.unwrap();
        assert_eq!(found, Some(acme.other.clone()));
        let keys = store::api_keys(acme.reach());
        assert_eq!(keys.get(db.read(), acme.key.id).await.unwrap(), acme.key);
    })
    .await;
}

#[tokio::test]
async fn a_restricted_reach_defaults_to_its_first_project() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let projects = store::projects(acme.only(&acme.other));
        assert_eq!(projects.default(db.read()).await.unwrap(), acme.other);
        let none = store::projects(store::Scope::org(acme.org.id, Some(Vec::new())));
        assert!(none.default(db.read()).await.is_err());
        let page = PageRequest { limit: 10, after: None };
        assert_eq!(none.list(db.read(), page).await.unwrap().items, []);
    })
    .await;
}

#[tokio::test]
async fn a_plan_that_this_version_does_not_know_is_the_free_one() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        organizations::set_plan(db.write(), acme.org.id, Plan::Enterprise, None).await.unwrap();
        let read = async || organizations::get(db.read(), acme.org.id).await.unwrap().plan;
        assert_eq!(read().await, Plan::Enterprise);
        // A newer version may widen the check before this one is replaced.
        let newer = "update organizations set plan = 'galactic'";
        db.write().execute_unprepared(newer).await.unwrap();
        assert_eq!(read().await, Plan::Free);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_found_with_its_organization() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let suspended = Standing::Suspended { since: at(5), reason: "unpaid".to_owned() };
        let set = organizations::set_standing(db.write(), acme.org.id, &suspended, Some(at(9)));
        set.await.unwrap();
        let found = api_keys::by_lookup(db.read(), &acme.key.lookup).await.unwrap().unwrap();
        assert_eq!((&found.key, found.secret_hash.as_str()), (&acme.key, "hash"));
        assert_eq!(found.organization.standing, suspended);
        assert_eq!(found.organization.cleanup_at, Some(at(9)));
        assert_eq!(found.organization.name, "acme");
        assert!(!format!("{found:?}").contains("hash"), "the hash is not for logs");
        assert!(api_keys::by_lookup(db.read(), "unknown000").await.unwrap().is_none());
        let active = &Standing::Active;
        organizations::set_standing(db.write(), acme.org.id, active, None).await.unwrap();
        let found = api_keys::by_lookup(db.read(), &acme.key.lookup).await.unwrap().unwrap();
        assert_eq!((&found.organization.standing, found.organization.cleanup_at), (active, None));
        let unknown = OrganizationId::generate(at(0));
        let set = organizations::set_standing(db.write(), unknown, active, None).await;
        assert!(matches!(set, Err(store::Error::Missing("organization"))));
    })
    .await;
}

#[tokio::test]
async fn scopes_and_projects_of_a_key_are_kept() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let mut narrow = key(&acme.user, "narrow0000");
        narrow.scopes = [Scope::SandboxRead, Scope::CommandRead].into_iter().collect::<ScopeSet>();
        narrow.project_ids = Some(vec![acme.other.id, acme.project.id]);
        let tx = db.begin().await.unwrap();
        store::api_keys(acme.reach()).insert(&tx, &narrow, "h").await.unwrap();
        tx.commit().await.unwrap();
        let read = store::api_keys(acme.reach()).get(db.read(), narrow.id).await.unwrap();
        assert_eq!(read, narrow);
    })
    .await;
}

#[tokio::test]
async fn revoking_again_keeps_the_first_instant() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let keys = store::api_keys(acme.reach());
        let tx = db.begin().await.unwrap();
        assert_eq!(keys.revoke(&tx, acme.key.id, at(5)).await.unwrap().revoked_at, Some(at(5)));
        assert_eq!(keys.revoke(&tx, acme.key.id, at(9)).await.unwrap().revoked_at, Some(at(5)));
        tx.commit().await.unwrap();
        let listed = keys.list(db.read(), PageRequest { limit: 10, after: None }).await.unwrap();
        assert_eq!(listed.items.len(), 1, "revoked keys are listed");
    })
    .await;
}

#[tokio::test]
async fn last_use_is_written_for_many_keys_and_never_goes_back() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let second = key(&acme.user, "second0000");
        let tx = db.begin().await.unwrap();
        store::api_keys(acme.reach()).insert(&tx, &second, "h").await.unwrap();
        tx.commit().await.unwrap();
        let late = at(60) + micros(7);
        let touched = [(acme.key.id, late), (second.id, at(50))];
        api_keys::touch(db.write(), &touched).await.unwrap();
        api_keys::touch(db.write(), &[(acme.key.id, at(40))]).await.unwrap();
        api_keys::touch(db.write(), &[]).await.unwrap();
        let keys = store::api_keys(everyone());
        let used = async |id| keys.get(db.read(), id).await.unwrap().last_used_at;
        assert_eq!(used(acme.key.id).await, Some(late));
        assert_eq!(used(second.id).await, Some(at(50)));
    })
    .await;
}

#[tokio::test]
async fn every_installation_has_the_four_templates_with_fixed_ids() {
    on_each(async |db| {
        assert_eq!(templates::latest(db.read(), "base").await.unwrap(), Some(base()));
        assert_eq!(
            templates::version(db.read(), base().id).await.unwrap().map(|found| found.version),
            Some(base())
        );
        for slug in ["python", "node", "python-node"] {
            let version = templates::latest(db.read(), slug).await.unwrap().unwrap();
            assert_eq!((version.slug.as_str(), version.version.as_str()), (slug, "1.0.0"));
        }
        for unknown in ["ruby", "", "ba\0se"] {
            assert_eq!(templates::latest(db.read(), unknown).await.unwrap(), None);
        }
        let unknown = TemplateVersionId::generate(at(0));
        assert_eq!(templates::version(db.read(), unknown).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn the_newest_signing_key_signs_and_retired_ones_still_verify() {
    on_each(async |db| {
        assert_eq!(signing_keys::current(db.read()).await.unwrap(), None);
        let key = |seconds, retired_at| SigningKey {
            id: SigningKeyId::generate(at(seconds)),
            secret: vec![0, 255, 7],
            created_at: at(seconds),
            retired_at,
        };
        let (old, new, retired) = (key(1, None), key(2, None), key(3, Some(at(4))));
        for key in [&new, &retired, &old] {
            signing_keys::insert(db.write(), key).await.unwrap();
        }
        assert_eq!(signing_keys::current(db.read()).await.unwrap(), Some(new));
        assert_eq!(signing_keys::get(db.read(), retired.id).await.unwrap(), Some(retired.clone()));
        assert!(!format!("{retired:?}").contains("255"), "the secret is not for logs");
    })
    .await;
}
