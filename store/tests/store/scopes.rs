//! Tenants stay apart: what is not within reach is missing, whatever is asked of it.

use domain::{command::Status, sandbox::Sandbox};
use store::{
    Db, Error, PageRequest, Reach,
    audit::Chain,
    billing::Lock,
    sandboxes::SandboxFilter,
    usage::{Metric, UsageRecord, UsageRecordId},
};

use crate::fixtures::{Tenant, append, at, command, exited, inline, on_each, out, put_command};

const PAGE: PageRequest = PageRequest { limit: 10, after: None };

struct Scene {
    acme: Tenant,
    stranger: Tenant,
    sandbox: Sandbox,
    strangers: [(Reach, &'static str); 3],
}

impl Scene {
    async fn new(db: &Db) -> Self {
        let (acme, stranger) = (Tenant::new(db, "acme").await, Tenant::new(db, "other").await);
        let sandbox = acme.stored(db).await;
        let strangers = [
            (stranger.reach(), "another organization"),
            (acme.only(&acme.other), "another project"),
            (store::Scope::org(acme.org.id, Some(Vec::new())), "no project at all"),
        ];
        Self { acme, stranger, sandbox, strangers }
    }
}

#[tokio::test]
async fn sandboxes_of_others_are_invisible() {
    on_each(async |db| {
        let Scene { acme, stranger, sandbox, strangers } = Scene::new(db).await;
        let filter = SandboxFilter {
            project: None,
            status: None,
            host: None,
            template: None,
            include_historical: true,
            metadata: Vec::new(),
            now: at(10),
        };
        for (reach, who) in strangers {
            let theirs = store::sandboxes(reach);
            let got = theirs.get(db.read(), sandbox.id).await;
            assert!(matches!(got, Err(Error::Missing("sandbox"))), "{who}");
            assert_eq!(theirs.list(db.read(), &filter, PAGE).await.unwrap().items, [], "{who}");
            let asked = SandboxFilter { project: Some(acme.project.id), ..filter.clone() };
            assert_eq!(theirs.list(db.read(), &asked, PAGE).await.unwrap().items, [], "{who}");
            theirs.touch_activity(db.write(), sandbox.id, at(99)).await.unwrap();
            let noted = theirs.note_failure(db.write(), sandbox.id, "x").await;
            assert!(matches!(noted, Err(Error::Missing(_))), "{who}");
            theirs.reschedule(db.write(), &sandbox, Some(at(1))).await.unwrap();
            let tx = db.begin().await.unwrap();
            assert!(matches!(theirs.hold(&tx, sandbox.id).await, Err(Error::Missing(_))), "{who}");
            let updated = theirs.update(&tx, &sandbox, None).await;
            assert!(matches!(updated, Err(Error::Stale)), "{who}");
            let inserted = theirs.insert(&tx, &acme.sandbox(), None).await;
            assert!(matches!(inserted, Err(Error::Missing(_))), "{who}");
        }
        let quota =
            async |reach| store::sandboxes(reach).count_live(db.read(), acme.org.id).await.unwrap();
        assert_eq!(quota(stranger.reach()).await, 0);
        assert_eq!(quota(acme.only(&acme.other)).await, 1, "a quota is the organization's");
        let ours = store::sandboxes(acme.only(&acme.project));
        assert_eq!(ours.get(db.read(), sandbox.id).await.unwrap(), sandbox, "nothing was touched");
        let everyone = store::sandboxes(crate::fixtures::everyone());
        assert_eq!(everyone.next_due(db.read(), &sandbox.host).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn commands_of_others_are_invisible() {
    on_each(async |db| {
        let Scene { acme, sandbox, strangers, .. } = Scene::new(db).await;
        let command = command(&sandbox);
        put_command(db, &command).await;
        append(db, &command, &[out(1, "secret")]).await;
        for (reach, who) in strangers {
            let theirs = store::commands(reach);
            let got = theirs.get(db.read(), command.id).await;
            assert!(matches!(got, Err(Error::Missing("command"))), "{who}");
            assert_eq!(theirs.active_of(db.read(), sandbox.id).await.unwrap(), [], "{who}");
            assert_eq!(theirs.logs(db.read(), command.id, 0, 10).await.unwrap(), [], "{who}");
            assert!(matches!(theirs.heads(db.read(), command.id).await, Err(Error::Missing(_))));
            let from = [Status::Running];
            let marked = theirs.mark(db.write(), command.id, &from, Status::Starting, None).await;
            assert!(!marked.unwrap(), "{who}");
            theirs.renew(db.write(), &[command.id], at(999)).await.unwrap();
            let tx = db.begin().await.unwrap();
            let appended = theirs.append_logs(&tx, command.id, &[out(2, "x")]).await;
            assert!(matches!(appended, Err(Error::Missing(_))), "{who}");
            let evicted = theirs.evict_logs(&tx, command.id, 0).await;
            assert!(matches!(evicted, Err(Error::Missing(_))), "{who}");
            let saved = theirs.save_heads(&tx, command.id, &inline(""), &inline("")).await;
            assert!(matches!(saved, Err(Error::Missing(_))), "{who}");
            assert!(!theirs.finish(&tx, command.id, &exited("")).await.unwrap(), "{who}");
            assert_eq!(theirs.kill_of_sandbox(&tx, sandbox.id, at(9)).await.unwrap(), [], "{who}");
            assert!(matches!(
                theirs.insert(&tx, &command, None, at(9)).await,
                Err(Error::Missing(_))
            ));
        }
        let ours = store::commands(acme.only(&acme.project));
        assert_eq!(ours.get(db.read(), command.id).await.unwrap().status, Status::Running);
        assert_eq!(ours.logs(db.read(), command.id, 0, 10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn projects_and_keys_of_others_are_invisible() {
    on_each(async |db| {
        let (acme, other) = (Tenant::new(db, "acme").await, Tenant::new(db, "other").await);
        let projects = store::projects(other.reach());
        assert!(matches!(projects.get(db.read(), acme.project.id).await, Err(Error::Missing(_))));
        assert_eq!(projects.list(db.read(), PAGE).await.unwrap().items.len(), 2);
        let restricted = store::projects(acme.only(&acme.other));
        let listed = restricted.list(db.read(), PAGE).await.unwrap().items;
        assert_eq!(listed, std::slice::from_ref(&acme.other));
        let keys = store::api_keys(other.reach());
        assert!(matches!(keys.get(db.read(), acme.key.id).await, Err(Error::Missing(_))));
        let listed = keys.list(db.read(), PAGE).await.unwrap().items;
        assert_eq!(listed, std::slice::from_ref(&other.key));
        let tx = db.begin().await.unwrap();
        assert!(matches!(keys.revoke(&tx, acme.key.id, at(1)).await, Err(Error::Missing(_))));
        assert!(matches!(keys.insert(&tx, &acme.key, "h").await, Err(Error::Missing(_))));
        assert!(matches!(projects.insert(&tx, &acme.project).await, Err(Error::Missing(_))));
        drop(tx);
        let kept = store::api_keys(acme.reach()).get(db.read(), acme.key.id).await.unwrap();
        assert_eq!(kept.revoked_at, None);
    })
    .await;
}

#[tokio::test]
async fn usage_of_others_is_invisible() {
    on_each(async |db| {
        let Scene { acme, sandbox, strangers, .. } = Scene::new(db).await;
        let record = UsageRecord {
            id: UsageRecordId::generate(at(1)),
            org_id: acme.org.id,
            project_id: acme.project.id,
            sandbox_id: sandbox.id,
            metric: Metric::SandboxCreates,
            resource_id: sandbox.id.to_string(),
            amount: 1,
            at: at(1),
        };
        let tx = db.begin().await.unwrap();
        store::meters::open(&tx, &sandbox, at(1), 1000).await.unwrap();
        store::usage(acme.reach()).record(&tx, &record).await.unwrap();
        tx.commit().await.unwrap();
        let orgs = [acme.org.id];
        for (reach, who) in strangers {
            let theirs = store::usage(reach.clone());
            let meters = store::billing(reach).unsettled_meters(db.read(), &orgs, Lock::Look).await;
            assert_eq!(meters.unwrap(), [], "{who}");
            assert_eq!(theirs.recent(db.read(), 10).await.unwrap(), [], "{who}");
            let tx = db.begin().await.unwrap();
            assert!(matches!(theirs.record(&tx, &record).await, Err(Error::Missing(_))), "{who}");
        }
        let ours = store::usage(acme.only(&acme.project));
        let meters = store::billing(acme.only(&acme.project));
        let meters = meters.unsettled_meters(db.read(), &orgs, Lock::Look).await;
        assert_eq!(meters.unwrap().len(), 1);
        assert_eq!(ours.recent(db.read(), 10).await.unwrap(), [record]);
    })
    .await;
}

#[tokio::test]
async fn the_schema_itself_ties_no_two_tenants_together() {
    on_each(async |db| {
        let (acme, other) = (Tenant::new(db, "acme").await, Tenant::new(db, "other").await);
        let everyone = crate::fixtures::everyone;
        let theirs = Sandbox { project_id: other.project.id, ..acme.sandbox() };
        let tx = db.begin().await.unwrap();
        let inserted = store::sandboxes(everyone()).insert(&tx, &theirs, None).await;
        assert!(matches!(inserted, Err(Error::Missing(_))), "{inserted:?}");
        drop(tx);
        let sandbox = acme.stored(db).await;
        let mut command = command(&sandbox);
        command.org_id = other.org.id;
        command.project_id = other.project.id;
        let tx = db.begin().await.unwrap();
        let inserted = store::commands(everyone()).insert(&tx, &command, None, at(9)).await;
        assert!(matches!(inserted, Err(Error::Missing(_))), "{inserted:?}");
    })
    .await;
}

#[tokio::test]
async fn no_tenant_reaches_the_trail_of_the_installation() {
    on_each(async |db| {
        let acme = Tenant::new(db, "acme").await;
        let (everyone, theirs) =
            (store::audit(store::Everyone::for_worker("test")), store::audit(acme.reach()));
        let tx = db.begin().await.unwrap();
        everyone.hold_chain(&tx, Chain::Installation, b"x").await.unwrap();
        let held = theirs.hold_chain(&tx, Chain::Installation, b"x").await;
        assert!(matches!(held, Err(Error::Missing("chain"))));
        tx.commit().await.unwrap();
        assert!(everyone.chain_end(db.read(), Chain::Installation).await.unwrap().is_some());
        assert_eq!(theirs.chain_end(db.read(), Chain::Installation).await.unwrap(), None);
    })
    .await;
}
